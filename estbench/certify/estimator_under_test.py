"""The estimator that is checked: as it is made, and as training leaves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from estbench.certify.settings import settings_for
from estbench.certify.settings.base import Setting
from estbench.estimators import Estimator
from estbench.randomness import seeded

# Steps after which a baseline, a temperature or a control variate is no longer what it started from.
WARM_UP = 30
# And for an estimator that has none of these, in settings that are no representatives.
STATELESS = 5
# And in the first settings of up to so many kinds: a schedule has moved, a slow drift shows.
LATE = 1000
LATE_SETTINGS = 3
LEARNING_RATE = 0.01
REPLICATES = 16


@dataclass(frozen=True)
class Subject:
    """An estimator with its options, by the function that makes a fresh one.

    ``late`` says whether it trains so long, somewhere, that a schedule has moved.
    """

    label: str
    make: Callable[[], Estimator]
    late: bool = True
    _trained: dict[str, Estimator] = field(default_factory=dict, repr=False, init=False)
    _states: dict[str, Mapping[str, Any]] = field(default_factory=dict, repr=False, init=False)

    @cached_property
    def facts(self) -> Estimator:
        """One to ask for its declared facts; it is never run."""
        return self.make()

    @cached_property
    def settings(self) -> list[Setting]:
        """The small problems that it declares to be for."""
        return settings_for(self.facts.supports, self.facts.bounds)

    @cached_property
    def representatives(self) -> list[Setting]:
        """The first setting of each kind, by latents and objective: where what takes long is done."""
        return list({(each.latents.name, each.bound): each for each in reversed(self.settings)}.values())

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

    def trained(self, setting: Setting) -> Estimator:
        """The one that has trained at these parameters: its state and its learned parts are not trivial."""
        if setting.name not in self._trained:
            estimator = self.fresh(setting).train()
            learned = list(estimator.parameters())
            optimizer = torch.optim.Adam(learned, lr=LEARNING_RATE, maximize=True) if learned else None
            with seeded(1, torch.device("cpu")):
                for _ in range(self.steps(setting)):
                    train_step(estimator, setting, optimizer)
            self._states[setting.name] = {name: value.clone() for name, value in estimator.state_dict().items()}
            self._trained[setting.name] = estimator.eval()
        return self._trained[setting.name]

    def steps(self, setting: Setting) -> int:
        """How long it trains in a setting: long in one, and in some more where no learned part makes that dear."""
        names = [each.name for each in self.representatives]
        if not self._state:
            return WARM_UP if setting.name in names else STATELESS
        late = names[: 1 if self._learns else LATE_SETTINGS] if self.late else []
        return LATE if setting.name in late else WARM_UP

    @cached_property
    def _state(self) -> bool:
        return bool(self._example.state_dict())

    @cached_property
    def _learns(self) -> bool:
        return any(True for _ in self._example.parameters())

    @cached_property
    def _example(self) -> Estimator:
        return self.fresh(self.settings[0])

    def prepared(self, setting: Setting, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Estimator:
        """One that has trained, in eval mode; each call returns another one, in the same state."""
        self.trained(setting)
        estimator = self.fresh(setting, dtype, device)
        estimator.load_state_dict(self._states[setting.name])
        return estimator.eval()


def train_step(estimator: Estimator, setting: Setting, optimizer: torch.optim.Optimizer | None) -> None:
    """One step of training on a batch of copies, in which the problem stays as it is."""
    surrogate = estimator(setting.objective(setting.leaves(REPLICATES, plain=True))).mean()
    if optimizer is not None:
        optimizer.zero_grad()
        surrogate.backward()
        optimizer.step()
