#!/usr/bin/env python3
"""transformers_check.py CUDA_LOGITS: tiny random models in Hugging Face transformers and in og-node.

Rule: the error of og-node's logits against transformers in fp32 is at most 1.25 times that of
transformers in bf16 with the same weights, both as relative L2. Exits 77 without torch or a device.
"""

import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "configs", "demo"))
import gguf  # noqa: E402

try:
    import torch
    import transformers
except ImportError as e:
    print(f"skipped: {e}")
    sys.exit(77)

TOKENS = 300
RATIO_MAX = 1.25


def interleave(w, heads):
    """Rows of q and k as GGUF's llama has them: a rotated pair side by side."""
    return w.view(heads, 2, w.shape[0] // heads // 2, -1).transpose(1, 2).reshape(w.shape)


def tensors_of(model, arch, heads, kv_heads):
    """(name, shape, type, bytes) of each tensor: matrices in bf16, vectors in f32."""
    names = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    out = []
    for name, w in sorted(model.state_dict().items()):
        w = w.detach().float().cpu()
        kind = name.rsplit(".", 1)[1]
        if name == "model.embed_tokens.weight":
            name = "token_embd.weight"
        elif name == "model.norm.weight":
            name = "output_norm.weight"
        elif name == "lm_head.weight":
            name = "output.weight"
        else:
            _, _, layer, part = name.rsplit(".", 1)[0].split(".", 3)
            if arch == "llama" and part == "self_attn.q_proj":
                w = interleave(w, heads)
            if arch == "llama" and part == "self_attn.k_proj":
                w = interleave(w, kv_heads)
            name = f"blk.{layer}.{names[part]}.{kind}"
        if w.dim() == 1:
            out.append((name, tuple(w.shape), gguf.GGML_F32, w.contiguous().numpy().tobytes()))
        else:
            raw = w.to(torch.bfloat16).contiguous().view(torch.int16).numpy().tobytes()
            out.append((name, tuple(w.shape), gguf.GGML_BF16, raw))
    return out


def write_gguf(path, model, arch, c):
    dim = c.hidden_size // c.num_attention_heads
    metadata = {
        "general.architecture": gguf.string(arch),
        f"{arch}.context_length": gguf.u32(c.max_position_embeddings),
        f"{arch}.embedding_length": gguf.u32(c.hidden_size),
        f"{arch}.block_count": gguf.u32(c.num_hidden_layers),
        f"{arch}.feed_forward_length": gguf.u32(c.intermediate_size),
        f"{arch}.attention.head_count": gguf.u32(c.num_attention_heads),
        f"{arch}.attention.head_count_kv": gguf.u32(c.num_key_value_heads),
        f"{arch}.attention.layer_norm_rms_epsilon": gguf.f32(c.rms_norm_eps),
        f"{arch}.rope.dimension_count": gguf.u32(dim),
        f"{arch}.rope.freq_base": gguf.f32(10000.0),
        f"{arch}.vocab_size": gguf.u32(c.vocab_size),
    }
    gguf.write(path, metadata, tensors_of(model, arch, c.num_attention_heads, c.num_key_value_heads))


def make(arch, heads, kv_heads, dim):
    kind = {"llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
            "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM)}[arch]
    c = kind[0](vocab_size=512, hidden_size=heads * dim, intermediate_size=320, num_hidden_layers=4,
                num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=1024,
                rms_norm_eps=1e-5, tie_word_embeddings=False, attn_implementation="eager")
    torch.manual_seed(heads * dim)
    model = kind[1](c).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            # Spread logits: flat ones would hide errors. What bf16 can hold, so that all have the same.
            scale = 0.3 if p.dim() == 1 else 1.5 / p.shape[1] ** 0.5
            p.copy_((torch.randn_like(p) * scale + (1.0 if "norm" in name else 0.0)).bfloat16().float())
    return c, model


def error(got, want):
    return float((got.double() - want.double()).norm() / want.double().norm())


def check(tool, how, arch, heads, kv_heads, dim, folder):
    c, model = make(arch, heads, kv_heads, dim)
    ids = torch.randint(0, c.vocab_size, (1, TOKENS), generator=torch.Generator().manual_seed(1))
    path, ids_path, out = (os.path.join(folder, n) for n in ("m.gguf", "ids", "out"))
    write_gguf(path, model, arch, c)
    with open(ids_path, "wb") as f:
        f.write(ids.to(torch.int32).numpy().tobytes())
    done = subprocess.run([tool, how, path, ids_path, out], check=False)
    if done.returncode:
        sys.exit(done.returncode)
    with open(out, "rb") as f:
        got = torch.frombuffer(bytearray(f.read()), dtype=torch.float32).view(TOKENS, c.vocab_size)
    with torch.no_grad():
        want = model(ids).logits[0].float()
        device = "cuda" if torch.cuda.is_available() else "cpu"
        low = model.to(device).bfloat16()(ids.to(device)).logits[0].float().cpu()
    ours, theirs = error(got, want), error(low, want)
    top = float((got.argmax(-1) == want.argmax(-1)).float().mean())
    good = ours <= RATIO_MAX * theirs
    print(f"{'ok  ' if good else 'FAIL'}: {arch}, heads {heads}/{kv_heads} of {dim}: error {ours:.3g}, "
          f"transformers' own in bf16 {theirs:.3g}, top token equal {100 * top:.1f}%")
    return good


def main():
    tool, how = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "cuda"
    torch.backends.cuda.matmul.allow_tf32 = False
    cases = [("llama", 4, 2, 64), ("llama", 4, 1, 128), ("qwen2", 8, 2, 32), ("qwen2", 14, 2, 64)]
    with tempfile.TemporaryDirectory() as folder:
        good = [check(tool, how, *case, folder) for case in cases]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
