"""The moving-average protocol beside the probe, on one VAE: how far off it is, and why.

The released code of REBAR and DisARM tracks exponential moving averages of the gradient and of its square while
training goes on, decay 0.999, and takes EMA[g^2] - EMA[g]^2 for the variance. Here both are taken of the same encoder
gradients of the same run. The probe stops at checkpoints: it holds the weights and the minibatch still, and so finds
the estimator's noise and the minibatch's apart.

    python tests/benchmarks/moving_average.py --out results/probe
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from estbench.execution import plan_of
from estbench.experiment import stream_seed
from estbench.experiment.spec import experiment_from
from estbench.measure import probe
from estbench.randomness import seeded
from estbench.report.figures.style import COLOURS, matplotlib_style
from estbench.training import State, take_steps
from estbench.training.batches import evaluation_batch
from estbench.training.state import noise_seed

DECAY = 0.999
POINTS = 12


def trace(state: State, averages: list[Tensor], weights: list[torch.nn.Parameter]) -> float:
    """Take in the last step's gradient, and return the sum over weights of EMA[g^2] - EMA[g]^2."""
    gradient = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None]).double()
    averages[0].lerp_(gradient, 1 - DECAY)
    averages[1].lerp_(gradient.square(), 1 - DECAY)
    seen = 1 - DECAY**state.step  # the averages start from zero, which this takes out
    return float((averages[1] / seen - (averages[0] / seen).square()).sum())


def measured(variant: str, steps: int, replicates: int) -> pd.DataFrame:
    """One run: the moving average at each of many steps, and the probe's parts at some."""
    spec = {"estimators": [variant], "problems": ["vae"], "training": {"steps": steps}}
    cell = plan_of(experiment_from(spec)).cells[0]
    points = {round(steps ** (index / (POINTS - 1))) for index in range(POINTS)} - {1}  # one step has no spread
    rows = []
    with seeded(noise_seed(cell), torch.device("cpu")):
        state = State(cell, torch.device("cpu"))
        weights = state.problem.groups()["encoder"]
        size = sum(weight.numel() for weight in weights)
        averages = [torch.zeros(size, dtype=torch.float64) for _ in range(2)]
        for step in range(1, steps + 1):
            take_steps(state, 1)
            average = trace(state, averages, weights)
            if step in points:
                batch = evaluation_batch(state.problem, "train", 100, stream_seed(0, "probe", step=step))
                found = probe(state.problem, state.estimator, batch, replicates, seed=step)
                ours = {row["statistic"]: row for row in found.rows if row["group"] == "encoder"}
                rows.append(
                    {
                        "estimator": variant,
                        "step": step,
                        "moving_average": average,
                        "variance": ours["variance"]["value"],
                        "variance_low": ours["variance"]["low"],
                        "variance_high": ours["variance"]["high"],
                        "data_variance": ours["data_variance"]["value"],
                    }
                )
    return pd.DataFrame(rows)


def draw(frame: pd.DataFrame, path: Path) -> None:
    """One panel per estimator."""
    names = list(dict.fromkeys(frame["estimator"]))
    with matplotlib_style():
        figure = Figure(figsize=(7.4, 3.0), layout="constrained")
        grid = figure.subplots(1, len(names), squeeze=False)[0]
        for axes, name in zip(grid, names, strict=True):
            rows = frame[frame["estimator"] == name]
            both = rows["variance"] + rows["data_variance"].clip(lower=0)
            axes.plot(rows["step"], rows["moving_average"], color=COLOURS[4], linestyle=":", marker="o")
            axes.plot(rows["step"], both, color=COLOURS[1], linestyle="--", marker="s")
            axes.plot(rows["step"], rows["variance"], color=COLOURS[0], marker="^")
            axes.fill_between(rows["step"], rows["variance_low"], rows["variance_high"], color=COLOURS[0], alpha=0.2)
            axes.set(title=name, xlabel="training step", xscale="log", yscale="log")
        grid[0].set_ylabel("variance of the encoder's gradient")
        labels = ["moving average, decay 0.999", "estimator and minibatch, frozen", "estimator alone, frozen (ours)"]
        figure.legend(grid[0].get_lines(), labels, loc="outside upper center", ncols=3)
        figure.savefig(path, dpi=160)


def main() -> None:
    """Write the figure and its numbers, and print the last ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/probe"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--replicates", type=int, default=100)
    parser.add_argument("--estimator", action="append", help="may be repeated")
    arguments = parser.parse_args()
    variants = arguments.estimator or ["reparam", "rloo[num_samples=4]"]
    frame = pd.concat([measured(variant, arguments.steps, arguments.replicates) for variant in variants])
    arguments.out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(arguments.out / "moving_average.csv", index=False)
    draw(frame, arguments.out / "moving_average.png")
    for row in frame.groupby("estimator", sort=False).tail(1).itertuples():
        both = row.variance + max(0.0, row.data_variance)
        print(
            f"{row.estimator}, step {row.step}: moving average {row.moving_average:.3g}; frozen {row.variance:.3g} "
            f"for the estimator, {both:.3g} with the minibatch: {row.moving_average / row.variance:.2f} and "
            f"{row.moving_average / both:.2f} times"
        )


if __name__ == "__main__":
    main()
