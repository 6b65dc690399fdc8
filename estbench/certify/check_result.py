"""How a check ends, and the chance that it ends wrongly."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from scipy import stats
from torch import Tensor

from estbench.certify.record import Outcome
from estbench.certify.settings.base import PRIOR, WEIGHTS

CAUSES = {
    "weights": "f is evaluated without its gradient, is added twice, or a control variate leaks into the decoder",
    PRIOR: "the prior is looked at while gradients are off, the KL is lost or counted twice",
    "parameters": (
        "a baseline that has seen the sample that it is subtracted from, a control variate whose expectation is not"
        " given back in full, noise that is detached where it depends on the parameters, the KL lost or counted twice"
    ),
}


class Verdict(NamedTuple):
    """The outcome of one check in one setting; ``strain`` is the share of what is allowed that is used up."""

    outcome: Outcome
    evidence: str
    message: str = ""
    strain: float = 0.0
    numbers: Mapping[str, float] = MappingProxyType({})


def verdict(ok: bool, evidence: str, message: str = "", strain: float = 0.0, **numbers: float) -> Verdict:
    """A check that is decided; ``message`` is for its failure."""
    return Verdict(Outcome.PASSED if ok else Outcome.FAILED, evidence, "" if ok else message, strain, numbers)


def not_applicable(why: str) -> Verdict:
    """A check that has nothing to say here, which is not a pass."""
    return Verdict(Outcome.NOT_APPLICABLE, why)


def deviation(group: str, mean: Tensor, exact: Tensor, worst: int, evidence: str) -> str:
    """Where a mean gradient, (B, ...), is not the exact one, by how much, and what usually makes it so."""
    place = ",".join(str(int(index)) for index in torch.unravel_index(torch.tensor(worst), mean.shape))
    expected, measured = float(exact.flatten()[worst]), float(mean.flatten()[worst])
    cause = CAUSES[group if group == WEIGHTS else PRIOR if group.startswith(PRIOR) else "parameters"]
    size = float(exact.square().sum())
    ratio = f"; over all of {group}, {float((mean * exact).sum()) / size:.3g} times the exact gradient" if size else ""
    return (
        f"{group}[{place}]: expected {expected:.6g}, measured {measured:.6g} ({evidence}){ratio}. Usual causes: {cause}"
    )


FALSE_ALARM = 1e-4  # of one certificate, over all checks, settings and coordinates
# What each check gets of it.
SHARES = {
    "unbiased": 0.4,
    "as in a probe": 0.1,
    "one example at a time": 0.1,
    "batch sizes": 0.05,
    "independent calls": 0.1,
    "decoder gradient": 0.05,
    "order of the batch": 0.05,
    "large f": 0.05,
    "known facts": 0.1,
}


def threshold(check: str, tests: int) -> float:
    """The bound of |z| for a check that makes so many tests in all (Bonferroni)."""
    return float(stats.norm.isf(FALSE_ALARM * SHARES[check] / (2 * tests)))
