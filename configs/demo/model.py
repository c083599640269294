"""The Llama architecture at toy size: RMSNorm, rotary pairs, grouped queries, SwiGLU, tied head."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F

import gguf
from bpe import PRE, SPECIALS
from tasks import CHAT_TEMPLATE

WIDTH, LAYERS, HEADS, KV_HEADS, HEAD_WIDTH, HIDDEN = 128, 5, 4, 2, 32, 384
CONTEXT, ROPE_BASE, EPSILON = 512, 10000.0, 1e-5


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * self.weight


def rotary_table(positions):
    rates = ROPE_BASE ** (-torch.arange(0, HEAD_WIDTH, 2).float() / HEAD_WIDTH)
    angles = torch.outer(torch.arange(positions).float(), rates)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    """Turn the pairs (0,1), (2,3), …: the layout GGUF's `llama` expects, so nothing is permuted."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        kv_width = KV_HEADS * HEAD_WIDTH
        self.attn_norm, self.ffn_norm = Norm(), Norm()
        self.q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.k = nn.Linear(WIDTH, kv_width, bias=False)
        self.v = nn.Linear(WIDTH, kv_width, bias=False)
        self.o = nn.Linear(WIDTH, WIDTH, bias=False)
        self.gate = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.up = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def attend(self, x, cos, sin, mask):
        batch, length, _ = x.shape
        group = HEADS // KV_HEADS
        q = rotate(self.q(x).view(batch, length, HEADS, HEAD_WIDTH).transpose(1, 2), cos, sin)
        k = rotate(self.k(x).view(batch, length, KV_HEADS, HEAD_WIDTH).transpose(1, 2), cos, sin)
        v = self.v(x).view(batch, length, KV_HEADS, HEAD_WIDTH).transpose(1, 2)
        # The query heads of one group are stacked as rows against their shared keys.
        q = q.reshape(batch * KV_HEADS, group * length, HEAD_WIDTH)
        k, v = (t.reshape(batch * KV_HEADS, length, HEAD_WIDTH) for t in (k, v))
        scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=1 / math.sqrt(HEAD_WIDTH))
        mixed = torch.bmm(scores.softmax(-1), v).view(batch, HEADS, length, HEAD_WIDTH)
        return self.o(mixed.transpose(1, 2).reshape(batch, length, WIDTH))

    def forward(self, x, cos, sin, mask):
        x = x + self.attend(self.attn_norm(x), cos, sin, mask)
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self, vocabulary):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = Norm()
        cos, sin = rotary_table(CONTEXT)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.apply(self.init)

    @staticmethod
    def init(module):
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.05)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            if module.out_features == WIDTH and module.in_features == HIDDEN:
                module.weight.data /= math.sqrt(2 * LAYERS)

    def forward(self, ids, wanted=None):
        """Logits of the wanted positions (a boolean mask), or of all."""
        length = ids.shape[1]
        cos, sin = self.cos[:length], self.sin[:length]
        mask = torch.full((length, length), -1e9, device=ids.device).triu(1)
        mask = mask.repeat(HEADS // KV_HEADS, 1)
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, cos, sin, mask)
        x = self.norm(x if wanted is None else x[wanted])
        return x @ self.embed.weight.t()

    @torch.no_grad()
    def generate(self, ids, end, limit=200):
        """Greedy continuation, without `end`."""
        ids, answer = list(ids), []
        while len(answer) < limit and len(ids) < CONTEXT:
            token = int(self(torch.tensor([ids]))[0, -1].argmax())
            if token == end:
                break
            ids.append(token)
            answer.append(token)
        return answer

    @torch.no_grad()
    def round_to_bf16(self):
        """Give every matrix the values its file will hold."""
        for p in self.parameters():
            if p.dim() == 2:
                p.copy_(p.bfloat16().float())


def bf16_bytes(t):
    return t.bfloat16().contiguous().view(torch.int16).numpy().astype("<i2").tobytes()


def tensor_entry(name, t):
    t = t.detach().cpu()
    if t.dim() == 2:
        return name, t.shape, gguf.GGML_BF16, bf16_bytes(t)
    return name, t.shape, gguf.GGML_F32, t.float().numpy().astype("<f4").tobytes()


def named_weights(model):
    """(GGUF's name, parameter), in file order."""
    yield "token_embd.weight", model.embed.weight
    for i, b in enumerate(model.blocks):
        named = {
            "attn_norm": b.attn_norm, "attn_q": b.q, "attn_k": b.k, "attn_v": b.v,
            "attn_output": b.o, "ffn_norm": b.ffn_norm, "ffn_gate": b.gate, "ffn_up": b.up,
            "ffn_down": b.down,
        }
        for name, module in named.items():
            yield f"blk.{i}.{name}.weight", module.weight
    yield "output_norm.weight", model.norm.weight


@torch.no_grad()
def load_tensors(model, tensors):
    for name, weight in named_weights(model):
        shape, kind, raw = tensors[name]
        form = torch.bfloat16 if kind == gguf.GGML_BF16 else torch.float32
        weight.copy_(torch.frombuffer(bytearray(raw), dtype=form).view(shape).float())


def metadata_of(model, tokenizer, description):
    normal, control = 1, 3
    kinds = [control if t in SPECIALS else normal for t in tokenizer.tokens]
    parameters = sum(p.numel() for p in model.parameters())
    return {
        "general.architecture": gguf.string("llama"),
        "general.name": gguf.string("og-node demo"),
        "general.description": gguf.string(description),
        "general.license": gguf.string("apache-2.0"),
        "general.size_label": gguf.string(f"{parameters / 1e6:.1f}M"),
        "general.alignment": gguf.u32(gguf.ALIGNMENT),
        "general.file_type": gguf.u32(32),  # mostly bf16
        "llama.vocab_size": gguf.u32(len(tokenizer.tokens)),
        "llama.context_length": gguf.u32(CONTEXT),
        "llama.embedding_length": gguf.u32(WIDTH),
        "llama.block_count": gguf.u32(LAYERS),
        "llama.feed_forward_length": gguf.u32(HIDDEN),
        "llama.attention.head_count": gguf.u32(HEADS),
        "llama.attention.head_count_kv": gguf.u32(KV_HEADS),
        "llama.attention.key_length": gguf.u32(HEAD_WIDTH),
        "llama.attention.value_length": gguf.u32(HEAD_WIDTH),
        "llama.attention.layer_norm_rms_epsilon": gguf.f32(EPSILON),
        "llama.rope.dimension_count": gguf.u32(HEAD_WIDTH),
        "llama.rope.freq_base": gguf.f32(ROPE_BASE),
        "tokenizer.ggml.model": gguf.string("gpt2"),
        "tokenizer.ggml.pre": gguf.string(PRE),
        "tokenizer.ggml.tokens": gguf.strings(tokenizer.tokens),
        "tokenizer.ggml.token_type": gguf.i32s(kinds),
        "tokenizer.ggml.merges": gguf.strings([f"{a} {b}" for a, b in tokenizer.merges]),
        "tokenizer.ggml.bos_token_id": gguf.u32(tokenizer.ids["<|endoftext|>"]),
        "tokenizer.ggml.eos_token_id": gguf.u32(tokenizer.ids["<|im_end|>"]),
        "tokenizer.ggml.eot_token_id": gguf.u32(tokenizer.ids["<|im_end|>"]),
        "tokenizer.ggml.padding_token_id": gguf.u32(tokenizer.ids["<|endoftext|>"]),
        "tokenizer.ggml.add_bos_token": gguf.boolean(False),
        "tokenizer.ggml.add_eos_token": gguf.boolean(False),
        "tokenizer.chat_template": gguf.string(CHAT_TEMPLATE),
    }


def save(path, model, tokenizer, description):
    tensors = [tensor_entry(name, weight) for name, weight in named_weights(model)]
    gguf.write(path, metadata_of(model, tokenizer, description), tensors)
