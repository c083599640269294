#!/usr/bin/python3
"""The demo model read back from its GGUF file and run by model.py, behind JSON lines.

    configs/demo/infer.py configs/demo.gguf < requests.jsonl

A request is {"text": …, "tokenize": true} or {"prompt": …}, as tests/gpu/llama_cpp.mjs describes.
"""

import json
import sys

import torch

import gguf
from bpe import Tokenizer
from model import Model, load_tensors
from tasks import prompt_of


def answer(model, tokenizer, request):
    if request.get("tokenize"):
        return {"tokens": tokenizer.encode(request["text"])}
    ids = model.generate(tokenizer.encode(prompt_of(request["prompt"])), tokenizer.end)
    return {"answer": tokenizer.decode(ids), "tokens": ids}


def main():
    torch.set_num_threads(1)
    metadata, tensors = gguf.read(sys.argv[1])
    merges = [tuple(m.split(" ")) for m in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(merges)
    assert tokenizer.tokens == metadata["tokenizer.ggml.tokens"]
    model = Model(len(tokenizer.tokens))
    load_tensors(model, tensors)
    for line in sys.stdin:
        print(json.dumps(answer(model, tokenizer, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
