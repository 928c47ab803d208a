"""Record steps of PyTorch's AdamW and Muon, with which a test compares the trainer's.

    venv/bin/python docs/bench/optimisers.py > trainer/tests/data/optimisers.json

Three steps each from random weights and gradients: a wide matrix, a tall one, and a vector (AdamW only). Muon is
Moonlight's (Liu et al., 2025, https://arxiv.org/abs/2502.16982): the step is scaled to the root mean square of AdamW's.
PyTorch orthogonalises in bfloat16; this script does it in f32, so that only the last bits differ.
"""

import json

import torch

STEPS = 3
RATE, DECAY = 0.02, 0.1
BETAS, EPSILON = (0.9, 0.95), 1e-8
MOMENTUM = 0.95


def recorded(optimiser, shape, generator):
    weight = torch.randn(shape, generator=generator)
    parameter = torch.nn.Parameter(weight.clone())
    optimiser = optimiser(parameter)
    steps = []
    for _ in range(STEPS):
        gradient = torch.randn(shape, generator=generator)
        parameter.grad = gradient.clone()
        optimiser.step()
        steps.append(dict(gradient=gradient.flatten().tolist(), weight=parameter.detach().flatten().tolist()))
    return dict(shape=list(shape), weight=weight.flatten().tolist(), steps=steps)


def adamw(parameter):
    # As in the trainer, gains of norms do not decay.
    decay = DECAY if parameter.dim() == 2 else 0.0
    return torch.optim.AdamW([parameter], lr=RATE, betas=BETAS, eps=EPSILON, weight_decay=decay)


def muon(parameter):
    return torch.optim.Muon(
        [parameter], lr=RATE, weight_decay=DECAY, momentum=MOMENTUM, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )


def main():
    generator = torch.Generator().manual_seed(7)
    torch.bfloat16 = torch.float32
    print(
        json.dumps(
            dict(
                rate=RATE, decay=DECAY, beta1=BETAS[0], beta2=BETAS[1], momentum=MOMENTUM,
                adamw=[recorded(adamw, shape, generator) for shape in [(3, 5), (6, 2), (4,)]],
                muon=[recorded(muon, shape, generator) for shape in [(3, 5), (6, 2)]],
            ),  # fmt: skip
        )
    )


if __name__ == "__main__":
    main()
