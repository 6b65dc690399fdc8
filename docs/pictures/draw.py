"""Draw the pictures of the lesson: ``python docs/pictures/draw.py`` writes four SVG files beside this one.

Three show which way the gradient takes from f back to the weights of the encoder. The fourth is measured: 20,000
gradients of each of three estimators on a toy whose gradient is known.
"""

# ruff: noqa: INP001  (a script, no package)
from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from estbench import estimators, measure, problems

DRAWS = 20_000
ESTIMATORS = {
    "detached": "detached: the gradient is blocked",
    "reinforce": "reinforce: the score function",
    "reparam": "reparam: through z = mu + sigma * eps",
}
INK, FORWARD, BACK, NOISE = "#222222", "#8a8a8a", "#0072B2", "#D55E00"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": INK,
    "svg.fonttype": "path",
    "svg.hashsalt": "estbench",
    "figure.facecolor": "white",
}
# Where the boxes of a picture are: the encoder's output, the sample, the value of f; and noise, or the score.
ENCODER, SAMPLE, VALUE, BELOW = (1.2, 2.0), (4.6, 2.0), (8.0, 2.0), (4.6, 0.55)
HALF, EDGE = 1.05, 1.15  # of the width of a box, without its edge and with it


def gradients(draws: int = DRAWS) -> tuple[dict[str, torch.Tensor], float]:
    """Return ``draws`` gradients of each estimator with respect to mu, (draws,) each, and the exact one."""
    problem, copies = problems.create("gaussian_toy"), torch.zeros(1, 1)
    drawn = {
        name: measure.draw_gradients(problem, estimators.create(name), copies, replicates=draws)["loc"].flatten()
        for name in ESTIMATORS
    }
    problem(copies).exact().sum().backward()
    return drawn, float(problem.loc.grad)


def _box(axes: Axes, at: tuple[float, float], text: str, *, round_: bool = False, colour: str = INK) -> None:
    style = "round,pad=0.06,rounding_size=0.32" if round_ else "square,pad=0.06"
    x, y = at
    axes.add_patch(FancyBboxPatch((x - HALF, y - 0.32), 2 * HALF, 0.64, boxstyle=style, fc="white", ec=colour, lw=1.4))
    axes.text(x, y, text, ha="center", va="center", color=colour)


def _arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, *, dash: str = "-", bend: float = 0
) -> None:
    shape = {"arrowstyle": "-|>", "mutation_scale": 16, "connectionstyle": f"arc3,rad={bend}"}
    axes.add_patch(FancyArrowPatch(start, end, color=colour, lw=1.8, ls=dash, shrinkA=0, shrinkB=0, **shape))


def _scene(title: str, sample: str, *, below: bool) -> tuple[Figure, Axes]:
    """Begin a picture: three boxes, and the two grey arrows of the forward computation between them."""
    figure, axes = plt.subplots(figsize=(7.4, 2.4 if below else 1.6))
    axes.set(xlim=(0, 9.4), ylim=(0 if below else 1.0, 2.5), aspect="equal")
    axes.axis("off")
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    _box(axes, ENCODER, "mu, sigma")
    _box(axes, SAMPLE, sample, round_=True)
    _box(axes, VALUE, "f(z)")
    for left, right in ((ENCODER, SAMPLE), (SAMPLE, VALUE)):
        _arrow(axes, (left[0] + EDGE, 2.15), (right[0] - EDGE, 2.15), FORWARD)
    return figure, axes


def _back(axes: Axes, start: tuple[float, float], end: tuple[float, float], text: str = "") -> None:
    """Draw one step of the gradient, from right to left, with what the chain rule multiplies there."""
    _arrow(axes, (start[0] - EDGE, 1.85), (end[0] + EDGE, 1.85), BACK)
    axes.text((start[0] + end[0]) / 2, 1.55, text, ha="center", va="top", color=BACK, fontsize=9.5)


def blocked() -> Figure:
    """The gradient of f comes to the random draw, and ends there."""
    figure, axes = _scene("Blocked: a random draw has no derivative", "z ~ q", below=False)
    _back(axes, VALUE, SAMPLE, "df / dz")
    x = SAMPLE[0] - 1.4
    axes.plot([x, x], [1.45, 2.0], color=NOISE, lw=4, solid_capstyle="butt")
    axes.text(x - 0.05, 1.35, "dz / dmu = ?", ha="center", va="top", color=NOISE, fontsize=9.5)
    return figure


def detour() -> Figure:
    """The value of f goes around the sample and weighs the gradient of the log density."""
    figure, axes = _scene("The detour of the score function: f is only a number", "z ~ q", below=True)
    _box(axes, BELOW, "log q(z)", colour=BACK)
    _arrow(axes, (VALUE[0], 1.58), (BELOW[0] + EDGE, 0.55), BACK, dash=(0, (4, 2)), bend=-0.25)
    axes.text(7.55, 0.62, "weight: the value f(z)", ha="left", va="top", color=BACK, fontsize=9.5)
    _arrow(axes, (BELOW[0] - EDGE, 0.55), (ENCODER[0], 1.58), BACK, bend=-0.25)
    axes.text(1.55, 0.62, "grad log q(z)", ha="right", va="top", color=BACK, fontsize=9.5)
    _arrow(axes, (SAMPLE[0], 1.58), (BELOW[0], 0.95), FORWARD)
    _arrow(axes, (ENCODER[0] + 0.55, 1.58), (BELOW[0] - EDGE, 0.75), FORWARD, bend=0.12)
    return figure


def passed_through() -> Figure:
    """The noise comes from the side, so each step from f to mu and sigma has a derivative."""
    figure, axes = _scene("Passed through: the noise comes from the side", "z = mu\n+ sigma · eps", below=True)
    _back(axes, VALUE, SAMPLE, "df / dz")
    _back(axes, SAMPLE, ENCODER, "dz / dmu = 1\ndz / dsigma = eps")
    _box(axes, BELOW, "eps ~ N(0, 1)", round_=True, colour=NOISE)
    _arrow(axes, (BELOW[0], 0.95), (BELOW[0], 1.58), NOISE)
    return figure


def histograms() -> Figure:
    """The gradients of three estimators, one below the other on the same axis, and the exact gradient."""
    drawn, exact = gradients()
    figure, panels = plt.subplots(len(drawn), 1, figsize=(7.4, 5.0), sharex=True, layout="constrained")
    everything = torch.cat(list(drawn.values()))
    edges = torch.linspace(float(everything.min()), float(everything.max()), 200).tolist()
    for axes, (name, values) in zip(panels, drawn.items(), strict=True):
        axes.hist(values.tolist(), bins=edges, color=BACK, log=True, histtype="stepfilled")
        axes.axvline(exact, color=NOISE, lw=1.6)
        moments = f"mean {values.mean():.2f}, variance {values.var():.2f}"
        axes.set_title(f"{ESTIMATORS[name]}   ({moments})", loc="left", fontsize=10.5)
        axes.set(ylim=(0.5, 3 * DRAWS), ylabel="draws")
        axes.spines[["top", "right"]].set_visible(False)
    above = panels[0].get_xaxis_transform()
    panels[0].text(exact - 1, 0.5, f"exact gradient {exact:g}", transform=above, ha="right", color=NOISE)
    panels[-1].set_xlabel("gradient with respect to mu, one draw each (numbers of draws on a log axis)")
    return figure


PICTURES = {"blocked": blocked, "detour": detour, "passed_through": passed_through, "gradients": histograms}


def draw(folder: Path) -> list[Path]:
    """Write all pictures into a folder; the same versions of the libraries write the same bytes."""
    files = []
    with plt.rc_context(STYLE):
        for name, picture in PICTURES.items():
            figure = picture()
            files.append(folder / f"{name}.svg")
            figure.savefig(files[-1], bbox_inches="tight", metadata={"Date": None, "Creator": None})
            plt.close(figure)
    return files


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the pictures of the lesson.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="the folder to write to")
    for file in draw(parser.parse_args().out):
        print(file)
