"""Time one training step of a Commonweal preset in PyTorch, to compare with `weal bench train`.

To install PyTorch (CPU only, about 200 MB):

    python3 -m venv venv && venv/bin/pip install torch --index-url https://download.pytorch.org/whl/cpu

or plain `pip install torch` for a build with CUDA. Then

    venv/bin/python docs/bench/pytorch_llama.py --preset nano --batch 8 --steps 30 --threads 2

Model, batch and optimiser are the same as on the Rust side: RMSNorm, rotary positions in the half-split
convention, grouped-query attention, SwiGLU, tied embeddings; AdamW 0.9 / 0.95, decay 0.1 on matrices only, clipping to
norm 1. Only the text differs: it is random bytes, which take the same time. On a GPU (`--device cuda`) f32 products
are in TF32 unless `--precision f32` forbids it; f16 and bf16 mean automatic mixed precision over f32 weights, without
a scaled loss.
"""

import argparse
import contextlib
import json
import statistics
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Spec:
    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    feed_forward: int
    context: int
    tied: bool = True
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5


PRESETS = {
    "nano": Spec(256, 128, 4, 4, 4, 352, 128),
    "micro": Spec(256, 256, 6, 8, 4, 704, 256),
    "tiny": Spec(256, 384, 8, 6, 2, 1024, 512),
    "small": Spec(256, 768, 12, 12, 4, 2048, 1024),
    "medium": Spec(32_000, 1024, 24, 16, 4, 2816, 2048),
    "1b": Spec(32_000, 2048, 22, 32, 4, 5632, 2048, tied=False),
}


class Norm(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(spec.width))
        self.epsilon = spec.norm_epsilon

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.epsilon)


def rotate(x, cos, sin):
    """x: [batch, heads, length, head width]"""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Block(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.spec = spec
        self.head_width = spec.width // spec.heads
        kv_width = spec.kv_heads * self.head_width
        linear = lambda inputs, outputs: nn.Linear(inputs, outputs, bias=False)
        self.q_proj, self.o_proj = linear(spec.width, spec.width), linear(spec.width, spec.width)
        self.k_proj, self.v_proj = linear(spec.width, kv_width), linear(spec.width, kv_width)
        self.gate_proj, self.up_proj = linear(spec.width, spec.feed_forward), linear(spec.width, spec.feed_forward)
        self.down_proj = linear(spec.feed_forward, spec.width)
        self.attention_norm, self.feed_forward_norm = Norm(spec), Norm(spec)

    def forward(self, x, cos, sin):
        batch, length, width = x.shape
        heads = lambda y, count: y.view(batch, length, count, self.head_width).transpose(1, 2)
        normed = self.attention_norm(x)
        query = rotate(heads(self.q_proj(normed), self.spec.heads), cos, sin)
        key = rotate(heads(self.k_proj(normed), self.spec.kv_heads), cos, sin)
        value = heads(self.v_proj(normed), self.spec.kv_heads)
        grouped = self.spec.kv_heads != self.spec.heads
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=grouped)
        x = x + self.o_proj(attended.transpose(1, 2).reshape(batch, length, width))
        normed = self.feed_forward_norm(x)
        return x + self.down_proj(F.silu(self.gate_proj(normed)) * self.up_proj(normed))


class Llama(nn.Module):
    def __init__(self, spec):
        super().__init__()
        self.embedding = nn.Embedding(spec.vocabulary, spec.width)
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.layers))
        self.norm = Norm(spec)
        self.head = nn.Linear(spec.width, spec.vocabulary, bias=False)
        for parameter in self.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
        if spec.tied:
            self.head.weight = self.embedding.weight
        half = spec.width // spec.heads // 2
        angles = torch.arange(spec.context)[:, None] * spec.rope_theta ** (-torch.arange(half) / half)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, tokens):
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x))


def main():
    arguments = argparse.ArgumentParser(description="Times one training step of a Commonweal preset in PyTorch.")
    arguments.add_argument("--preset", choices=PRESETS, default="nano")
    arguments.add_argument("--batch", type=int, default=8)
    arguments.add_argument("--steps", type=int, default=30)
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--micro-batch", type=int, default=0, help="sequences to compute at once; 0 means all")
    arguments.add_argument("--precision", choices=["f32", "tf32", "f16", "bf16"], default="f32")
    arguments.add_argument("--compile", action="store_true", help="use torch.compile")
    arguments.add_argument("--json", action="store_true", help="print the result as one line of JSON")
    settings = arguments.parse_args()
    torch.set_num_threads(settings.threads)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = settings.precision != "f32"
    spec = PRESETS[settings.preset]
    model = Llama(spec).to(settings.device)
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() == 2], "weight_decay": 0.1},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=2e-3, betas=(0.9, 0.95), fused=True)
    run = torch.compile(model) if settings.compile else model
    if not settings.json:
        print(
            f"{settings.preset}, {sum(p.numel() for p in parameters)} parameters, {settings.batch} x {spec.context} "
            f"tokens a step, {settings.device}, {settings.threads} threads, PyTorch {torch.__version__}"
        )
    micro_batch = settings.micro_batch or settings.batch
    short = {"f16": torch.float16, "bf16": torch.bfloat16}.get(settings.precision)
    mixed = lambda: torch.autocast(settings.device, short) if short else contextlib.nullcontext()
    seconds = []
    for _ in range(settings.steps):
        start = time.perf_counter()
        tokens = torch.randint(256, (settings.batch, spec.context + 1), device=settings.device)
        for some in tokens.split(micro_batch):
            with mixed():
                logits = run(some[:, :-1])
                loss = F.cross_entropy(logits.reshape(-1, spec.vocabulary).float(), some[:, 1:].reshape(-1))
            (loss * (len(some) / settings.batch)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        loss.item()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds[len(seconds) // 3 :])
    speed = settings.batch * spec.context / median
    memory = torch.cuda.max_memory_reserved() if settings.device == "cuda" else None
    if settings.json:
        result = {
            "preset": settings.preset,
            "precision": settings.precision,
            "micro_batch": micro_batch,
            "tokens_per_second": speed,
            "step_seconds": median,
            "first_step_seconds": seconds[0],
            "peak_memory_bytes": memory,
            "torch": torch.__version__,
        }
        print(json.dumps(result))
        return
    print(
        f"first step {seconds[0] * 1e3:.1f} ms; then median {median * 1e3:.1f} ms, fastest {min(seconds) * 1e3:.1f} ms; "
        f"{speed:.0f} tokens/s"
        + ("" if memory is None else f"; {memory / 1e9:.2f} GB reserved")
    )


if __name__ == "__main__":
    main()
