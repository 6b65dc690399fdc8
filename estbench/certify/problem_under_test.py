"""The problem that is checked: built again for each check, so that no check sees what another has done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from estbench.estimators import ESTIMATORS, Estimator, create_for
from estbench.experiment import Experiment, Training, make_plan
from estbench.problems import PROBLEMS, Objective, Problem
from estbench.problems import create as create_problem
from estbench.randomness import seeded
from estbench.training import State, evaluation_batch, start_run
from estbench.variant import Variant

CPU = torch.device("cpu")
EXAMPLES = 8  # of each split
# The estimator that asks the least of q, for each bound: samples and their density.
LEAST_DEMANDING = {"elbo": "reinforce", "multi-sample": "vimco"}


@dataclass(frozen=True)
class ProblemUnderTest:
    """A registered problem with its options, as ``label`` writes them."""

    label: str

    @property
    def cls(self) -> type[Problem]:
        """The class of the problem."""
        return PROBLEMS.get(Variant.parse(self.label).name)

    @property
    def claimed_latents(self) -> str:
        """The latents that it declares with these options."""
        return self.cls.latents_of(PROBLEMS.options(self.label))

    @property
    def claimed_bound(self) -> str:
        """The bound that it declares with these options."""
        return self.cls.bound_of(PROBLEMS.options(self.label))

    @property
    def estimator_name(self) -> str:
        """The estimator that all problems with this bound support."""
        return LEAST_DEMANDING[self.claimed_bound]

    def build(self, seed: int = 0) -> Problem:
        """Build the problem with the initial weights of a seed; torch's random state is left as it was."""
        with seeded(seed, CPU):
            return create_problem(self.label)

    def build_precise(self) -> tuple[Problem, Tensor]:
        """Build the problem in eval mode and observe examples, (B, X): in double precision if the model takes it."""
        problem = self.build().double().eval()
        x = observe_examples(problem).double()
        try:
            with torch.no_grad(), seeded(0, CPU):
                objective = problem(x)
                objective.f(objective.q.sample((1,)))
        except Exception:  # noqa: BLE001  (a model may raise anything)
            problem = self.build().eval()
            return problem, observe_examples(problem)
        return problem, x

    def create_estimator(self, problem: Problem) -> Estimator:
        """Create the estimator for the problem, with its learned parts."""
        return create_for(self.estimator_name, problem)

    @contextmanager
    def start(self, steps: int) -> Iterator[State]:
        """Lend a training run of some steps in small batches, at its first step."""
        experiment = Experiment(
            estimators=(self.estimator_name,),
            problems=(self.label,),
            training=Training(steps=steps, batch_size=EXAMPLES),
        )
        (cell,) = make_plan(experiment, ESTIMATORS.resolve, PROBLEMS.resolve)
        with start_run(cell) as run:
            yield run


def observe_examples(problem: Problem, split: str = "train") -> Tensor:
    """Return observations of examples that are spread over a split, always the same, (B, X)."""
    return evaluation_batch(problem, split, EXAMPLES, 0)


def draw(objective: Objective, count: int = 1) -> Tensor:
    """Draw samples of q without a gradient, (S, *R, B, D); torch's random state is left as it was."""
    with seeded(0, CPU):
        return objective.q.sample((count,))


@torch.no_grad()
def call(problem: Problem, x: Tensor) -> dict[str, Tensor]:
    """Return the parameters, f at samples of q and the KL, under the same noise each time."""
    with seeded(0, CPU):
        params = problem.encode(x)
        objective = problem.objective(params, x)
        return {**params, "f": objective.f(objective.q.sample((1,))), "KL": objective.kl()}


def copy_state(module: nn.Module) -> dict[str, Tensor]:
    """Return copies of all weights and buffers by name, those that ``state_dict`` leaves out included."""
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: value.detach().clone() for name, value in named}


def find_changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    """Return the names of tensors that are only in one of the two, or differ in a bit; NaN is equal to NaN."""

    def same(name: str) -> bool:
        if name not in before or name not in after or before[name].shape != after[name].shape:
            return False
        first, second = before[name], after[name]
        return bool(((first == second) | (first.isnan() & second.isnan())).all())

    return [name for name in sorted(before.keys() | after.keys()) if not same(name)]


def differ(first: Tensor, second: Tensor) -> bool:
    """Return whether two values differ by more than the rounding of sums in another order; NaN is equal to NaN."""
    tolerance = 1e-8 if first.dtype == torch.float64 else 1e-4
    return first.shape != second.shape or not torch.allclose(first, second, tolerance, tolerance, equal_nan=True)
