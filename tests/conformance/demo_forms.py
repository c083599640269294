#!/usr/bin/env python3
"""demo_forms.py: the demo model in other forms, for tests.

    demo_forms.py folder DEMO.gguf OUT    as Hugging Face publishes models: config.json,
                                          tokenizer.json, tokenizer_config.json, safetensors
    demo_forms.py broken DEMO.gguf OUT    a GGUF file whose headers are right and whose weights are
                                          refused when they arrive: a rope factor is no positive number
"""

import json
import os
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../configs/demo"))
import gguf

CONTROL = 3
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def rows_in_halves(raw, nb_rows, head_dim):
    """GGUF of this family keeps the two rows that rotate together side by side; folders do not."""
    size, half = len(raw) // nb_rows, head_dim // 2
    rows = [raw[i * size : (i + 1) * size] for i in range(nb_rows)]
    return b"".join(
        rows[first + 2 * j + which]
        for first in range(0, nb_rows, head_dim) for which in (0, 1) for j in range(half)
    )


def folder_name(name):
    if name == "token_embd.weight":
        return "model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.norm.weight"
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{NAMES[part]}.weight"


def write_safetensors(path, tensors, head_dim):
    header, data = {}, b""
    for name, (shape, kind, raw) in tensors.items():
        if ".attn_q." in name or ".attn_k." in name:
            raw = rows_in_halves(raw, shape[0], head_dim)
        header[folder_name(name)] = {
            "dtype": "BF16" if kind == gguf.GGML_BF16 else "F32", "shape": shape,
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + data)


def config_of(m):
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"],
        "hidden_size": m["llama.embedding_length"],
        "intermediate_size": m["llama.feed_forward_length"],
        "num_hidden_layers": m["llama.block_count"],
        "num_attention_heads": m["llama.attention.head_count"],
        "num_key_value_heads": m["llama.attention.head_count_kv"],
        "head_dim": m["llama.attention.key_length"],
        "rms_norm_eps": m["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": m["llama.rope.freq_base"], "vocab_size": m["llama.vocab_size"],
        "max_position_embeddings": m["llama.context_length"], "tie_word_embeddings": True,
        "hidden_act": "silu", "eos_token_id": m["tokenizer.ggml.eos_token_id"],
        "bos_token_id": m["tokenizer.ggml.bos_token_id"], "torch_dtype": "bfloat16",
    }


def tokenizer_of(m):
    tokens, types = m["tokenizer.ggml.tokens"], m["tokenizer.ggml.token_type"]
    controls = [i for i, kind in enumerate(types) if kind == CONTROL]
    return {
        "version": "1.0",
        "added_tokens": [{
            "id": i, "content": tokens[i], "single_word": False, "lstrip": False,
            "rstrip": False, "normalized": False, "special": True,
        } for i in controls],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated",
             "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
             "use_regex": False},
        ]},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False,
                    "use_regex": False},
        "model": {
            "type": "BPE", "byte_fallback": False, "fuse_unk": False, "unk_token": None,
            "vocab": {t: i for i, t in enumerate(tokens) if i not in controls},
            "merges": m["tokenizer.ggml.merges"],
        },
    }


def write_folder(metadata, tensors, out):
    tokens = metadata["tokenizer.ggml.tokens"]
    os.makedirs(out, exist_ok=True)
    write_safetensors(os.path.join(out, "model.safetensors"), tensors,
                      metadata["llama.attention.key_length"])
    for name, content in {
        "config.json": config_of(metadata),
        "tokenizer.json": tokenizer_of(metadata),
        "tokenizer_config.json": {
            "chat_template": metadata["tokenizer.chat_template"],
            "bos_token": tokens[metadata["tokenizer.ggml.bos_token_id"]],
            "eos_token": tokens[metadata["tokenizer.ggml.eos_token_id"]],
            "add_bos_token": False,
        },
    }.items():
        with open(os.path.join(out, name), "w") as f:
            json.dump(content, f)


def packed(value):
    if isinstance(value, bool):
        return gguf.boolean(value)
    if isinstance(value, int):
        return gguf.u32(value)
    if isinstance(value, float):
        return gguf.f32(value)
    if isinstance(value, str):
        return gguf.string(value)
    return gguf.strings(value) if isinstance(value[0], str) else gguf.i32s(value)


def write_broken(metadata, tensors, out):
    half = metadata["llama.rope.dimension_count"] // 2
    factors = ("rope_freqs.weight", [half], gguf.GGML_F32, bytes(4 * half))
    gguf.write(out, {k: packed(v) for k, v in metadata.items()},
               [(n, *t) for n, t in tensors.items()] + [factors])


def main():
    forms = {"folder": write_folder, "broken": write_broken}
    if len(sys.argv) != 4 or sys.argv[1] not in forms:
        sys.exit(__doc__)
    forms[sys.argv[1]](*gguf.read(sys.argv[2]), sys.argv[3])


main()
