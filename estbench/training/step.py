"""Training steps: what every run is made of."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from estbench.errors import EstbenchError
from estbench.estimators import surrogate_of
from estbench.training.state import State


def advance(state: State, steps: int, pause: Callable[[], bool] = lambda: False) -> list[Tensor]:
    """Take training steps: gradient ascent on the minibatch-mean surrogate, whose values are returned.

    It ends early, between two steps, where ``pause`` says so. Nothing here waits for the device.
    """
    problem, estimator, optimizers = state.problem, state.estimator, state.optimizers
    training = state.cell.training
    parameters = [*problem.parameters(), *estimator.parameters()]
    surrogates = []
    for _ in range(steps):
        objective = problem(next(state.batches))
        surrogate = surrogate_of(estimator, objective).mean()
        if not surrogate.requires_grad:
            raise EstbenchError(
                f"the surrogate of estimator '{state.cell.estimator.label}' has no gradient: it depends on no weight"
                " that is trained; do not detach it"
            )
        for parameter in parameters:  # what Optimizer.zero_grad does, without its profiling hooks: 2 % of a step
            parameter.grad = None
        surrogate.backward()  # type: ignore[no-untyped-call]
        if training.schedule != "constant":
            for optimizer, rate in zip(optimizers, state.rates, strict=True):
                optimizer.param_groups[0]["lr"] = rate * training.rate_at(state.step)
        for optimizer in optimizers:
            optimizer.step()
        state.step += 1
        state.evaluations += objective.evaluations
        surrogates.append(surrogate.detach())
        if pause():
            break
    return surrogates
