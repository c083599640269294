#!/usr/bin/env python3
"""families.py: tiny models of every family, as folders, against the same mathematics in PyTorch.

  OG_LOGITS=build/tests/gpu/logits_cli OG_TINY=build/tests/gpu/tiny_models tests/gpu/families.py

The model below is written from the definitions of the families (facts of config.json, not of our
reader) in the shape of transformers' modelling code, fp32. The residual stream of our reference may
differ by 1e-5 (relative, L2) after each layer, and so may the logits. With weights of bf16 our CPU
back end may be 1.25 times as far from that as PyTorch computing in bf16 is, and so it may with weights of
published fp8. Exit status 77: no PyTorch.
"""
import json
import math
import os
import struct
import subprocess
import sys
import tempfile

try:
    import torch
except ImportError:
    print('skipped: no PyTorch here')
    sys.exit(77)

LIMIT = 1e-5
TOKENS = [(i * i * 7 + i * 31 + 5) % 256 for i in range(40)]


def e4m3(code):
    sign, exponent, mantissa = -1 if code & 128 else 1, code >> 3 & 15, code & 7
    if code & 127 == 127:
        return math.nan
    return sign * (2.0 ** (exponent - 7) * (1 + mantissa / 8) if exponent else 2.0 ** -9 * mantissa)


E4M3 = torch.tensor([e4m3(code) for code in range(256)])


def load_safetensors(path):
    data = open(path, 'rb').read()
    n, = struct.unpack('<Q', data[:8])
    header = json.loads(data[8:8 + n])
    dtypes = {'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16}
    out = {}
    for name, t in header.items():
        if name == '__metadata__':
            continue
        begin, end = t['data_offsets']
        raw = bytearray(data[8 + n + begin:8 + n + end])
        if t['dtype'] == 'F8_E4M3':
            out[name] = E4M3[torch.frombuffer(raw, dtype=torch.uint8).long()].reshape(t['shape'])
            continue
        out[name] = torch.frombuffer(raw, dtype=dtypes[t['dtype']]).reshape(t['shape']).float()
    return out


def load_folder(path):
    weights = {}
    for name in sorted(os.listdir(path)):
        if name.endswith('.safetensors'):
            weights.update(load_safetensors(os.path.join(path, name)))
    config = json.load(open(os.path.join(path, 'config.json')))
    return config, apply_scales(config, weights)


def apply_scales(config, weights):
    """Weights in 8 bits times their scales: one, one of each row, or one of each block."""
    rows, cols = config.get('quantization_config', {}).get('weight_block_size', (1, 1))
    scales = [name for name in weights if name.endswith(('.weight_scale', '.weight_scale_inv'))]
    for name in scales:
        scale, weight = weights.pop(name), name.split('_scale')[0]
        if name.endswith('_inv'):
            scale = scale.repeat_interleave(rows, 0).repeat_interleave(cols, 1)
            scale = scale[:weights[weight].shape[0], :weights[weight].shape[1]]
        weights[weight] = weights[weight] * scale
    return weights


class Model:
    def __init__(self, config, weights):
        self.c, self.w = config, weights
        self.dtype = next(iter(weights.values())).dtype
        self.kind = config['model_type']
        self.gemma = self.kind.startswith('gemma')
        self.heads = config['num_attention_heads']
        self.kv_heads = config['num_key_value_heads']
        self.dim = config.get('head_dim') or config['hidden_size'] // self.heads
        self.rotary = int(self.dim * config.get('partial_rotary_factor', 1))

    def norm(self, x, name):
        w = self.w[name]
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.c['rms_norm_eps'])
        return x * (1 + w) if self.gemma else x * w

    def linear(self, x, name):
        y = x @ self.w[name + '.weight'].T
        return y + self.w[name + '.bias'] if name + '.bias' in self.w else y

    def is_windowed(self, layer):
        c = self.c
        if 'layer_types' in c:
            return c['layer_types'][layer] == 'sliding_attention'
        if self.kind == 'gemma2':
            return layer % 2 == 0
        if self.kind == 'gemma3_text':
            return (layer + 1) % c.get('sliding_window_pattern', 6) != 0
        return c.get('sliding_window') is not None and self.kind in ('mistral', 'phi3')

    def rope(self, layer, count):
        """cos and sin of each position; see transformers' modeling_rope_utils."""
        c = self.c
        params = c.get('rope_parameters')
        if params is None:
            params = dict(c.get('rope_scaling') or {}, rope_theta=c['rope_theta'])
            if self.kind == 'gemma3_text' and self.is_windowed(layer):
                params = {'rope_theta': c['rope_local_base_freq']}
        elif 'full_attention' in params:
            params = params['sliding_attention' if self.is_windowed(layer) else 'full_attention']
        freq = 1.0 / params['rope_theta'] ** (torch.arange(0, self.rotary, 2).double() / self.rotary)
        kind, magnitude = params.get('rope_type', 'default'), 1.0
        if kind == 'llama3':
            old = params['original_max_position_embeddings']
            low, high = params['low_freq_factor'], params['high_freq_factor']
            wavelen = 2 * math.pi / freq
            scaled = torch.where(wavelen > old / low, freq / params['factor'], freq)
            smooth = (old / wavelen - low) / (high - low)
            between = (1 - smooth) * freq / params['factor'] + smooth * freq
            freq = torch.where((wavelen >= old / high) & (wavelen <= old / low), between, scaled)
        if kind == 'longrope':
            old, new = c['original_max_position_embeddings'], c['max_position_embeddings']
            factors = params['long_factor' if count > old else 'short_factor']
            freq = freq / torch.tensor(factors).double()
            if new > old:
                magnitude = math.sqrt(1 + math.log(new / old) / math.log(old))
        angle = torch.arange(count).double()[:, None] * freq[None]
        angle = torch.cat([angle, angle], -1)
        return ((angle.cos() * magnitude).to(self.dtype), (angle.sin() * magnitude).to(self.dtype))

    def rotate(self, x, cos, sin):
        r, rest = x[..., :self.rotary], x[..., self.rotary:]
        half = self.rotary // 2
        turned = torch.cat([-r[..., half:], r[..., :half]], -1)
        return torch.cat([r * cos + turned * sin, rest], -1)

    def qkv(self, x, at):
        q, kv = self.heads * self.dim, self.kv_heads * self.dim
        if at + 'qkv_proj.weight' in self.w:
            return self.linear(x, at + 'qkv_proj').split([q, kv, kv], -1)
        return [self.linear(x, at + n) for n in ('q_proj', 'k_proj', 'v_proj')]

    def attention(self, x, layer):
        c, n, at = self.c, x.shape[0], f'model.layers.{layer}.self_attn.'
        q, k, v = self.qkv(x, at)
        q = q.view(n, self.heads, self.dim).transpose(0, 1)
        k = k.view(n, self.kv_heads, self.dim).transpose(0, 1)
        v = v.view(n, self.kv_heads, self.dim).transpose(0, 1)
        if at + 'q_norm.weight' in self.w:
            q, k = self.norm(q, at + 'q_norm.weight'), self.norm(k, at + 'k_norm.weight')
        cos, sin = self.rope(layer, n)
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        k = k.repeat_interleave(self.heads // self.kv_heads, 0)
        v = v.repeat_interleave(self.heads // self.kv_heads, 0)
        score = q @ k.transpose(1, 2) * c.get('query_pre_attn_scalar', self.dim) ** -0.5
        if c.get('attn_logit_softcapping'):
            score = torch.tanh(score / c['attn_logit_softcapping']) * c['attn_logit_softcapping']
        i, j = torch.arange(n)[:, None], torch.arange(n)[None]
        hidden = j > i
        if self.is_windowed(layer):
            hidden = hidden | (i - j >= c['sliding_window'])
        score = score.masked_fill(hidden, float('-inf'))
        out = (torch.softmax(score, -1) @ v).transpose(0, 1).reshape(n, -1)
        return self.linear(out, at + 'o_proj')

    def mlp(self, x, layer):
        at = f'model.layers.{layer}.mlp.'
        if at + 'gate_up_proj.weight' in self.w:
            gate, up = self.linear(x, at + 'gate_up_proj').chunk(2, -1)
        else:
            gate, up = self.linear(x, at + 'gate_proj'), self.linear(x, at + 'up_proj')
        if self.gemma:
            u = math.sqrt(2 / math.pi) * (gate + 0.044715 * gate ** 3)
            gate = 0.5 * gate * (1 + torch.tanh(u))
        else:
            gate = gate * torch.sigmoid(gate)
        return self.linear(gate * up, at + 'down_proj')

    def forward(self, tokens):
        c = self.c
        x = self.w['model.embed_tokens.weight'][tokens]
        if self.gemma:
            x = x * c['hidden_size'] ** 0.5
        stream = [x]
        post = 'model.layers.0.post_feedforward_layernorm.weight' in self.w
        for i in range(c['num_hidden_layers']):
            at = f'model.layers.{i}.'
            h = self.attention(self.norm(x, at + 'input_layernorm.weight'), i)
            if post:
                x = x + self.norm(h, at + 'post_attention_layernorm.weight')
                h = self.mlp(self.norm(x, at + 'pre_feedforward_layernorm.weight'), i)
                x = x + self.norm(h, at + 'post_feedforward_layernorm.weight')
            else:
                x = x + h
                x = x + self.mlp(self.norm(x, at + 'post_attention_layernorm.weight'), i)
            stream.append(x)
        head = self.w.get('lm_head.weight', self.w['model.embed_tokens.weight'])
        logits = self.norm(x, 'model.norm.weight') @ head.T
        if c.get('final_logit_softcapping'):
            logits = torch.tanh(logits / c['final_logit_softcapping']) * c['final_logit_softcapping']
        return stream, logits


def ask(folder, back_end, request):
    done = subprocess.run([os.environ['OG_LOGITS'], folder] + back_end, input=json.dumps(request) + '\n',
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f'{folder}: {done.stderr}')
    return json.loads(done.stdout)


def relative(got, want):
    got = torch.tensor(got).double().reshape(-1)
    want = want.double().reshape(-1)
    return float((got - want).norm() / want.norm())


def check_exact(path, name):
    stream, logits = Model(*load_folder(path)).forward(torch.tensor(TOKENS))
    ours = ask(path, ['ref'], {'tokens': TOKENS, 'stream': True})
    layers = [relative(got, want) for got, want in zip(ours['stream'], stream)]
    end = relative(ours['logits'], logits)
    good = max(layers) < LIMIT and end < LIMIT and len(layers) == len(stream)
    print(f'{"ok" if good else "FAILED"}: {name}, fp32: {len(layers) - 1} layers, worst {max(layers):.1e}, '
          f'logits {end:.1e} (their deviation is {float(logits.std()):.1f})')
    return good


def check_rounded(path, name):
    config, weights = load_folder(path)
    _, want = Model(config, weights).forward(torch.tensor(TOKENS))
    _, low = Model(config, {k: v.bfloat16() for k, v in weights.items()}).forward(torch.tensor(TOKENS))
    theirs = relative(low.float().tolist(), want)
    ours = relative(ask(path, [], {'tokens': TOKENS})['logits'], want)
    good = ours < 1.25 * theirs
    print(f'{"ok" if good else "FAILED"}: {name}, bf16: CPU back end off by {ours:.1e}, PyTorch in bf16 by {theirs:.1e}')
    return good


def main():
    torch.set_num_threads(1)
    failed = 0
    for dtype, check in (('F32', check_exact), ('BF16', check_rounded)):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([os.environ['OG_TINY'], folder, dtype], check=True)
            for name in sorted(os.listdir(folder)):
                path = os.path.join(folder, name)
                if os.path.isdir(path):
                    failed += not check(path, name)
    return failed > 0


sys.exit(main())
