"""The estimator that is checked: as it is created, and as training leaves it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch

from estbench.certify.problems import small_problems_for
from estbench.certify.problems.base import SmallProblem
from estbench.estimators import Estimator, make_ready
from estbench.randomness import seeded

# Steps of training after which a baseline, a temperature or a control variate has left its initial value.
WARM_UP_STEPS = 30
# Steps of an estimator that has none of these, on problems that are not representatives.
STATELESS_STEPS = 5
# Steps on the first problem of up to ``LONG_PROBLEMS`` kinds: enough for a schedule to move, or a slow drift to show.
LONG_STEPS = 1000
LONG_PROBLEMS = 3
LEARNING_RATE = 0.01
REPLICATES = 16


@dataclass(frozen=True)
class EstimatorUnderTest:
    """An estimator with its options, given by a function that creates a new one.

    ``trains_long`` says whether it is trained for ``LONG_STEPS`` on some problems.
    """

    label: str
    make: Callable[[], Estimator]
    trains_long: bool = True
    _trained: dict[str, Estimator] = field(default_factory=dict, repr=False, init=False)
    _states: dict[str, Mapping[str, Any]] = field(default_factory=dict, repr=False, init=False)

    @cached_property
    def facts(self) -> Estimator:
        """An instance that is only asked for its declared facts; it is never run."""
        return self.make()

    @cached_property
    def problems(self) -> list[SmallProblem]:
        """The small problems of the latents and objectives that it declares to support."""
        return small_problems_for(self.facts.supports, self.facts.bounds)

    @cached_property
    def representatives(self) -> list[SmallProblem]:
        """The first problem of each kind, by latents and objective: slow checks run only on these."""
        return list({(each.latents.name, each.bound): each for each in reversed(self.problems)}.values())

    @cached_property
    def coordinates(self) -> int:
        """The number of coordinates of the gradients of all problems together."""
        return sum(leaf.numel() for problem in self.problems for leaf in problem.leaf_tensors().values())

    def is_representative(self, problem: SmallProblem) -> bool:
        """Return whether a problem is the first of its kind."""
        return any(problem is each for each in self.representatives)

    def create(self, problem: SmallProblem, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Estimator:
        """Create the estimator as a run does: its learned parts have the sizes of the problem."""
        with seeded(0, torch.device(device)):
            return make_ready(self.make(), problem.objective(problem.leaf_tensors(dtype=dtype, device=device)))

    def trained(self, problem: SmallProblem) -> Estimator:
        """Return the instance that has trained on a problem, so that its state and learned parts are not trivial."""
        if problem.name not in self._trained:
            estimator = self.create(problem).train()
            learned = list(estimator.parameters())
            optimizer = torch.optim.Adam(learned, lr=LEARNING_RATE, maximize=True) if learned else None
            with seeded(1, torch.device("cpu")):
                for _ in range(self.training_steps(problem)):
                    train_step(estimator, problem, optimizer)
            self._states[problem.name] = {name: value.clone() for name, value in estimator.state_dict().items()}
            self._trained[problem.name] = estimator.eval()
        return self._trained[problem.name]

    def training_steps(self, problem: SmallProblem) -> int:
        """Return for how many steps it trains on a problem.

        Many on the first problem; on some more if it has no learned part, which would make that slow.
        """
        names = [each.name for each in self.representatives]
        if not self._has_state:
            return WARM_UP_STEPS if problem.name in names else STATELESS_STEPS
        long = names[: 1 if self._learns else LONG_PROBLEMS] if self.trains_long else []
        return LONG_STEPS if problem.name in long else WARM_UP_STEPS

    @cached_property
    def _has_state(self) -> bool:
        return bool(self._example.state_dict())

    @cached_property
    def _learns(self) -> bool:
        return any(True for _ in self._example.parameters())

    @cached_property
    def _example(self) -> Estimator:
        return self.create(self.problems[0])

    def prepared(self, problem: SmallProblem, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Estimator:
        """Return a new instance in eval mode, in the state that training on the problem has left."""
        self.trained(problem)
        estimator = self.create(problem, dtype, device)
        estimator.load_state_dict(self._states[problem.name])
        return estimator.eval()


def train_step(estimator: Estimator, problem: SmallProblem, optimizer: torch.optim.Optimizer | None) -> None:
    """Make one step of training on a batch of copies; only the estimator changes, the problem does not."""
    surrogate = estimator(problem.objective(problem.leaf_tensors(REPLICATES, plain=True))).mean()
    if optimizer is not None:
        optimizer.zero_grad()
        surrogate.backward()
        optimizer.step()
