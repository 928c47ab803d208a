"""Do the kernels' work in PyTorch: error feedback, top-k of each chunk, signs and a scale, packing; then applying.

    venv/bin/python docs/bench/kernels.py [millions of parameters, 16] [contributions, 16] [threads, all]

prints the best of five runs in milliseconds. `WEAL_PYTHON=venv/bin/python cargo bench -p weal-kernels` runs it after the
Rust benchmark. PyTorch packs 16 bits for a place and 8 for a sign; it neither codes gaps nor checks nor hashes.
"""

import sys
import time

import torch

CHUNK, KEEP, DECAY = 4096, 32, 0.9


def best(run, runs=5):
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def compress(delta, error):
    """delta, error: [chunks, CHUNK]; `error` is updated in place. Returns places, signs and scales."""
    error.mul_(DECAY).add_(delta)
    places = error.abs().topk(KEEP, dim=1, sorted=False).indices.sort(dim=1).values
    kept = error.gather(1, places)
    scales = kept.abs().mean(1, keepdim=True)
    signs = kept.sign()
    error.scatter_add_(1, places, -scales * signs)
    return places.to(torch.int16), signs.to(torch.int8), scales.to(torch.float16)


def apply(theta, contributions, alpha):
    summed, senders = torch.zeros_like(theta), torch.zeros_like(theta)
    for places, signs, scales in contributions:
        places, values = places.long(), signs.float() * scales.float()
        summed.scatter_add_(1, places, values)
        senders.scatter_add_(1, places, torch.ones_like(values))
    theta.sub_(alpha * summed / senders.clamp_(min=1))


def main():
    numbers = [int(argument) for argument in sys.argv[1:]]
    millions, peers, threads = (numbers + [16, 16, torch.get_num_threads()][len(numbers) :])[:3]
    torch.set_num_threads(threads)
    shape = (millions * 1_000_000 // CHUNK, CHUNK)
    theta, error, delta, copy = (torch.randn(shape) ** 3 for _ in range(4))
    contributions = [compress(torch.randn(shape), torch.zeros(shape)) for _ in range(peers)]
    print(f"PyTorch {torch.__version__}, {millions} M parameters, {peers} contributions, {threads} threads")
    print(f"copy            {best(lambda: copy.copy_(theta)):9.2f} ms")
    print(f"compress        {best(lambda: compress(delta, error)):9.2f} ms")
    print(f"apply           {best(lambda: apply(theta, contributions, 1e-3)):9.2f} ms")


if __name__ == "__main__":
    main()
