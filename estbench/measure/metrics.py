"""Metrics of a model beside its bounds: a registry that is open to plugins, and how one of them is measured."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from estbench.datasets.checks import SPLITS
from estbench.errors import EstbenchError
from estbench.estimators import Estimator
from estbench.measure.frozen import frozen
from estbench.problems import Problem
from estbench.randomness import seeded
from estbench.registry import Registry
from estbench.variant import NAME

# What the curves hold without any metric of this registry.
TAKEN = {"elbo", "iwae", "reconstruction", "kl", "active_units", "gradient_norm", "iwae_final"}
# A metric returns so many numbers at most: each of them is a figure and a column of the report.
MOST_NUMBERS = 50

Metric = Callable[[Problem, Estimator, Tensor], float | Mapping[str, float]]
M = TypeVar("M", bound=Callable[..., Any])
METRICS: Registry[Metric] = Registry("metric")


def register_metric(
    name: str,
    *,
    label: str = "",
    unit: str = "",
    better: Literal["higher", "lower"] | None = None,
    splits: Iterable[str] = SPLITS,
) -> Callable[[M], M]:
    """Return a decorator that registers a function ``(problem, estimator, x)`` as a metric.

    It is called at each evaluation of the bounds with the model, the estimator and observations x, (N, X), and returns
    a number, or several by name: ``{"mse": 0.1}`` of the metric ``errors`` is recorded as ``errors/mse``. Model and
    estimator are in eval mode, no gradients are recorded, and whatever the function does to them is undone, so that
    training ends in the same bits with it and without it. The first line of its docstring is its summary. An experiment
    measures the metrics that it names: ``metrics = ["errors"]`` in ``[evaluation]``, or ``--metric errors``.

    Parameters
    ----------
    name
        Short and lower-case.
    label, unit
        What axes and tables call it; by default its name, and no unit.
    better
        Which numbers are better, ``higher`` or ``lower``; None if neither is.
    splits
        The splits whose observations it is measured on: ``train``, ``validation`` and ``test``. One of the weights only
        needs ``("train",)``.

    Raises
    ------
    EstbenchError
        If the name is invalid or taken, or ``better`` or a split is unknown.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, measure, problems
    >>> @measure.register_metric("q_scale", label="mean scale of q", better=None)
    ... def q_scale(problem, estimator, x):
    ...     "Mean standard deviation of q(z|x)."
    ...     return problem(x).q.stddev.mean()
    >>> problem, estimator = problems.create("gaussian_toy"), estimators.create("reparam")
    >>> measure.evaluate_metric("q_scale", problem, estimator, torch.zeros(5, 1), seed=0)
    {'q_scale': 1.0}
    """
    splits = tuple(splits)
    if name in TAKEN:
        raise EstbenchError(f"the metric '{name}' is one of estbench's own curves; choose another name")
    if not isinstance(label, str) or not isinstance(unit, str):
        raise EstbenchError(f"metric '{name}': label and unit are texts, not {label!r} and {unit!r}")
    if better not in {"higher", "lower", None}:
        raise EstbenchError(f"metric '{name}': better is {better!r}; write 'higher', 'lower' or None")
    if not splits or not set(splits) <= set(SPLITS):
        raise EstbenchError(f"metric '{name}': splits is {splits!r}; name some of {', '.join(SPLITS)}")
    return METRICS.register(name, label=label or name, unit=unit, better=better, splits=splits)


def describe_metric(name: str) -> dict[str, Any]:
    """Return the facts about a metric as plain data; raise ``EstbenchError`` for an unknown name.

    Examples
    --------
    >>> from estbench import measure
    >>> facts = measure.describe_metric("sigma")
    >>> facts["label"], facts["better"], facts["splits"]
    ('sigma', None, ['train'])
    """
    metric = METRICS.get(name)
    documentation = inspect.getdoc(metric) or ""
    return {
        "name": name,
        "kind": "metric",
        "summary": documentation.partition("\n")[0],
        "label": getattr(metric, "label", name),
        "unit": getattr(metric, "unit", ""),
        "better": getattr(metric, "better", None),
        "splits": list(splits_of(name)),
        "documentation": documentation,
    }


def splits_of(name: str) -> tuple[str, ...]:
    """Return the splits that a metric is measured on; raise ``EstbenchError`` for an unknown name."""
    splits: tuple[str, ...] = getattr(METRICS.get(name), "splits", SPLITS)
    return splits


def evaluate_metric(name: str, problem: Problem, estimator: Estimator, x: Tensor, seed: int) -> dict[str, float]:
    """Measure a metric on observations x, (N, X); the model, the estimator and torch's random state stay as they were.

    Parameters
    ----------
    name
        The name of a registered metric.
    problem, estimator
        At their current weights; they are measured in eval mode.
    x
        Observations, as the model sees them (binarised); the metric gets a copy.
    seed
        The seed of torch's random state within.

    Returns
    -------
    dict
        The numbers, which may be infinite or NaN, by what they are recorded as: ``name``, or ``name/key`` of several.

    Raises
    ------
    EstbenchError
        If the name is unknown, or if the metric returns something else than numbers. What the metric raises is passed
        on.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, measure, problems
    >>> problem = problems.create("vae[dataset=digits,hidden=[8],latent_size=2]")
    >>> x = torch.zeros(5, 64)
    >>> found = measure.evaluate_metric("reconstruction_error", problem, estimators.create("reparam"), x, seed=0)
    >>> 0 < found["reconstruction_error"] < 1
    True
    """
    metric = METRICS.get(name)
    with frozen(problem, estimator), seeded(seed, problem.device), torch.no_grad():
        returned: Any = metric(problem, estimator, x.clone())
        if not isinstance(returned, Mapping):
            return {name: _as_number(name, returned)}
        if not returned or len(returned) > MOST_NUMBERS:
            raise EstbenchError(
                f"the metric '{name}' returns {len(returned)} numbers; return at least 1 and at most {MOST_NUMBERS}"
            )
        wrong = [key for key in returned if not isinstance(key, str) or not NAME.fullmatch(key)]
        if wrong:
            raise EstbenchError(
                f"the metric '{name}' calls a number {wrong[0]!r}; use a-z, 0-9, - and _, and begin with a letter or"
                " digit"
            )
        return {f"{name}/{key}": _as_number(name, value) for key, value in returned.items()}


def _as_number(name: str, value: Any) -> float:
    """Return a number of Python, NumPy or torch as a float; ``EstbenchError`` for anything else."""
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        return float(value)
    if not isinstance(value, bool) and isinstance(value, numbers.Real):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    what = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise EstbenchError(f"the metric '{name}' returns {what}; return a number, or numbers by name")


@register_metric("reconstruction_error", label="reconstruction error", unit="mean square per pixel", better="lower")
def reconstruction_error(problem: Problem, _estimator: Estimator, x: Tensor) -> Tensor:
    """Mean squared error of the pixels of reconstructed images, for problems that make images.

    A reconstruction is E[x|z] at one draw of z from q(z|x); x is what the model sees (binarised pixels).
    """
    if type(problem).decode is Problem.decode:
        raise EstbenchError(f"the problem '{problem.name}' makes no images; leave out the metric reconstruction_error")
    return (problem.decode(problem(x).q.sample()) - x).square().mean()


@register_metric("sigma", splits=("train",))
def sigma(problem: Problem, _estimator: Estimator, _x: Tensor) -> Tensor:
    """Learned standard deviation of a pixel, of a VAE with likelihood=gaussian."""
    log_sigma = getattr(getattr(problem, "likelihood", None), "log_sigma", None)
    if log_sigma is None:
        raise EstbenchError(f"the problem '{problem.name}' has no learned sigma; leave out the metric sigma")
    value: Tensor = log_sigma.exp()
    return value
