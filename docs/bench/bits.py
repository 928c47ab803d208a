"""Measure how many bits codes need for the places of kept values, on pseudo-gradients dumped by `sparse.py`.

    venv/bin/python docs/bench/sparse.py text=tinyshakespeare.txt keep=64 dump=FOLDER
    venv/bin/python docs/bench/bits.py FOLDER 16 32 64 128 256

Codes are measured as they are. Contexts are measured by the entropy that an ideal adaptive code approaches, plus half a
logarithm of the count for learning each context.
"""

import math
import sys
from pathlib import Path

import numpy as np
import zstandard


def entropy(p):
    p = min(max(p, 1e-12), 1 - 1e-12)
    return -(p * math.log2(p) + (1 - p) * math.log2(1 - p))


def comb_bits(n, k):
    return (math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)) / math.log(2)


def rice(gaps, r):
    return (gaps >> r).sum() + len(gaps) * (1 + r)


def golomb(gaps, modulus):
    bits = math.ceil(math.log2(modulus))
    short = (gaps % modulus) < (1 << bits) - modulus
    return (gaps // modulus).sum() + len(gaps) + np.where(short, bits - 1, bits).sum()


def as_bytes(gaps):
    """One byte per gap; 255 means: skip 255, and the gap continues."""
    return np.concatenate([np.append(np.full(gap // 255, 255), gap % 255) for gap in gaps]).astype(np.uint8)


def order_0(symbols):
    """Bits that a range coder with one fixed table needs, without the table. Huffman's code needs a few hundredths more."""
    counts = np.unique(symbols, return_counts=True)[1]
    return -(counts * np.log2(counts / counts.sum())).sum()


def in_context(mask, valid, context):
    """Bits for the mask if each value of `context` has its own probability."""
    total = 0.0
    for value in np.unique(context[valid]):
        here = valid & (context == value)
        total += here.sum() * entropy(mask[here].mean()) + 0.5 * math.log2(here.sum() + 1)
    return total


def before(mask, distance, count):
    """How many of the `count` places at multiples of `distance` before each one are kept."""
    total = np.zeros(mask.shape, int)
    for step in range(1, count + 1):
        total[:, step * distance :] += mask[:, : -step * distance]
    return total


def measure(dump, keep):
    values, theta, lengths = dump["values0"], dump["theta"], dump["lengths"]
    chunk = values.shape[1]
    keeps = np.ceil(lengths * keep / chunk).astype(int)
    order = np.argsort(-np.abs(values), axis=1, kind="stable")
    mask = np.zeros(values.shape, bool)
    for row, (places, count) in enumerate(zip(order, keeps)):
        mask[row, places[:count]] = True
    kept = mask.sum()
    gaps = [np.diff(np.flatnonzero(row), prepend=-1) - 1 for row in mask]
    valid = np.arange(chunk)[None, :] < lengths[:, None]

    fixed = int(math.log2(max(1, (chunk - keep) / (keep + 1) * math.log(2))))
    every = np.concatenate(gaps)
    bits = {
        "bound": sum(comb_bits(int(n), int(k)) for n, k in zip(lengths, keeps)),
        "Rice": rice(every, fixed),
        "Rice, best r a chunk": sum(min(rice(g, r) for r in range(12)) + 3 for g in gaps),
        "Golomb, best modulus": min(golomb(every, m) for m in range(2, 400)),
        "12 bits a place": 12 * kept,
        "bytes": 8 * len(as_bytes(every)),
        "bytes, zstd 19": 8 * len(zstandard.ZstdCompressor(level=19).compress(as_bytes(every).tobytes())),
        "bytes, range coder": order_0(as_bytes(every)),
    }
    last = np.minimum(dump["last"], 4).astype(int)
    row, column = np.minimum(before(mask, 1, 32), 6), np.minimum(before(mask, 128, 8), 4)
    tensor = dump["tensor_of"][:, None] + np.zeros_like(last)
    rank = np.argsort(np.argsort(np.abs(theta), axis=1), axis=1) * 8 // chunk
    contexts = {
        "tensor": tensor,
        "last round": last,
        "weight": rank,
        "row": row,
        "column": column,
        "all but weight": ((tensor * 5 + column) * 7 + row) * 5 + last,
    }
    bits |= {f"context: {name}": in_context(mask, valid, context) for name, context in contexts.items()}
    for name, total in bits.items():
        print(f"  {name:24} {total / kept:6.3f} bits a kept value")

    magnitude = np.where(mask, np.abs(values), 0.0)
    scale = magnitude.sum(1) / mask.sum(1)
    large = magnitude > scale[:, None]
    small = mask & ~large
    level = lambda part: np.where(part, magnitude, 0.0).sum(1) / np.maximum(part.sum(1), 1)
    lost = lambda sent: ((magnitude - sent) ** 2).sum() / (magnitude**2).sum()
    per_tensor = np.zeros_like(magnitude)
    for tensor in np.unique(dump["tensor_of"]):
        rows = dump["tensor_of"] == tensor
        of = magnitude[rows & mask.any(1)][mask[rows & mask.any(1)]]
        cut = np.median(of)
        low, high = of[of <= cut].mean(), of[of > cut].mean() if (of > cut).any() else of.mean()
        per_tensor[rows] = np.where(mask[rows], np.where(magnitude[rows] > cut, high, low), 0.0)
    print(f"  lost of the kept, squares: sign {lost(mask * scale[:, None]):.4f}", end=", ")
    print(f"sign and magnitude bit {lost(large * level(large)[:, None] + small * level(small)[:, None]):.4f}", end=", ")
    print(f"sign and magnitude bit, levels a tensor {lost(per_tensor):.4f}")
    print(f"  kept of all, squares: {(magnitude**2).sum() / (values**2).sum():.4f}")
    steps = np.diff(np.round(np.log2(scale + 1e-30) * 8))
    share = np.unique(steps, return_counts=True)[1] / len(steps)
    print(f"  scale's difference, eighths of an octave: {-(share * np.log2(share)).sum():.2f} bits a chunk")


def main():
    for path in sorted(Path(sys.argv[1]).glob("*.npz")):
        for keep in [int(argument) for argument in sys.argv[2:]] or [64]:
            print(f"{path.name}, {keep} of a chunk")
            measure(np.load(path), keep)


if __name__ == "__main__":
    main()
