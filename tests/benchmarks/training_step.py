"""What the harness costs: its training step against a hand-written PyTorch loop of the same VAE and the same estimator.

Both sides train on dynamically binarised batches of 100 with fused Adam: the perceptrons 784-200-200-20, with normal,
Bernoulli or categorical latents, or the convolutions of ``vae[network=conv]``. Rounds are interleaved, and the ratio is
taken within a round. Run on an otherwise idle machine:

    python tests/benchmarks/training_step.py
    python tests/benchmarks/training_step.py --estimators reparam rloo
    python tests/benchmarks/training_step.py --model conv --steps 10 --estimators reparam
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from estbench import datasets
from estbench.execution import plan_of
from estbench.experiment.spec import experiment_from
from estbench.measure import measure_throughput
from estbench.stats import log_t_interval
from estbench.training import State, take_steps

Decode = Callable[[Tensor], Tensor]
LATENTS, CATEGORIES = 20, 10


def perceptrons(outputs: int, inputs: int) -> tuple[nn.Module, nn.Module]:
    """The encoder and the decoder of ``vae``."""
    encoder = nn.Sequential(nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, outputs))
    decoder = nn.Sequential(nn.Linear(inputs, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 784))
    return encoder, decoder


def convolutions(outputs: int, inputs: int) -> tuple[nn.Module, nn.Module]:
    """The encoder and the decoder of ``vae[network=conv]``."""
    encoder = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        *(nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(3136, 256), nn.ReLU(), nn.Linear(256, outputs)),
    )
    decoder = nn.Sequential(
        *(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 3136), nn.Unflatten(1, (64, 7, 7)), nn.ReLU()),
        *(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Flatten()),
    )
    return encoder, decoder


MODELS = {"mlp": perceptrons, "conv": convolutions}


def log_likelihood(logits: Tensor, x: Tensor) -> Tensor:
    """log p(x|z) of each sample, (S, B, X) to (S, B)."""
    return -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)


def normal_kl(mu: Tensor, log_sigma: Tensor) -> Tensor:
    """KL(q || N(0, 1)) of each image."""
    return -0.5 * (1 + 2 * log_sigma - mu.square() - (2 * log_sigma).exp()).sum(-1)


def normal_log_density(z: Tensor, mu: Tensor, log_sigma: Tensor) -> Tensor:
    """log N(z; mu, sigma), summed over the latents."""
    distance = (z - mu) / log_sigma.exp()
    return (-0.5 * distance.square() - log_sigma - 0.5 * math.log(2 * math.pi)).sum(-1)


def reparam(outputs: Tensor, decode: Decode, x: Tensor) -> Tensor:
    """The negative ELBO of one reparameterized sample."""
    mu, log_sigma = outputs.chunk(2, dim=-1)
    z = mu + log_sigma.exp() * torch.randn_like(mu)
    reconstruction = F.binary_cross_entropy_with_logits(decode(z), x, reduction="sum")
    return (reconstruction + normal_kl(mu, log_sigma).sum()) / len(x)


def score_function(samples: int) -> Callable[[Tensor, Decode, Tensor], Tensor]:
    """The score function of one sample, or of several that are each other's baselines."""

    def loss(outputs: Tensor, decode: Decode, x: Tensor) -> Tensor:
        mu, log_sigma = outputs.chunk(2, dim=-1)
        with torch.no_grad():
            z = mu + log_sigma.exp() * torch.randn(samples, *mu.shape)
        f = log_likelihood(decode(z), x)
        signal = f.detach()
        if samples > 1:
            signal = signal - (signal.sum(0) - signal) / (samples - 1)
        surrogate = (f + signal * normal_log_density(z, mu, log_sigma)).mean(0)
        return (normal_kl(mu, log_sigma) - surrogate).mean()

    return loss


def disarm(logits: Tensor, decode: Decode, x: Tensor) -> Tensor:
    """DisARM on bits with a fair-coin prior: f at two antithetic samples."""
    theta = logits.sigmoid()
    with torch.no_grad():
        u = torch.rand_like(theta)
        pair = torch.stack([(u < theta).float(), (1 - u < theta).float()])
    f = log_likelihood(decode(pair), x)
    with torch.no_grad():
        sign = torch.where(pair[0] == pair[1], 0.0, 1 - 2 * pair[1]) * logits.abs().sigmoid()
        weight = 0.5 * (f[0] - f[1])[:, None] * sign
    kl = (theta * logits + math.log(2) - F.softplus(logits)).sum(-1)
    return (kl - f.mean(0) - (weight * logits).sum(-1)).mean()


def gumbel_softmax(outputs: Tensor, decode: Decode, x: Tensor) -> Tensor:
    """One relaxed sample at temperature 0.5, with the KL of the categories."""
    logits = outputs.unflatten(-1, (LATENTS, CATEGORIES)).log_softmax(-1)
    gumbel = -torch.empty_like(logits).exponential_().log()
    y = ((logits + gumbel) / 0.5).softmax(-1)
    kl = (logits.exp() * (logits + math.log(CATEGORIES))).sum((-2, -1))
    return (kl - log_likelihood(decode(y.flatten(-2)), x)).mean()


def iwae(outputs: Tensor, decode: Decode, x: Tensor) -> Tensor:
    """The multi-sample bound of five reparameterized samples."""
    mu, log_sigma = outputs.chunk(2, dim=-1)
    z = mu + log_sigma.exp() * torch.randn(5, *mu.shape)
    zeros = torch.zeros_like(mu)
    log_weight = log_likelihood(decode(z), x) + normal_log_density(z, zeros, zeros)
    log_weight = log_weight - normal_log_density(z, mu, log_sigma)
    return -(log_weight.logsumexp(0) - math.log(5)).mean()


class Twin(NamedTuple):
    """An estimator of estbench, the options of its problem, and the loss that one would write for it."""

    estimator: str
    options: str
    outputs: int  # of the encoder
    inputs: int  # of the decoder
    loss: Callable[[Tensor, Decode, Tensor], Tensor]


TWINS = {
    "reparam": Twin("reparam", "", 2 * LATENTS, LATENTS, reparam),
    "reinforce": Twin("reinforce", "", 2 * LATENTS, LATENTS, score_function(1)),
    "rloo": Twin("rloo[num_samples=4]", "", 2 * LATENTS, LATENTS, score_function(4)),
    "disarm": Twin("disarm", "latents=bernoulli", LATENTS, LATENTS, disarm),
    "gumbel-softmax": Twin(
        "gumbel-softmax", "latents=categorical", LATENTS * CATEGORIES, LATENTS * CATEGORIES, gumbel_softmax
    ),
    "iwae": Twin("iwae", "importance_samples=5", 2 * LATENTS, LATENTS, iwae),
}


def hand_written(twin: Twin, model: str) -> Callable[[int], None]:
    """The loop that one would write for this model and this estimator alone."""
    torch.manual_seed(0)
    pixels = torch.from_numpy(datasets.load("mnist5k").train)
    encoder, decoder = MODELS[model](twin.outputs, twin.inputs)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)
    order, position = torch.randperm(len(pixels)), 0

    def take(steps: int) -> None:
        nonlocal order, position
        for _ in range(steps):
            if position + 100 > len(pixels):
                order, position = torch.randperm(len(pixels)), 0
            intensities = pixels[order[position : position + 100]]
            position += 100
            x = torch.rand(intensities.shape).lt_(intensities)
            loss = twin.loss(encoder(x), decoder, x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return take


def harness(twin: Twin, model: str) -> Callable[[int], object]:
    """The training step that estbench takes."""
    options = ",".join(filter(None, [twin.options, "network=conv" if model == "conv" else ""]))
    problem = f"vae[{options}]" if options else "vae"
    plan = plan_of(experiment_from({"estimators": [twin.estimator], "problems": [problem]}))
    state = State(plan.cells[0], torch.device("cpu"))
    return lambda steps: take_steps(state, steps)


def main() -> None:
    """Print the ratio of the two, per step, for each estimator."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=50, help="training steps in a round")
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--estimators", choices=TWINS, nargs="+", default=[*TWINS])
    arguments = parser.parse_args()
    for name in arguments.estimators:
        sides = {"hand-written": hand_written, "estbench": harness}
        rows = measure_throughput(
            {side: make(TWINS[name], arguments.model) for side, make in sides.items()},
            arguments.rounds,
            arguments.steps,
            torch.device("cpu"),
        )
        seconds = {side: np.array([row["seconds"] for row in rows if row["estimator"] == side]) for side in sides}
        interval = log_t_interval(seconds["estbench"] / seconds["hand-written"])
        medians = ", ".join(
            f"{side} {1e3 * np.median(each) / arguments.steps:.3f} ms" for side, each in seconds.items()
        )
        print(
            f"{name}: {interval.value:.3f} (95 % {interval.low:.3f} to {interval.high:.3f}); {medians} a step; "
            f"n = {interval.n} paired rounds of {arguments.steps} steps, {torch.get_num_threads()} threads",
            flush=True,
        )


if __name__ == "__main__":
    main()
