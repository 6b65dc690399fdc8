"""The share of intervals that hold the truth, for every statistic that has one: nominally 95 %, wanted 92 to 98 %.

Synthetic gradients go through the real accumulators in chunks of 2 and of a whole batch, and real estimators through
the probe on both paths. An interval with NaN ends says that it is none, and is not counted. ``python
tests/measure/test_coverage.py`` prints the table.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from oracles.linear_gaussian import LinearGaussianOracle
from scipy import stats

from estbench import estimators, problems
from estbench.measure import probe
from estbench.measure.gradients._linear import squared_deviations_of
from estbench.measure.gradients.bias import compare
from estbench.measure.gradients.moments import MomentAccumulator, chunk_sizes, summarise

pytestmark = pytest.mark.slow

REPLICATES = (20, 50, 100, 300)
EXPERIMENTS = 150
# A coverage of 92 % fails one of about 400 cells by chance with a probability below 1e-3 in all.
ALARM = stats.norm.ppf(1 - 1e-3 / 400)


def score(power):
    """Coefficients of the score-function gradient of E[(z + 3)^2], z ~ N(0, 1): times z for loc, z^2 - 1 for scale."""
    f = np.polynomial.polynomial.polymul([3, 1], [3, 1])
    return np.polynomial.polynomial.polymul(f, [0, 1] if power == 1 else [-1, 0, 1])


def moments_of(coefficients):
    def expectation(c):
        return sum(a * (stats.norm.moment(k) if k else 1) for k, a in enumerate(c))

    mean = expectation(coefficients)
    return mean, expectation(np.polynomial.polynomial.polymul(coefficients, coefficients)) - mean**2


def normal(examples, size, mean, falling):
    """Normal gradients of B examples around means of their own: (R, B, P), the examples' means, tr Cov of each."""
    scale = 1 / np.arange(1, size + 1) if falling else np.ones(size)

    def draw(rng, replicates):
        means = mean * np.eye(size)[0] + scale * rng.standard_normal((examples, size)) * (examples > 1)
        return means + scale * rng.standard_normal((replicates, examples, size)), means

    return draw, scale @ scale, scale @ scale * (examples > 1)


def polynomial(examples, powers):
    """Score-function gradients of (z + 3)^2, with one normal number behind all coordinates of an example."""
    coefficients = [score(power) for power in powers]
    known = [moments_of(each) for each in coefficients]

    def draw(rng, replicates):
        z = rng.standard_normal((replicates, examples))
        means = np.tile([mean for mean, _ in known], (examples, 1))
        return np.stack([np.polynomial.polynomial.polyval(z, each) for each in coefficients], -1), means

    return draw, sum(variance for _, variance in known), 0.0


LAWS = {
    "one number": normal(1, 1, 0.0, False),
    "one number, signal": normal(1, 1, 1.0, False),
    "ten numbers": normal(1, 10, 0.3, False),
    "falling scales": normal(1, 60, 0.5, True),
    "minibatch": normal(30, 3, 1.0, False),
    "heavy loc": polynomial(1, (1,)),
    "heavy scale": polynomial(1, (2,)),
    "heavy both": polynomial(1, (1, 2)),
    "heavy minibatch": polynomial(10, (1,)),
}


def measured(law, replicates, largest, rng):
    """Statistic, its interval and the truth, of one simulated probe."""
    draw, trace, between = LAWS[law]
    gradients, means = draw(rng, replicates)
    gradients, mean = torch.from_numpy(gradients), torch.from_numpy(means.mean(0))
    examples = gradients.shape[1]
    accumulator = MomentAccumulator(gradients.shape[2], gradients, examples=examples)
    for chunk in gradients.split(chunk_sizes(replicates, largest)):
        accumulator.next_sum.add_(chunk.mean(1).sum(0))
        noise, shared = squared_deviations_of(chunk, cross=True)
        accumulator.add(len(chunk), noise.sum(1) / examples**2, shared)
    variance, norm2 = trace / examples, float(mean @ mean)
    truths = {"variance": variance, "mean_norm2": norm2, "snr": math.sqrt(norm2 / variance)}
    if between:
        truths["data_variance"] = between / examples
    found = summarise(accumulator)
    bias = torch.zeros_like(mean)
    bias[-1] = math.sqrt(variance / 30)
    origin = mean - bias
    found |= compare(accumulator, origin, None)
    if origin.norm() > 0:
        truths["bias_bound"] = float(bias.norm() / origin.norm())
    truths["bias2"] = float(bias @ bias)
    return {name: (found[name], truth) for name, truth in truths.items() if name in found}


def coverage(law, replicates, largest, experiments=EXPERIMENTS):
    """By statistic: intervals that hold the truth, intervals, experiments."""
    rng = np.random.default_rng([replicates, largest, *law.encode()])
    counts = defaultdict(lambda: np.zeros(3))
    for _ in range(experiments):
        for name, (interval, truth) in measured(law, replicates, largest, rng).items():
            there = not math.isnan(interval.low)
            counts[name] += [there and interval.low <= truth <= interval.high * (1 + 1e-12), there, 1]
    return counts


def lowest(intervals):
    """The lowest share that so many intervals of a coverage of 92 % leave by chance."""
    return 0.92 - ALARM * math.sqrt(0.92 * 0.08 / max(intervals, 1))


@pytest.mark.parametrize("law", LAWS)
def test_intervals_hold_the_truth_whatever_the_chunk(law):
    """Each statistic, R and chunk by itself, and then all R and chunks of a statistic together, which is sharper."""
    total = defaultdict(lambda: np.zeros(3))
    for replicates in REPLICATES:
        for largest in (2, 1000):
            for name, counts in coverage(law, replicates, largest).items():
                total[name] += counts
                if counts[1] >= 0.1 * counts[2]:
                    assert counts[0] / counts[1] >= lowest(counts[1]), (name, replicates, largest)
    for name, (inside, there, _) in total.items():
        assert inside / there >= lowest(there), name
        if not law.startswith("heavy") and name in {"variance", "mean_norm2", "bias2", "data_variance"}:
            assert inside / there <= 0.98 + ALARM * math.sqrt(0.02 * 0.98 / there), name


def small(latents="normal"):
    torch.manual_seed(1)
    problem = problems.create("vae[dataset=digits,latent_size=2,hidden=[]]")
    return problem, problem.observe(torch.from_numpy(problem.data.train[:6]), torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("variant", "path", "replicates"),
    [
        ("reparam", "auto", 20),
        ("rloo[num_samples=40]", "auto", 50),
        ("reinforce", "auto", 50),
        ("reparam", "loop", 20),
    ],
)
def test_the_probe_s_intervals_hold_what_many_replicates_find(variant, path, replicates):
    """Both spaces of a small VAE against one probe of 10,000 replicates (its own error is a tenth of an interval)."""
    problem, batch = small()
    estimator = estimators.create(variant)
    truth = probe(problem, estimator, batch, 10_000, seed=10**6)
    counts = defaultdict(lambda: np.zeros(2))
    for seed in range(120 if path == "auto" else 60):
        for row in probe(problem, estimator, batch, replicates, seed=seed, path=path).rows:
            where = row["space"], row["group"], row["statistic"]
            if row["statistic"] in {"variance", "mean_norm2", "snr"} and not math.isnan(row["low"]):
                counts[where] += [row["low"] <= truth.value(*where) <= row["high"], 1]
    assert counts
    for where, (inside, there) in counts.items():
        assert inside / there >= lowest(there), where


@pytest.mark.parametrize("replicates", [50, 100])
def test_the_heaviest_tails_of_one_example_on_the_loop_path(replicates):
    """Plain score function of -(x - z)^2 / 2 at one example, in the space of the parameters: closed forms."""
    problem, x = LinearGaussianOracle(), torch.tensor([[1.5]]).double()
    estimator = estimators.create("reinforce").eval()
    params = problem.encode(x)
    m, s = (float(params[name].detach()) for name in ("loc", "log_scale"))
    s = math.exp(s)
    d = m - 1.5
    truths = {
        ("loc", "variance"): (d**4 / s**2 + 14 * d**2 + 15 * s**2) / 4,
        ("loc", "mean_norm2"): (-d - m) ** 2,
        ("log_scale", "variance"): s**2 * (2 * d**4 / s**2 + 60 * d**2 + 74 * s**2) / 4,
        ("log_scale", "mean_norm2"): (-(s**2) - (s**2 - 1)) ** 2,
    }
    counts = defaultdict(lambda: np.zeros(2))
    for seed in range(150):
        found = probe(problem, estimator, x, replicates, seed=seed)
        for row in found.rows:
            truth = truths.get((row["group"], row["statistic"]))
            if row["space"] == "params" and truth is not None and not math.isnan(row["low"]):
                counts[row["group"], row["statistic"]] += [row["low"] <= truth <= row["high"], 1]
    assert set(counts) == set(truths)
    for where, (inside, there) in counts.items():
        assert inside / there >= lowest(there), where


if __name__ == "__main__":
    for law in LAWS:
        for replicates in REPLICATES:
            for largest in (2, 1000):
                cells = coverage(law, replicates, largest, 1000).items()
                told = (f"{name} {a / b:.3f}" + (f" of {b / c:.0%}" if b < c else "") for name, (a, b, c) in cells if b)
                print(f"{law}, R = {replicates}, chunks of at most {largest}:", ", ".join(told), flush=True)
