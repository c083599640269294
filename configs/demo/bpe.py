"""Byte-level BPE: GPT-2's byte alphabet, Qwen2's pre-tokenizer, merges learned here.

The result is what llama.cpp calls tokenizer.ggml.model = gpt2 with tokenizer.ggml.pre = qwen2.
Digits are single tokens: the pre-tokenizer cuts them apart and no merge contains one.
"""

import unicodedata
from collections import Counter

PRE = "qwen2"
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


def byte_alphabet():
    """GPT-2's printable stand-in for each byte: byte -> character."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    table = {b: chr(b) for b in plain}
    table.update({b: chr(256 + i) for i, b in enumerate(rest)})
    return table


ALPHABET = byte_alphabet()


def is_letter(c):
    return unicodedata.category(c)[0] == "L"


def is_number(c):
    return unicodedata.category(c)[0] == "N"


def is_space(c):
    return c in "\t\n\v\f\r\x85" or unicodedata.category(c) in ("Zs", "Zl", "Zp")


def is_symbol(c):
    return not (is_letter(c) or is_number(c) or is_space(c))


def run_end(text, i, test):
    while i < len(text) and test(text[i]):
        i += 1
    return i


def contraction_end(text, i):
    for c in CONTRACTIONS:
        if text[i : i + len(c)].lower() == c:
            return i + len(c)
    return i


def word_end(text, i):
    r"""[^\r\n\p{L}\p{N}]?\p{L}+"""
    if not (is_letter(text[i]) or is_number(text[i]) or text[i] in "\r\n"):
        end = run_end(text, i + 1, is_letter)
        return end if end > i + 1 else i
    return run_end(text, i, is_letter)


def symbols_end(text, i):
    r""" ?[^\s\p{L}\p{N}]+[\r\n]*"""
    start = i + 1 if text[i] == " " else i
    end = run_end(text, start, is_symbol)
    return run_end(text, end, lambda c: c in "\r\n") if end > start else i


def spaces_end(text, i):
    r"""\s*[\r\n]+ | \s+(?!\S) | \s+"""
    end = run_end(text, i, is_space)
    newline = max(text.rfind("\n", i, end), text.rfind("\r", i, end))
    if newline >= 0:
        return newline + 1
    return end if end == len(text) or end == i + 1 else end - 1


def pre_tokenize(text):
    """Cut text as Qwen2's regular expression does: the first alternative that matches wins."""
    pieces, i = [], 0
    while i < len(text):
        end = contraction_end(text, i)
        if end == i:
            end = word_end(text, i)
        if end == i and is_number(text[i]):
            end = i + 1
        if end == i:
            end = symbols_end(text, i)
        if end == i:
            end = spaces_end(text, i)
        pieces.append(text[i:end])
        i = end
    return pieces


def to_alphabet(piece):
    return "".join(ALPHABET[b] for b in piece.encode("utf-8"))


def merge_pair(parts, pair):
    out, i = [], 0
    while i < len(parts):
        if tuple(parts[i : i + 2]) == pair:
            out.append(parts[i] + parts[i + 1])
            i += 2
        else:
            out.append(parts[i])
            i += 1
    return out


def learn_merges(texts, count):
    """The `count` most frequent merges; ties fall to the alphabetically first pair."""
    words = Counter(to_alphabet(p) for t in texts for p in pre_tokenize(t))
    words = [(list(w), n) for w, n in sorted(words.items()) if not any(map(str.isdigit, w))]
    merges = []
    for _ in range(count):
        pairs = Counter()
        for parts, n in words:
            for pair in zip(parts, parts[1:]):
                pairs[pair] += n
        best = min(pairs, key=lambda p: (-pairs[p], p))
        merges.append(best)
        words = [(merge_pair(parts, best), n) for parts, n in words]
    return merges


class Tokenizer:
    def __init__(self, merges):
        self.merges = merges
        self.tokens = [*ALPHABET.values(), *(a + b for a, b in merges), *SPECIALS]
        self.ids = {t: i for i, t in enumerate(self.tokens)}
        assert len(self.ids) == len(self.tokens)
        self.ranks = {pair: i for i, pair in enumerate(merges)}
        self.bytes = {c: b for b, c in ALPHABET.items()}
        self.cache = {}
        self.end = self.ids["<|im_end|>"]

    def encode_piece(self, piece):
        if piece not in self.cache:
            parts = list(to_alphabet(piece))
            while len(parts) > 1:
                best = min(zip(parts, parts[1:]), key=lambda p: self.ranks.get(p, 1 << 30))
                if best not in self.ranks:
                    break
                parts = merge_pair(parts, best)
            self.cache[piece] = [self.ids[p] for p in parts]
        return self.cache[piece]

    def encode_text(self, text):
        return [i for piece in pre_tokenize(text) for i in self.encode_piece(piece)]

    def encode(self, text):
        """Special tokens first, then the text between them."""
        ids = []
        while text:
            at, special = min(
                ((text.find(s), s) for s in SPECIALS if s in text), default=(len(text), None)
            )
            ids += self.encode_text(text[:at])
            if special:
                ids.append(self.ids[special])
                at += len(special)
            text = text[at:]
        return ids

    def decode(self, ids):
        chars = "".join(self.tokens[i] for i in ids if self.tokens[i] not in SPECIALS)
        return bytes(self.bytes[c] for c in chars).decode("utf-8", "replace")
