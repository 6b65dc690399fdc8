"""Training steps: what every run is made of."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from estbench.training.state import State


def advance(state: State, steps: int, interrupted: Callable[[], bool] = lambda: False) -> list[Tensor]:
    """Take training steps: gradient ascent on the minibatch-mean surrogate, whose values are returned."""
    problem, estimator, optimizers = state.problem, state.estimator, state.optimizers
    training = state.cell.training
    parameters = [*problem.parameters(), *estimator.parameters()]
    surrogates = []
    for _ in range(steps):
        objective = problem(next(state.batches))
        surrogate = estimator(objective).mean()
        for parameter in parameters:  # what Optimizer.zero_grad does, without its profiling hooks: 2 % of a step
            parameter.grad = None
        surrogate.backward()
        if training.schedule != "constant":
            for optimizer, rate in zip(optimizers, state.rates, strict=True):
                optimizer.param_groups[0]["lr"] = rate * training.rate_at(state.step)
        for optimizer in optimizers:
            optimizer.step()
        state.step += 1
        state.evaluations += objective.evaluations
        surrogates.append(surrogate.detach())
        if interrupted():
            break
    return surrogates
