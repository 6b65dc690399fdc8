"""The distribution of an estimator's gradient on a small problem whose exact gradient is known, and its picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray

from estbench import estimators, measure, problems
from estbench.certify import SmallProblem, small_problems_for
from estbench.certify.sampling import sample_gradients
from estbench.estimators import ESTIMATORS
from estbench.estimators.requirements import families
from estbench.randomness import seeded
from estbench.report.figures.style import COLOURS, RC

REPLICATES = 4000
BINS = 61
# The score function without a baseline: it takes every problem of its bound, and is drawn in grey for comparison.
COMPARED = {"elbo": "reinforce", "multi-sample": "reinforce-iwae"}
# Toys by the family of their latents; other families have the small problems of the certificate.
TOYS = {"normal": "gaussian_toy", "bernoulli": "bernoulli_toy[bits=3,target=0.0,theta=0.8]"}
THEMES = {
    "light": {"ink": "#222222", "soft": "#8a8a8a", "fill": COLOURS[0], "line": COLOURS[1]},
    "dark": {"ink": "#e0e0e0", "soft": "#9a9a9a", "fill": "#56b4e9", "line": "#ff9955"},
}


class Draws(NamedTuple):
    """Independent values of one coordinate of an estimator's gradient, with the exact value."""

    coordinate: str
    values: NDArray[np.float64]
    exact: float


class Example(NamedTuple):
    """A small problem in words, an estimator's draws on it, and those of the compared estimator."""

    problem: str
    draws: list[Draws]
    compared: str
    others: list[Draws]


def example_of(name: str, replicates: int = REPLICATES) -> Example:
    """Draw the gradient of an estimator with its defaults on the smallest problem that it supports."""
    cls = ESTIMATORS.get(name)
    bound = "elbo" if "elbo" in cls.bounds else "multi-sample"
    compared, supported = COMPARED[bound], families(cls.supports)
    toy = next((toy for family, toy in TOYS.items() if family in supported and bound == "elbo"), None)
    if toy is not None:
        return Example(toy, _draw_on_toy(name, toy, replicates), compared, _draw_on_toy(compared, toy, replicates))
    small = small_problems_for(cls.supports, {bound})[0]
    return Example(
        small.name, _draw_on_small(name, small, replicates), compared, _draw_on_small(compared, small, replicates)
    )


def _draw_on_toy(name: str, toy: str, replicates: int) -> list[Draws]:
    with seeded(0, torch.device("cpu")):  # learned parts start from random weights
        problem = problems.create(toy)
        estimator = estimators.create_for(name, problem)
        batch = torch.zeros(1, 1)
        estimator.prepare(problem(batch))
    drawn = measure.draw_gradients(problem, estimator, batch, replicates)
    exact = measure.exact_reference(problem, batch)
    return [
        _first_coordinate(parameter, values.flatten(1), exact.means["params", parameter])
        for parameter, values in drawn.items()
    ]


def _draw_on_small(name: str, problem: SmallProblem, replicates: int) -> list[Draws]:
    with seeded(0, torch.device("cpu")):
        estimator = estimators.create(name)
        estimator.prepare(problem.objective(problem.leaf_tensors()))
        drawn = sample_gradients(estimator.eval(), problem, replicates)
    exact = problem.exact_gradient()
    return [
        _first_coordinate(parameter, drawn[parameter].flatten(1), exact[parameter].flatten())
        for parameter in problem.params
    ]


def _first_coordinate(parameter: str, values: torch.Tensor, exact: torch.Tensor) -> Draws:
    coordinate = parameter if values.shape[1] == 1 else f"{parameter}, first coordinate"
    return Draws(coordinate, values[:, 0].double().numpy(), float(exact[0]))


def draw_picture(ours: Draws, other: Draws, theme: str, file: Path) -> None:
    """Write the histogram of a coordinate as SVG: the estimator filled, the compared one in outline."""
    colours = THEMES[theme]
    ink, soft = colours["ink"], colours["soft"]
    softer, darker = ("axes.edgecolor", "xtick.color"), ("text.color", "axes.labelcolor", "xtick.labelcolor")
    settings: Any = {**RC, **dict.fromkeys(softer, soft), **dict.fromkeys(darker, ink), "axes.grid": False}
    with plt.rc_context(settings):
        figure, place = plt.subplots(figsize=(3.7, 2.2), layout="constrained", facecolor="none")
        edges = np.linspace(*span_of(ours, other), BINS)
        place.set_facecolor("none")
        place.hist(ours.values, edges, color=colours["fill"], alpha=0.85)
        place.hist(other.values, edges, histtype="step", color=soft, linewidth=1.2)
        place.axvline(ours.exact, color=colours["line"], linewidth=1.6)
        place.set_xlabel(f"gradient of {ours.coordinate}")
        place.set_yticks([])
        place.spines["left"].set_visible(False)
        figure.savefig(file, format="svg", metadata={"Date": None}, transparent=True)
        plt.close(figure)


def span_of(ours: Draws, other: Draws) -> tuple[float, float]:
    """Return the span of the picture: the central 94 % of both estimators, and the exact value."""
    ends = np.concatenate([np.quantile(each.values, [0.03, 0.97]) for each in (ours, other)])
    low, high = min(float(ends.min()), ours.exact), max(float(ends.max()), ours.exact)
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def share_outside(draws: Draws, span: tuple[float, float]) -> float:
    """Return the share of the values that the picture does not show."""
    return float(((draws.values < span[0]) | (draws.values > span[1])).mean())
