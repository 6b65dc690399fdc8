"""What the harness costs: its training step against a hand-written PyTorch loop of the same VAE.

Both sides train the same VAE with reparameterized gradients, dynamically binarised batches of 100 and fused Adam: the
perceptrons 784-200-200-20, or the convolutions of ``vae[network=conv]``. Rounds are interleaved, and the ratio is taken
within a round. Run on an otherwise idle machine:

    python tests/benchmarks/training_step.py
    python tests/benchmarks/training_step.py --model conv --steps 10
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from estbench import datasets
from estbench.execution import plan_of
from estbench.experiment.spec import experiment_from
from estbench.measure import measure_throughput
from estbench.stats import log_t_interval
from estbench.training import State, take_steps


def perceptrons() -> tuple[nn.Module, nn.Module]:
    """The encoder and the decoder of ``vae``."""
    encoder = nn.Sequential(nn.Linear(784, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 40))
    decoder = nn.Sequential(nn.Linear(20, 200), nn.Tanh(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 784))
    return encoder, decoder


def convolutions() -> tuple[nn.Module, nn.Module]:
    """The encoder and the decoder of ``vae[network=conv]``."""
    encoder = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        *(nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(3136, 256), nn.ReLU(), nn.Linear(256, 40)),
    )
    decoder = nn.Sequential(
        *(nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 3136), nn.Unflatten(1, (64, 7, 7)), nn.ReLU()),
        *(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1), nn.Flatten()),
    )
    return encoder, decoder


MODELS = {"mlp": ("vae", perceptrons), "conv": ("vae[network=conv]", convolutions)}


def hand_written(networks: Callable[[], tuple[nn.Module, nn.Module]]) -> Callable[[int], None]:
    """The loop that one would write for this model alone."""
    torch.manual_seed(0)
    pixels = torch.from_numpy(datasets.load("mnist5k").train)
    encoder, decoder = networks()
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)
    order, position = torch.randperm(len(pixels)), 0

    def take_steps(steps: int) -> None:
        nonlocal order, position
        for _ in range(steps):
            if position + 100 > len(pixels):
                order, position = torch.randperm(len(pixels)), 0
            intensities = pixels[order[position : position + 100]]
            position += 100
            x = torch.rand(intensities.shape).lt_(intensities)
            mu, log_sigma = encoder(x).chunk(2, dim=-1)
            z = mu + log_sigma.exp() * torch.randn_like(mu)
            reconstruction = F.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
            kl = -0.5 * (1 + 2 * log_sigma - mu.square() - (2 * log_sigma).exp()).sum()
            loss = (reconstruction + kl) / len(x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return take_steps


def harness(problem: str) -> Callable[[int], object]:
    """The training step that estbench takes."""
    plan = plan_of(experiment_from({"estimators": ["reparam"], "problems": [problem]}))
    state = State(plan.cells[0], torch.device("cpu"))
    return lambda steps: take_steps(state, steps)


def main() -> None:
    """Print the ratio of the two, per step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--steps", type=int, default=50, help="training steps in a round")
    parser.add_argument("--model", choices=MODELS, default="mlp")
    arguments = parser.parse_args()
    problem, networks = MODELS[arguments.model]
    rows = measure_throughput(
        {"hand-written": hand_written(networks), "estbench": harness(problem)},
        arguments.rounds,
        arguments.steps,
        torch.device("cpu"),
    )
    seconds = {
        side: np.array([row["seconds"] for row in rows if row["estimator"] == side])
        for side in ("hand-written", "estbench")
    }
    for side, values in seconds.items():
        print(f"{side:>12}: {1e3 * np.median(values) / arguments.steps:.3f} ms a step (median)")
    ratios = seconds["estbench"] / seconds["hand-written"]
    interval = log_t_interval(ratios)
    print(
        f"       ratio: {interval.value:.3f} (95 % {interval.low:.3f} to {interval.high:.3f}), median "
        f"{np.median(ratios):.3f}; n = {interval.n} paired rounds of {arguments.steps} steps, "
        f"{torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
