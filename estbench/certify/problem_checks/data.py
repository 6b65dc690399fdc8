"""Checks of the data and of what the model sees of them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Generator, Tensor

from estbench.certify.check_result import CheckResult, failed, passed
from estbench.certify.problem_under_test import CPU, EXAMPLES, ProblemUnderTest, observe_examples
from estbench.datasets import Dataset
from estbench.datasets.checks import SPLITS
from estbench.failures import described
from estbench.problems import Problem
from estbench.randomness import seeded


def check_data(tested: ProblemUnderTest) -> CheckResult:
    """Check the three splits: arrays of finite numbers, of one precision, whose rows the model takes."""
    problem = tested.build()
    data = getattr(problem, "data", None)
    if not isinstance(data, Dataset):
        return failed(f"its data are of type {type(data).__name__}; set self.data = Dataset(...)")
    for split in SPLITS:
        complaint = _complain_about(getattr(data, split), split)
        if complaint:
            return failed(complaint)
    if data.size != math.prod(data.shape):
        message = f"a row of its train split has {data.size} values, and its shape is {data.shape}; make them agree"
        return failed(message)
    precisions = {str(getattr(data, split).dtype) for split in SPLITS}
    if len(precisions) > 1:
        message = f"its splits have several precisions ({', '.join(sorted(precisions))}); convert them to one"
        return failed(message)
    # Rows of another length are fine only if the model takes them (a split may be one example of all rows).
    for split in SPLITS:
        width = getattr(data, split).shape[1]
        complaint = "" if width == data.size else _find_refusal(problem, split)
        if complaint:
            message = (
                f"its {split} split has rows of {width} values and its train split of {data.size}, and the model does"
                f" not take both: {complaint}; give all splits the same columns"
            )
            return failed(message)
    rows = [f"{split} {' x '.join(f'{n:,}' for n in getattr(data, split).shape)}" for split in SPLITS]
    low = min(float(getattr(data, split).min()) for split in SPLITS)
    high = max(float(getattr(data, split).max()) for split in SPLITS)
    return passed(f"{', '.join(rows)}; {next(iter(precisions))}, from {low:g} to {high:g}")


def check_observations(tested: ProblemUnderTest) -> CheckResult:
    """Check ``observe``: finite, one row for each example, and random only by the generator that it is given."""
    problem = tested.build()
    for split in SPLITS:
        intensities = torch.from_numpy(getattr(problem.data, split)[:EXAMPLES])
        with seeded(0, CPU):
            before = torch.get_rng_state()
            first = problem.observe(intensities.clone(), Generator().manual_seed(1))
            untouched = torch.equal(before, torch.get_rng_state())
        with seeded(1, CPU):
            second = problem.observe(intensities.clone(), Generator().manual_seed(1))
        complaint = _complain_about_observations(first, intensities, split)
        if complaint:
            return failed(complaint)
        if not untouched or not torch.equal(first, second):
            what = (
                "the same seed of the generator gives other observations"
                if untouched
                else "observe draws from torch's global random state"
            )
            message = (
                f"{what} ({split} split), so minibatches would differ between estimators; draw only from the generator"
                " that it is given, as in torch.rand(shape, generator=generator)"
            )
            return failed(message)
    generator = Generator().manual_seed(1)
    drawn = [problem.observe(torch.from_numpy(problem.data.train[:EXAMPLES].copy()), generator) for _ in range(2)]
    how = "the same at each access" if torch.equal(*drawn) else "drawn again at each access, by its generator only"
    return passed(f"one finite row for each example; {how}")


def _complain_about(rows: object, split: str) -> str:
    """Say what is wrong with the array of a split; empty if nothing is."""
    if not isinstance(rows, np.ndarray) or rows.dtype.kind not in "fiub":
        kind = getattr(rows, "dtype", type(rows).__name__)
        return f"its {split} split is of type {kind}; give a NumPy array of numbers, (N, X)"
    if rows.ndim != 2 or 0 in rows.shape:
        return f"its {split} split has shape {rows.shape}; give at least one row of at least one value, (N, X)"
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        return (
            f"its {split} split has {(~finite).sum():,} values that are not finite, the first in row {row}, column"
            f" {column}; remove these rows, or fill them in"
        )
    return ""


def _find_refusal(problem: Problem, split: str) -> str:
    """Return the error that the model raises for rows of a split; empty if it takes them."""
    try:
        with torch.no_grad():
            problem.eval()(observe_examples(problem, split))
    except Exception as error:  # noqa: BLE001  (a model may raise anything)
        return described(error)
    return ""


def _complain_about_observations(x: object, intensities: Tensor, split: str) -> str:
    """Say what is wrong with observations; empty if nothing is."""
    if not isinstance(x, Tensor):
        return f"observe returns {type(x).__name__}; return a tensor"
    if x.dim() != 2 or len(x) != len(intensities):
        return (
            f"observe returns shape {tuple(x.shape)} for {len(intensities)} examples of the {split} split; return one"
            " row for each, (B, X)"
        )
    if not x.isfinite().all():
        return f"observe returns values of the {split} split that are not finite; check what it computes"
    return ""
