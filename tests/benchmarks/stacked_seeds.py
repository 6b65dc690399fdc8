"""Five seeds of one VAE trained as batched matrix products in one process, against one seed after the other.

Both sides are written by hand, 784-200-200-20 with tanh, reparameterized, batches of 100 binarised digits, fused Adam.
The question is whether it would pay to train the seeds of a cell together: `--jobs 2` gains what `jobs.py` prints. Run
on an otherwise idle machine:

    python tests/benchmarks/stacked_seeds.py
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from training_step import LATENTS, TWINS, hand_written

from estbench import datasets
from estbench.measure import measure_throughput
from estbench.stats import log_t_interval

BATCH = 100


class StackedLinear(nn.Module):
    """A linear layer with weights of its own for each seed: (S, B, inputs) to (S, B, outputs)."""

    def __init__(self, seeds: int, inputs: int, outputs: int) -> None:
        super().__init__()
        layers = [nn.Linear(inputs, outputs) for _ in range(seeds)]
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers])[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """Each seed's own product."""
        return torch.baddbmm(self.bias, x, self.weight)


def perceptron(seeds: int, *sizes: int) -> nn.Sequential:
    """Stacked linear layers with tanh between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [StackedLinear(seeds, inputs, outputs), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def stacked(seeds: int) -> Callable[[int], None]:
    """A loop that takes a step of all seeds at once."""
    torch.manual_seed(0)
    pixels = torch.from_numpy(datasets.load("mnist5k").train)
    encoder = perceptron(seeds, 784, 200, 200, 2 * LATENTS)
    decoder = perceptron(seeds, LATENTS, 200, 200, 784)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-3, fused=True)

    def take(steps: int) -> None:
        for _ in range(steps):
            intensities = pixels[torch.randint(len(pixels), (seeds, BATCH))]
            x = torch.rand(intensities.shape).lt_(intensities)
            # The loss divides by the length of x, which is the number of seeds; each seed's is a mean over its batch.
            loss = TWINS["reparam"].loss(encoder(x), decoder, x) * seeds / BATCH
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return take


def main() -> None:
    """Print the ratio of the seconds per step of a seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20, help="steps of each seed in a round")
    arguments = parser.parse_args()
    one = hand_written(TWINS["reparam"], "mlp")
    sides = {"one by one": lambda steps: one(steps * arguments.seeds), "stacked": stacked(arguments.seeds)}
    rows = measure_throughput(sides, arguments.rounds, arguments.steps, torch.device("cpu"))
    seconds = {side: torch.tensor([row["seconds"] for row in rows if row["estimator"] == side]) for side in sides}
    interval = log_t_interval((seconds["stacked"] / seconds["one by one"]).numpy())
    print(
        f"{arguments.seeds} seeds stacked: {interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}] of one by "
        f"one; n = {interval.n} paired rounds of {arguments.steps} steps, {torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
