"""The estimator that is checked: as it is made, and as training leaves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from estbench.conformance.settings import EXAMPLES, Setting, settings_for
from estbench.estimators import Estimator
from estbench.measure.randomness import seeded

# Steps after which a baseline, a temperature or a control variate is no longer what it started from.
WARM_UP = 30
LEARNING_RATE = 0.01
REPLICATES = 16


@dataclass(frozen=True)
class Subject:
    """An estimator with its options, by the function that makes a fresh one."""

    label: str
    make: Callable[[], Estimator]
    _states: dict[tuple[str, torch.dtype], Mapping[str, Any]] = field(default_factory=dict, repr=False)

    @cached_property
    def facts(self) -> Estimator:
        """One to ask for its declared facts; it is never run."""
        return self.make()

    @cached_property
    def settings(self) -> list[Setting]:
        """The small problems that it declares to be for."""
        return settings_for(self.facts.supports, self.facts.bounds)

    @cached_property
    def coordinates(self) -> int:
        """How many coordinates of gradients all settings have together."""
        return sum(leaf.numel() for setting in self.settings for leaf in setting.leaves().values())

    def fresh(self, setting: Setting, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Estimator:
        """As a run makes it: built, and its learned parts sized for the problem."""
        with seeded(0, torch.device(device)):
            estimator = self.make()
            with torch.no_grad():
                estimator.prepare(setting.objective(setting.leaves(dtype=dtype, device=device)))
            return estimator.to(device)

    def trained(self, setting: Setting, dtype: torch.dtype = torch.float64) -> Estimator:
        """After some steps of training at these parameters: state and learned parts are not trivial."""
        estimator = self.fresh(setting, dtype).train()
        learned = list(estimator.parameters())
        optimizer = torch.optim.Adam(learned, lr=LEARNING_RATE, maximize=True) if learned else None
        with seeded(1, torch.device("cpu")):
            for _ in range(WARM_UP):
                train_step(estimator, setting, optimizer, dtype)
        return estimator.eval()

    def prepared(self, setting: Setting, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Estimator:
        """One that has trained, in eval mode; each call returns another one, in the same state."""
        key = (setting.name, dtype)
        if key not in self._states:
            state = self.trained(setting, dtype).state_dict()
            self._states[key] = {name: value.clone() for name, value in state.items()}
        estimator = self.fresh(setting, dtype, device)
        estimator.load_state_dict(self._states[key])
        return estimator.eval()


def train_step(
    estimator: Estimator, setting: Setting, optimizer: torch.optim.Optimizer | None, dtype: torch.dtype
) -> None:
    """One step of training, in which the problem stays as it is."""
    surrogate = estimator(setting.objective(setting.leaves(REPLICATES, dtype=dtype))).sum()
    surrogate = surrogate / (REPLICATES * EXAMPLES)
    if optimizer is not None:
        optimizer.zero_grad()
        surrogate.backward()
        optimizer.step()
