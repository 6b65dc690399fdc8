"""Performance profiles: how often an estimator is within a factor of the cheapest.

rho_s(tau) = share of tasks p with t_(p,s) <= tau * min over s' of t_(p,s') (Dolan and More, Mathematical Programming
91, 2002), where a task is a problem and a seed, and t the cost of the target test ELBO.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from estbench.report.analysis import frames
from estbench.report.analysis.paired import CURRENCIES, comparable, finished_runs
from estbench.report.analysis.targets import target_of, times
from estbench.report.figures.picture import Picture, series
from estbench.report.figures.style import WIDTH, legend_handles, owned
from estbench.report.tables.base import TIMES, fixed, significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from estbench.report.figures.style import Look
    from estbench.store import Results

TARGET = "The target is the best bound that at least half of the estimators reached in every finished cell"
COLUMNS = ("estimator", "currency", "factor", "share")
Costs = dict[str, list[float]]  # by estimator, one per task


def tasks(results: Results, currency: str) -> Costs:
    """Costs of the target on the tasks whose outcome all know; if none is given, one that half of them reach."""
    found = {}
    given = frames.target(results)
    for problem, runs in finished_runs(results).items():
        if len(runs) > 1 and currency in comparable(results, runs):
            target = target_of(runs, 0.5) if given is None else given
            found[problem] = times(results, problem, runs, currency, target)
    labels = list(dict.fromkeys(label for costs in found.values() for label in costs))
    costs: Costs = {label: [] for label in labels}
    for of_problem in found.values():
        for seed in sorted(set.intersection(*(set(of_problem.get(label, {})) for label in labels))):
            for label in labels:
                costs[label].append(of_problem[label][seed].value)
    return costs


def ratios(costs: Costs) -> dict[str, NDArray[np.float64]]:
    """Each cost over the least of its task; a miss, and everything where all missed, is infinite."""
    table = np.array(list(costs.values()), dtype=float)
    if not table.size:
        return {}
    least = table.min(axis=0)
    safe = np.where(np.isfinite(table) & (least > 0), table / np.where((least > 0) & (least < math.inf), least, 1), 0)
    relative = np.where(safe > 0, safe, np.where(table == 0, 1.0, math.inf))
    return dict(zip(costs, relative, strict=True))


def draw(results: Results, looks: dict[str, Look]) -> Picture | None:
    """One panel for evaluations, one for training seconds."""
    panels = {name: found for name in ("evaluations", "seconds") if (found := ratios(tasks(results, name)))}
    if not panels:
        return None
    shown = {label: look for label, look in looks.items() if any(label in found for found in panels.values())}
    rows = math.ceil(len(shown) / 3)
    height = 2.9 + 0.24 * rows
    figure = Figure(figsize=(WIDTH, height))
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    finite = np.concatenate([values[np.isfinite(values)] for found in panels.values() for values in found.values()])
    right = 1.15 * max(float(finite.max(initial=1)), 1.5)
    for axes, (currency, found) in zip(every, panels.items(), strict=True):
        for at, (label, values) in enumerate(found.items()):
            with owned(axes, looks[label]):
                _steps(axes, values, right, looks[label], nudge=0.004 * (at - (len(found) - 1) / 2))
        axes.set(xscale="log", xlim=(0.96, right), ylim=(-0.03, 1.05), title=CURRENCIES[currency])
        axes.set_xlabel("factor of the cheapest")
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}" + TIMES))
        axes.xaxis.set_minor_formatter(NullFormatter())
        ticks = [tick for tick in (1, 1.5, 2, 3, 5, 10, 20, 50, 100, 1000, 10000) if tick <= right]
        axes.set_xticks(ticks if len(ticks) <= 6 else [tick for tick in ticks if math.log10(tick) % 1 == 0])
    every[0].set_ylabel("share of runs that reached the target")
    figure.subplots_adjust(left=0.09, right=0.98, top=0.91, bottom=(0.55 + 0.24 * rows) / height, wspace=0.08)
    figure.legend(handles=legend_handles(shown), loc="lower center", ncols=3)
    read, data = [], []
    for axes, (currency, found) in zip(every, panels.items(), strict=True):
        for label, values in found.items():
            points = _points(values)
            data += [{"estimator": label, "currency": currency, "factor": x, "share": y} for x, y in points]
            words = [(x, y, f"{100 * y:.0f} % of n = {len(values)} within {significant(x)}{TIMES}") for x, y in points]
            read += series(axes, looks[label], words)
    title = "Performance profile: cost of the target"
    said = "; ".join(f"{CURRENCIES[name]}: " + ", ".join(map(_said, found.items())) for name, found in panels.items())
    count = len(next(iter(next(iter(panels.values())).values())))
    given = frames.target(results)
    caption = (
        f"Share of the runs (problem {TIMES} seed, n = {count}) in which an estimator reached the target test ELBO "
        "within a factor of the cheapest estimator's cost in the same run. "
        f"{TARGET if given is None else f'The target, {fixed(given)} nats, was given'}; a diverged run is a miss, and "
        "a miss is never counted. "
        "Costs between two evaluations are on the straight line between them; a profile has no interval. Coinciding "
        "lines are drawn a hair apart."
    )
    reading = (
        "How to read it: at the left edge, how often an estimator was the cheapest; at the right edge, how often it "
        "reached the target at all. Higher is better everywhere."
    )
    alt, frame = f"Step chart. {title}. {said}.", pd.DataFrame(data, columns=list(COLUMNS))
    return Picture("profile", "profile", title, alt, caption, reading, figure, frame, tuple(read))


def _points(values: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Each factor that was reached, with the share of the runs within it."""
    reached = np.sort(values[np.isfinite(values)])
    return [(float(x), (at + 1) / len(values)) for at, x in enumerate(reached)]


def _steps(axes: Axes, values: NDArray[np.float64], right: float, look: Look, nudge: float) -> None:
    reached = np.sort(values[np.isfinite(values)])
    shares = np.arange(1, len(reached) + 1) / len(values)
    x = np.concatenate([[0.9], reached, [right]])
    y = np.concatenate([[0.0], shares, [len(reached) / len(values)]]) + nudge
    axes.step(x, y, where="post", color=look.colour, linestyle=look.linestyle)
    axes.plot(reached, shares + nudge, look.marker, color=look.colour, markersize=3.5)


def _said(item: tuple[str, NDArray[np.float64]]) -> str:
    label, values = item
    reached = int(np.isfinite(values).sum())
    within = ""
    if 2 * reached > len(values):
        within = f", typically within {significant(float(np.median(values)))}{TIMES} of the cheapest"
    return f"{label} reached it in {reached} of {len(values)}{within}"
