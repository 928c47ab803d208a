"""Measure what a contribution may leave out: train with many peers in one process, under one compression rule.

    venv/bin/python docs/bench/sparse.py text=tinyshakespeare.txt keep=64 quantiser=sign rule=senders seeds=0,1,2

prints one JSON object for each seed: the held-out loss after every round in nats per byte, and the bits sent. With
`dump=FOLDER` it writes the pseudo-gradients of some rounds as .npz files, on which `bits.py` measures codes.

Settings, as name=value:

    peers=4 steps=20 batch=2 rounds=30 rate=2e-3 warmup=50 alpha=1.0 decay=0.95 chunk=4096 keep=32
    sparsifier   chunk    the `keep` largest of each chunk (SparseLoCo)
                 tensor   as many of each tensor, wherever they are
                 block    the `keep` largest of each 64 x 64 block (SparseLoCo's choice for matrices)
                 shared   chunks share the tensor's budget by the square root of their energy
                 turn     `keep` values of each chunk in turn: the same for all peers, each once in chunk/keep rounds
                 own-turn the same, but each peer has its own order
                 none     everything
    quantiser    none | sign (mean magnitude of the chunk) | magnitude (sign and one magnitude bit) | covenant
    rule         senders (mean over those that sent a coordinate) | all | root (their sum over the root of their number) |
                 nesterov (DiLoCo: 0.7, 0.9) | sync (AdamW on
                 the mean gradient of all peers in each step; nothing is compressed)
"""

import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pytorch_llama import PRESETS, Llama

DEFAULTS = dict(
    text=None, preset="nano", peers=4, steps=20, batch=2, rounds=30, rate=2e-3, warmup=50, alpha=1.0, decay=0.95,
    chunk=4096, keep=32, sparsifier="chunk", quantiser="sign", rule="senders", seeds="0", dump=None, dumped="3,10,25",
    measured=96, threads=1, label="", every=1,
)  # fmt: skip


def settings_from(arguments):
    settings = dict(DEFAULTS)
    for argument in arguments:
        name, value = argument.removeprefix("--").split("=", 1)
        kind = type(DEFAULTS[name]) if DEFAULTS[name] is not None else str
        settings[name] = kind(value)
    return settings


def comb_bits(n, k):
    """log2 of n over k."""
    k = np.asarray(k, dtype=float)
    return (math.lgamma(n + 1) - np.vectorize(math.lgamma)(k + 1) - np.vectorize(math.lgamma)(n - k + 1)) / math.log(2)


class Layout:
    """The tensors of a model in one flat vector, and that vector in chunks."""

    def __init__(self, model, chunk, block):
        self.shapes = [p.shape for p in model.parameters()]
        self.names = [n for n, _ in model.named_parameters()]
        self.sizes = [p.numel() for p in model.parameters()]
        self.starts = np.cumsum([0, *self.sizes]).tolist()
        self.total = self.starts[-1]
        self.chunk = chunk
        # Place of each value in the chunks; padding has place `total`.
        rows, tensor_of = [], []
        for number, (shape, size, start) in enumerate(zip(self.shapes, self.sizes, self.starts)):
            places = torch.arange(start, start + size)
            side = math.isqrt(chunk)
            if block and len(shape) == 2 and shape[0] % side == 0 and shape[1] % side == 0:
                places = places.view(shape[0] // side, side, shape[1] // side, side).transpose(1, 2).reshape(-1)
            padding = -size % chunk
            places = torch.cat([places, torch.full((padding,), self.total)]).view(-1, chunk)
            rows.append(places)
            tensor_of += [number] * len(places)
        self.places = torch.cat(rows)
        self.tensor_of = torch.tensor(tensor_of)
        self.lengths = (self.places < self.total).sum(1)

    def chunks(self, flat):
        return torch.cat([flat, flat.new_zeros(1)])[self.places]

    def flat(self, chunks):
        out = chunks.new_zeros(self.total + 1)
        out[self.places.view(-1)] = chunks.reshape(-1)
        return out[:-1]


def mask_of(values, layout, settings, round_number, peer):
    """values: [chunks, chunk] -> which are kept"""
    kind, keep, chunk = settings["sparsifier"], settings["keep"], settings["chunk"]
    magnitude = values.abs()
    if kind == "none":
        return magnitude >= 0
    if kind in ("turn", "own-turn"):
        turns = max(1, round(chunk / keep))
        order = torch.Generator().manual_seed(1 + (peer if kind == "own-turn" else 0) + 1000 * (round_number // turns))
        turn_of = torch.rand(values.shape, generator=order).argsort(1) * turns // chunk
        return turn_of == round_number % turns
    mask = torch.zeros_like(values, dtype=torch.bool)
    if kind in ("chunk", "block"):
        keeps = torch.ceil(layout.lengths * keep / chunk).long()
    elif kind == "shared":
        keeps = torch.zeros(len(values), dtype=torch.long)
        for tensor in range(len(layout.sizes)):
            rows = layout.tensor_of == tensor
            budget = layout.sizes[tensor] * keep / chunk
            share = magnitude[rows].square().sum(1).sqrt() + 1e-30
            keeps[rows] = (share / share.sum() * budget).round().clamp(min=1).long()
        keeps = torch.minimum(keeps, layout.lengths)
    elif kind == "tensor":
        for tensor in range(len(layout.sizes)):
            rows = layout.tensor_of == tensor
            part = magnitude[rows]
            count = math.ceil(layout.sizes[tensor] * keep / chunk)
            floor = part.flatten().kthvalue(part.numel() - count + 1).values
            mask[rows] = (part >= floor) & (part > 0)
        return mask
    else:
        raise SystemExit(f"unknown sparsifier {kind}")
    order = magnitude.topk(int(keeps.max()), dim=1)
    chosen = torch.arange(order.indices.shape[1])[None, :] < keeps[:, None]
    mask.scatter_(1, order.indices, chosen)
    return mask & (magnitude > 0)


def quantised(values, mask, layout, settings):
    """What is sent of the kept values, and the bits for them besides their places."""
    kind = settings["quantiser"]
    kept = torch.where(mask, values, 0.0)
    counts = mask.sum(1, keepdim=True).clamp(min=1)
    chunks, total = len(values), int(mask.sum())
    if kind == "none":
        return kept, 32 * total
    if kind == "sign":
        scale = kept.abs().sum(1, keepdim=True) / counts
        return kept.sign() * scale, total + 8 * chunks
    if kind == "magnitude":
        mean = kept.abs().sum(1, keepdim=True) / counts
        large = mask & (kept.abs() > mean)
        small = mask & ~large
        level = lambda part: torch.where(part, kept.abs(), 0.0).sum(1, keepdim=True) / part.sum(1, keepdim=True).clamp(min=1)
        return kept.sign() * (torch.where(large, level(large), 0.0) + torch.where(small, level(small), 0.0)), 2 * total + 16 * chunks
    if kind == "covenant":
        out = torch.zeros_like(values)
        for tensor in range(len(layout.sizes)):
            rows = (layout.tensor_of == tensor)[:, None] & mask
            part = values[rows]
            if part.numel() == 0:
                continue
            mean, sigma = part.mean(), part.std() if part.numel() > 1 else part.new_tensor(1e-8)
            width = 6 * sigma / 4
            bins = ((part - mean) / width.clamp(min=1e-12) + 2).floor().clamp(0, 3).long()
            table = torch.stack([part[bins == b].mean() if (bins == b).any() else part.new_tensor(0.0) for b in range(4)])
            out[rows] = table[bins]
        return out, 2 * total + 128 * len(layout.sizes)
    raise SystemExit(f"unknown quantiser {kind}")


def place_bits(mask, layout, settings):
    """Bits for the places of the kept values: the bound for random places, chunk by chunk, with 6 bits for a count."""
    if settings["sparsifier"] in ("none", "turn", "own-turn"):
        return 0.0
    counts = mask.sum(1).numpy()
    fixed = settings["sparsifier"] in ("chunk", "block")
    bits = sum(comb_bits(int(n), k) for n, k in zip(layout.lengths, counts))
    return float(bits) + (0 if fixed else 6 * len(counts))


class Peer:
    def __init__(self, spec, settings, theta):
        self.model = Llama(spec)
        self.parameters = list(self.model.parameters())
        groups = [
            {"params": [p for p in self.parameters if p.dim() == 2], "weight_decay": 0.1},
            {"params": [p for p in self.parameters if p.dim() == 1], "weight_decay": 0.0},
        ]
        self.optimiser = torch.optim.AdamW(groups, lr=settings["rate"], betas=(0.9, 0.95), fused=True)
        self.error = torch.zeros_like(theta)
        self.updates = 0

    def load(self, theta):
        with torch.no_grad():
            start = 0
            for p in self.parameters:
                p.copy_(theta[start : start + p.numel()].view_as(p))
                start += p.numel()

    def flat(self):
        return torch.cat([p.detach().flatten() for p in self.parameters])

    def gradient(self, tokens):
        logits = self.model(tokens[:, :-1])
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), tokens[:, 1:].reshape(-1))
        loss.backward()

    def update(self, settings):
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.updates += 1
        for group in self.optimiser.param_groups:
            group["lr"] = settings["rate"] * min(1.0, self.updates / settings["warmup"])
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)


def run(settings, seed):
    spec = PRESETS[settings["preset"]]
    torch.manual_seed(seed)
    text = torch.frombuffer(bytearray(Path(settings["text"]).read_bytes()), dtype=torch.uint8).long()
    cut = len(text) - len(text) // 10
    training, heldout = text[:cut], text[cut:]
    context = spec.context
    offsets = torch.linspace(0, len(heldout) - context - 1, settings["measured"]).long()
    measured = torch.stack([heldout[o : o + context + 1] for o in offsets])

    first = Llama(spec)
    with torch.no_grad():
        first.embedding.weight.normal_(std=spec.width**-0.5)
    theta = torch.cat([p.detach().flatten() for p in first.parameters()])
    layout = Layout(first, settings["chunk"], settings["sparsifier"] == "block")
    count = 1 if settings["rule"] == "sync" else settings["peers"]
    peers = [Peer(spec, settings, theta) for _ in range(count)]
    momentum = torch.zeros_like(theta)
    sent_last = torch.zeros(layout.places.shape, dtype=torch.uint8)
    losses, bits, began = [], 0.0, time.time()

    def batch():
        starts = torch.randint(len(training) - context - 1, (settings["batch"],))
        return torch.stack([training[s : s + context + 1] for s in starts])

    for round_number in range(settings["rounds"]):
        if settings["rule"] == "sync":
            peer = peers[0]
            peer.load(theta)
            for _ in range(settings["steps"]):
                peer.gradient(torch.cat([batch() for _ in range(settings["peers"])]))
                peer.update(settings)
            theta = peer.flat()
        else:
            sent, masks, dumps = [], [], {}
            for number, peer in enumerate(peers):
                peer.load(theta)
                for _ in range(settings["steps"]):
                    peer.gradient(batch())
                    peer.update(settings)
                delta = theta - peer.flat()
                if settings["rule"] == "nesterov":
                    sent.append(delta)
                    bits += 32 * layout.total / settings["peers"]
                    continue
                total = settings["decay"] * peer.error + delta
                values = layout.chunks(total)
                mask = mask_of(values, layout, settings, round_number, number)
                what, value_bits = quantised(values, mask, layout, settings)
                bits += (value_bits + place_bits(mask, layout, settings)) / settings["peers"]
                peer.error = total - layout.flat(what)
                sent.append(what)
                masks.append(mask)
                if settings["dump"] and str(round_number) in settings["dumped"].split(","):
                    dumps[f"values{number}"] = values.numpy().astype(np.float32)
            if dumps:
                np.savez(
                    Path(settings["dump"]) / f"round{round_number}-seed{seed}.npz",
                    theta=layout.chunks(theta).numpy(), last=sent_last.numpy(), tensor_of=layout.tensor_of.numpy(),
                    lengths=layout.lengths.numpy(), names=np.array(layout.names), **dumps,
                )  # fmt: skip
            if settings["rule"] == "nesterov":
                mean = torch.stack(sent).mean(0)
                momentum = 0.9 * momentum + mean
                theta = theta - 0.7 * (mean + 0.9 * momentum)
            else:
                norms = torch.stack([
                    torch.zeros(len(layout.sizes)).index_add_(0, layout.tensor_of, s.square().sum(1)).sqrt() for s in sent
                ])
                clip = (norms.median(0).values / norms.clamp(min=1e-30)).clamp(max=1.0)
                summed = sum(s * c[layout.tensor_of][:, None] for s, c in zip(sent, clip))
                senders = sum(m.int() for m in masks)
                sent_last = senders.to(torch.uint8)
                divisor = dict(senders=senders.clamp(min=1), root=senders.clamp(min=1).sqrt(), all=settings["peers"])
                divisor = divisor[settings["rule"]]
                theta = theta - settings["alpha"] * layout.flat(summed / divisor)
        if (round_number + 1) % settings["every"] == 0:
            model = peers[0]
            model.load(theta)
            with torch.no_grad():
                logits = model.model(measured[:, :-1])
                loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), measured[:, 1:].reshape(-1))
            losses.append(round(float(loss), 4))
    return dict(
        label=settings["label"], seed=seed, losses=losses, final=losses[-1],
        bits_a_parameter=bits / layout.total / settings["rounds"], seconds=round(time.time() - began, 1),
        settings={k: v for k, v in settings.items() if k not in ("text", "dump", "label", "seeds") and v != DEFAULTS[k]},
    )  # fmt: skip


def main():
    settings = settings_from(sys.argv[1:])
    torch.set_num_threads(settings["threads"])
    for seed in settings["seeds"].split(","):
        print(json.dumps(run(settings, int(seed))), flush=True)


if __name__ == "__main__":
    main()
