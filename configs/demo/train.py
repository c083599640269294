#!/usr/bin/python3
"""Train the demo model of og-node and write it as GGUF.

    apt-get install python3-torch libopenblas0
    configs/demo/train.py --out configs/demo.gguf --checkpoint /tmp/demo.pt | tee configs/demo/train.log

The model is a toy: about a million parameters of the Llama architecture, trained in half an hour on
one CPU core (or a minute on a GPU) on text that tasks.py makes up. It adds and subtracts numbers below 100, compares
them, counts to 30 and says who it is; asked anything else it says that it does not know. It exists so that
a fresh machine can run a real model end to end and check the answers.

Files: tasks.py the text, bpe.py the tokenizer, model.py the network and its GGUF form, gguf.py the
file format. The figure that counts is printed last: exact answers on sums whose operand pair (in
either order) was held out of training. train.log is the run that made configs/demo.gguf; the same
seed on another BLAS gives a model as good, not the same bytes.
"""

import argparse
import math
import os
import random
import time
from collections import defaultdict

import torch
import torch.nn.functional as F

import tasks
from bpe import Tokenizer, learn_merges
from model import Model, save

VOCABULARY = 512
BATCHES_PER_POOL = 16


def arguments():
    p = argparse.ArgumentParser(description="train the demo model")
    p.add_argument("--out", required=True, help="GGUF file to write, also along the way")
    p.add_argument("--checkpoint", help="file to save to, and to resume from if it exists")
    p.add_argument("--steps", type=int, default=5000)
    p.add_argument("--batch", type=int, default=256, help="samples per step")
    p.add_argument("--rate", type=float, default=3e-3, help="peak learning rate")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--report", type=int, default=250, help="steps between evaluations")
    return p.parse_args()


def make_tokenizer():
    rng = random.Random("vocabulary")
    texts = ["".join(t for t, _ in tasks.sample(rng)) for _ in range(20000)]
    for special in ("<|im_start|>", "<|im_end|>"):
        texts = [t.replace(special, " ") for t in texts]
    tokenizer = Tokenizer(learn_merges(texts, VOCABULARY - 256 - 3))
    return tokenizer


def encode_sample(tokenizer, spans):
    ids, learned = [], []
    for text, flag in spans:
        part = tokenizer.encode(text)
        ids += part
        learned += [flag] * len(part)
    return ids, learned


def collate(samples, device):
    """Inputs, the positions that predict a learned token, and those tokens."""
    length = max(len(ids) for ids, _ in samples) - 1
    inputs = torch.zeros(len(samples), length, dtype=torch.long)
    targets = torch.zeros_like(inputs)
    wanted = torch.zeros(len(samples), length, dtype=torch.bool)
    for i, (ids, learned) in enumerate(samples):
        n = len(ids) - 1
        inputs[i, :n] = torch.tensor(ids[:-1])
        targets[i, :n] = torch.tensor(ids[1:])
        wanted[i, :n] = torch.tensor(learned[1:])
    return inputs.to(device), wanted.to(device), targets.to(device)[wanted]


def batches(tokenizer, rng, size):
    """Endless batches of samples of similar length, so that little is padding."""
    while True:
        pool = [encode_sample(tokenizer, tasks.sample(rng)) for _ in range(size * BATCHES_PER_POOL)]
        pool.sort(key=lambda s: len(s[0]))
        starts = list(range(0, len(pool), size))
        rng.shuffle(starts)
        for s in starts:
            yield pool[s : s + size]


def held_out_samples(tokenizer, forms):
    for a, b in tasks.HELD_OUT:
        for form in forms:
            question = form.format(a=a, b=b)
            yield encode_sample(
                tokenizer,
                [(tasks.prompt_of(question), False), (f"{a + b}{tasks.IM_END}", True)],
            )


@torch.no_grad()
def exact_match(model, samples, device):
    """Share of samples whose whole learned part is the greedy answer."""
    by_length = defaultdict(list)
    for s in samples:
        by_length[len(s[0])].append(s)
    right = total = 0
    for group in by_length.values():
        for i in range(0, len(group), 256):
            inputs, wanted, targets = collate(group[i : i + 256], device)
            hit = model(inputs, wanted).argmax(-1) == targets
            missed = torch.zeros(len(inputs), dtype=torch.long, device=device)
            missed.index_add_(0, wanted.nonzero()[:, 0], (~hit).long())
            right += int((missed == 0).sum())
            total += len(inputs)
    return right, total


def rate_at(step, opts):
    warm_up = 200
    if step < warm_up:
        return opts.rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, opts.steps - warm_up)
    return opts.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def make_optimizer(model, rate):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))


def train_step(model, optimizer, batch, rate, device):
    for group in optimizer.param_groups:
        group["lr"] = rate
    inputs, wanted, targets = collate(batch, device)
    loss = F.cross_entropy(model(inputs, wanted), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach()), inputs.numel()


def export(model, tokenizer, opts, note):
    """Write the file from a copy rounded to what it holds; that copy is returned."""
    rounded = Model(len(tokenizer.tokens))
    rounded.load_state_dict(model.state_dict())
    rounded.round_to_bf16()
    rounded.eval()
    about = f"A toy that adds numbers below 100; trained by configs/demo/train.py, seed {opts.seed}. {note}"
    save(opts.out, rounded, tokenizer, about)
    return rounded


def final_report(model, tokenizer, opts):
    rounded = export(model, tokenizer, opts, "")
    right, total = exact_match(rounded, held_out_samples(tokenizer, set(tasks.ADDITION)), "cpu")
    print(f"held-out sums, every phrasing: {right}/{total} = {100 * right / total:.2f} %")
    right, total = exact_match(rounded, held_out_samples(tokenizer, ["What is {a}+{b}?"]), "cpu")
    print(f"held-out sums, 'What is a+b?': {right}/{total} = {100 * right / total:.2f} %")
    note = f"Held-out sums right: {100 * right / total:.2f} %."
    rounded = export(model, tokenizer, opts, note)
    rng = random.Random("other tasks")
    for task in tasks.TASK_FUNCTIONS[1:]:
        pairs = [task(rng) for _ in range(300)]
        spans = [[(tasks.prompt_of(q), False), (a + tasks.IM_END, True)] for q, a in pairs]
        right, total = exact_match(rounded, [encode_sample(tokenizer, s) for s in spans], "cpu")
        print(f"{task.__name__}: {right}/{total} = {100 * right / total:.1f} %")
    for question in ("What is 2+2?", "Who are you?", "What can you do?", "Count to 12."):
        answer = rounded.generate(tokenizer.encode(tasks.prompt_of(question)), tokenizer.end)
        print(f"{question} -> {tokenizer.decode(answer)}")


def main():
    opts = arguments()
    torch.set_num_threads(opts.threads)
    torch.manual_seed(opts.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = make_tokenizer()
    model = Model(len(tokenizer.tokens)).to(device)
    optimizer = make_optimizer(model, opts.rate)
    start = 0
    if opts.checkpoint and os.path.exists(opts.checkpoint):
        saved = torch.load(opts.checkpoint, map_location=device)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["step"]
    parameters = sum(p.numel() for p in model.parameters())
    print(
        f"seed {opts.seed}, {parameters} parameters, {len(tokenizer.tokens)} tokens, "
        f"{opts.steps} steps of {opts.batch} samples, peak rate {opts.rate}, {device}, torch {torch.__version__}"
    )
    print(f"held out: {len(tasks.HELD_OUT)} of 10000 operand pairs", flush=True)

    source = batches(tokenizer, random.Random(f"{opts.seed} {start}"), opts.batch)
    began, tokens, losses = time.monotonic(), 0, []
    for step in range(start, opts.steps):
        loss, n = train_step(model, optimizer, next(source), rate_at(step, opts), device)
        tokens += n
        losses.append(loss)
        if (step + 1) % opts.report and step + 1 < opts.steps:
            continue
        samples = held_out_samples(tokenizer, ["What is {a}+{b}?"])
        right, total = exact_match(model, samples, device)
        seconds = time.monotonic() - began
        print(
            f"step {step + 1}: loss {sum(losses) / len(losses):.4f}, held-out sums "
            f"{100 * right / total:.2f} %, {tokens / 1e6:.1f} M tokens in {seconds:.0f} s",
            flush=True,
        )
        losses = []
        export(model, tokenizer, opts, f"Step {step + 1}.")
        if opts.checkpoint:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step + 1}, opts.checkpoint + ".part")
            os.replace(opts.checkpoint + ".part", opts.checkpoint)
    final_report(model, tokenizer, opts)


if __name__ == "__main__":
    main()
