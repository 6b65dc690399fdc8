"""What the fast path gains: the moments of R gradients three ways, interleaved, on one 784-200-200-20 VAE.

* ``loop``: a forward and a backward call per replicate;
* ``vmap``: whole gradients of the replicates by ``torch.func``, in chunks of ten;
* ``fast``: the probe's fast path, which also gives intervals and the data's share, in both spaces;
* ``decoder``: no measurement: R decoder passes, forward and back to the variational parameters, in the same chunks;
* ``floor``: the same, with the products for the decoder's mean gradient. No probe of R samples of z can do without.

The first three end with the trace of the covariance of the encoder's and the decoder's gradient. Rounds are
interleaved, and ratios are taken within a round. Afterwards, seconds and peak memory of the fast path up to 10,000
replicates, each in a process of its own. Run on an otherwise idle machine:

    python tests/benchmarks/probe_speed.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from unittest import mock

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from estbench import estimators, problems
from estbench.estimators import Estimator
from estbench.measure import measure_throughput, probe
from estbench.problems import Problem
from estbench.stats import log_t_interval

CHUNK = 10
SCALE = """
import sys, time
sys.path.insert(0, sys.argv[3])
import torch
from probe_speed import setting
from estbench.measure import probe
from estbench.measure.memory import PeakMemory
torch.set_num_threads(int(sys.argv[2]))
problem, estimator, batch = setting(sys.argv[4])
probe(problem, estimator, batch, 20)
memory = PeakMemory(batch.device)
memory.reset()
started = time.perf_counter()
probe(problem, estimator, batch, int(sys.argv[1]))
peak = memory.bytes()
print(f"{time.perf_counter() - started:.2f} s, peak {'unknown' if peak is None else f'{peak / 2**20:,.0f} MiB'}")
"""


def setting(device: str) -> tuple[Problem, Estimator, Tensor]:
    """The VAE, reparameterized gradients and a minibatch of 100."""
    torch.manual_seed(0)
    problem = problems.create("vae")
    batch = problem.observe(torch.from_numpy(problem.data.train[:100]), torch.Generator().manual_seed(0))
    return problem.to(device), estimators.create("reparam").eval(), batch.to(device)


def moments(problem: Problem, chunks: Iterator[list[Tensor]], replicates: int) -> dict[str, float]:
    """Trace of the covariance by group, from running sums of gradients and of their squares: (n, ...) per weight."""
    weights = [weight for group in problem.groups().values() for weight in group]
    sums, squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    for chunk in chunks:
        for total, square, gradient in zip(sums, squares, chunk, strict=True):
            total.add_(gradient.sum(0))
            square.add_(gradient.square().sum(0))
    parts = iter(zip(sums, squares, strict=True))
    found = {}
    for name, group in problem.groups().items():
        own = [next(parts) for _ in group]
        found[name] = sum(float((s - t.square() / replicates).sum()) for t, s in own) / (replicates - 1)
    return found


def loop(problem: Problem, estimator: Estimator, batch: Tensor, replicates: int) -> dict[str, float]:
    """A backward call per replicate."""
    weights = [weight for group in problem.groups().values() for weight in group]

    def draw() -> Iterator[list[Tensor]]:
        for _ in range(replicates):
            yield [part[None] for part in torch.autograd.grad(estimator(problem(batch)).mean(), weights)]

    return moments(problem, draw(), replicates)


def vmapped(problem: Problem, estimator: Estimator, batch: Tensor, replicates: int) -> dict[str, float]:
    """Whole gradients of ten replicates at a time."""
    named = {weight: name for name, weight in problem.named_parameters()}
    order = [named[weight] for group in problem.groups().values() for weight in group]
    parameters = {name: weight.detach() for name, weight in problem.named_parameters()}

    class Surrogate(torch.nn.Module):
        """The minibatch-mean surrogate as a module's output, whose weights can be replaced."""

        def __init__(self) -> None:
            super().__init__()
            self.problem = problem

        def forward(self, x: Tensor) -> Tensor:
            return estimator(self.problem(x)).mean()

    surrogate = Surrogate()

    def gradient(weights: dict[str, Tensor], noise: Tensor) -> dict[str, Tensor]:
        # torch.distributions fills its noise in place, which vmap cannot: it comes from outside.
        with mock.patch("torch.distributions.normal._standard_normal", return_value=noise):
            return grad(
                lambda own: functional_call(surrogate, {f"problem.{name}": own[name] for name in own}, (batch,))
            )(weights)

    many = vmap(gradient, in_dims=(None, 0))
    latents = problem.encode(batch)["loc"].shape

    def draw() -> Iterator[list[Tensor]]:
        for _ in range(replicates // CHUNK):
            found = many(parameters, torch.randn(CHUNK, 1, *latents, device=batch.device))
            yield [found[name] for name in order]

    return moments(problem, draw(), replicates)


def fast(problem: Problem, estimator: Estimator, batch: Tensor, replicates: int) -> dict[str, float]:
    """The probe."""
    found = probe(problem, estimator, batch, replicates)
    return {group: found.value("weights", group, "variance") for group in problem.groups()}


def decoder(
    problem: Problem, estimator: Estimator, batch: Tensor, replicates: int, weights: Sequence[Tensor] = ()
) -> dict[str, float]:
    """Surrogates of all replicates, and their gradients at the variational parameters and ``weights``; none is kept."""
    with torch.no_grad():
        params = problem.encode(batch)
    for _ in range(replicates // CHUNK):
        expanded = {name: value.expand(CHUNK, *value.shape).clone().requires_grad_() for name, value in params.items()}
        surrogates = estimator(problem.objective(expanded, batch))
        torch.autograd.grad(surrogates.sum(), [*expanded.values(), *weights])
    return {}


def floor(problem: Problem, estimator: Estimator, batch: Tensor, replicates: int) -> dict[str, float]:
    """The same, with the decoder's weights."""
    return decoder(problem, estimator, batch, replicates, problem.groups()["decoder"])


SIDES: dict[str, Callable[[Problem, Estimator, Tensor, int], dict[str, float]]] = {
    "loop": loop,
    "vmap": vmapped,
    "fast": fast,
    "decoder": decoder,
    "floor": floor,
}
MEASURED = ("loop", "vmap", "fast")


def main() -> None:
    """Print times, paired ratios, the variances that each side found, and how the fast path grows with R."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda for a GPU")
    parser.add_argument("--no-scale", action="store_true", help="leave out the runs of 100 to 10,000 replicates")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    problem, estimator, batch = setting(arguments.device)
    for name in MEASURED:
        values = SIDES[name](problem, estimator, batch, 100)
        found = ", ".join(f"{group} {value:.4g}" for group, value in values.items())
        print(f"{name:>7}: variance {found}")
    rows = measure_throughput(
        {
            name: lambda _, side=side: side(problem, estimator, batch, arguments.replicates)  # type: ignore[misc]
            for name, side in SIDES.items()
        },
        arguments.rounds,
        1,
        batch.device,
    )
    seconds = {name: np.array([row["seconds"] for row in rows if row["estimator"] == name]) for name in SIDES}
    print(
        f"R = {arguments.replicates}, B = {len(batch)}, {arguments.threads} threads, {arguments.rounds} paired rounds"
    )
    for name, values in seconds.items():
        print(f"{name:>7}: {np.median(values):.4f} s (median)")
    for name, other in (("loop", "fast"), ("vmap", "fast"), ("fast", "floor"), ("loop", "floor"), ("loop", "decoder")):
        ratio = log_t_interval(seconds[name] / seconds[other])
        print(f"{name} / {other}: {ratio.value:.2f} (95 % {ratio.low:.2f} to {ratio.high:.2f}), n = {ratio.n}")
    for replicates in () if arguments.no_scale else (100, 1000, 10_000):
        folder = __file__.rpartition("/")[0] or "."
        command = [sys.executable, "-c", SCALE, str(replicates), str(arguments.threads), folder, arguments.device]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"R = {replicates:,}: {done.stdout.strip()}")


if __name__ == "__main__":
    main()
