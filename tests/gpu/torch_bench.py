#!/usr/bin/env python3
"""torch_bench.py: what PyTorch and transformers reach on this device, as JSON lines.

The ceiling of matrix products (bf16, 8192^3, random data), and where transformers is installed a
Llama-3.1-8B shape with random weights: decode with a static cache, compiled, at batch 1 and 8, and
prefill of 2048 tokens. Exits 77 without PyTorch or a device.
"""

import json
import sys
import time

try:
    import torch
except ImportError as e:
    print(f"skipped: {e}", file=sys.stderr)
    sys.exit(77)

RUNS = 11


def seconds(step, warm=3):
    for _ in range(warm):
        step()
    times = []
    for _ in range(RUNS):
        torch.cuda.synchronize()
        start = time.perf_counter()
        step()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times)[RUNS // 2]


def report(case, median, unit, s):
    print(json.dumps({"bench": "torch", "case": case, "median": median, "unit": unit, "seconds": s, "runs": RUNS}),
          flush=True)


def products():
    n = 8192
    a, b = (torch.randn(n, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    s = seconds(lambda: a @ b)
    report("bf16 product, 8192 x 8192 x 8192", 2 * n**3 / s / 1e12, "TFLOP/s", s)


def model():
    import transformers

    c = transformers.LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=4096, attn_implementation="sdpa", tie_word_embeddings=False)
    with torch.device("meta"):
        m = transformers.LlamaForCausalLM(c)
    m = m.to(torch.bfloat16).to_empty(device="cuda").eval()
    with torch.no_grad():
        for p in m.parameters():
            p.normal_(0, 0.02)
        # to_empty() leaves the rotation table undefined.
        m.model.rotary_emb = type(m.model.rotary_emb)(config=c, device="cuda")
    return c, m


def steps(c, m):
    import transformers

    def prefill():
        m(torch.ones(1, 2048, dtype=torch.long, device="cuda"), use_cache=False, logits_to_keep=1)

    with torch.no_grad():
        s = seconds(prefill)
        report("transformers: prefill, 2048 tokens", 2048 / s, "tokens/s", s)
        step = torch.compile(m, mode="reduce-overhead", fullgraph=False)
        for batch in (1, 8):
            cache = transformers.StaticCache(config=c, max_cache_len=2048)
            ids = torch.ones(batch, 1, dtype=torch.long, device="cuda")
            at = torch.tensor([2047], device="cuda")

            def decode():
                step(ids, past_key_values=cache, cache_position=at, position_ids=at.expand(batch, 1), use_cache=True)

            s = seconds(decode)
            report(f"transformers: decode, batch {batch}, context 2048", batch / s, "tokens/s", s)


def main():
    if not torch.cuda.is_available():
        print("skipped: no device", file=sys.stderr)
        return 77
    products()
    try:
        steps(*model())
    except Exception as e:  # the library moves; its figures are beside ours, not needed for them
        print(f"transformers could not be measured: {type(e).__name__}: {e}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
