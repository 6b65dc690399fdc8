"""A training step that torch compiles. It has noise of its own, so it serves to measure speed, not to train."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from estbench.devices import synchronize
from estbench.options import shortened
from estbench.training.loop import mean_surrogate, take_steps
from estbench.training.state import State

# Compiled variants of one function: torch allows 8, and each estimator, problem and size of minibatches is one.
VARIANTS = 10_000
LIMITS = ("recompile_limit", "accumulated_recompile_limit")
LONGEST_REASON = 160


class CannotCompileError(Exception):
    """torch cannot compile a step, or what it compiled fails; the message says why."""


class CompiledSteps:
    """Steps of a run with ``torch.compile`` of the surrogate, forward and backward; the optimiser is fused already.

    On an accelerator the mode is ``reduce-overhead``, which captures its launches in graphs where it can.

    Parameters
    ----------
    state
        The run. Its first step is eager, because an estimator checks the first objective that it is given.
    backend
        The compiler: see ``torch.compile``.

    Attributes
    ----------
    seconds
        The time of two compiled steps, the first: in the second, torch compiles again what turned out to change.
    breaks
        Why the step is no single graph, each reason once; empty if it is one.

    Raises
    ------
    CannotCompileError
        If a compiled step fails where an eager one does not.

    Examples
    --------
    >>> from estbench.estimators import ESTIMATORS
    >>> from estbench.experiment import Experiment, make_plan
    >>> from estbench.problems import PROBLEMS
    >>> from estbench.training import start_run
    >>> from estbench.training.compiled import CompiledSteps
    >>> experiment = Experiment(estimators=("reparam",), problems=("gaussian_toy",))
    >>> (cell,) = make_plan(experiment, ESTIMATORS.resolve, PROBLEMS.resolve)
    >>> with start_run(cell) as run:
    ...     compiled = CompiledSteps(run, backend="aot_eager")
    ...     surrogates = compiled.take(5)
    >>> run.step, len(surrogates), compiled.breaks
    (8, 5, ())
    """

    def __init__(self, state: State, backend: str | Callable[..., Any] = "inductor") -> None:
        from torch._dynamo.utils import counters  # noqa: PLC0415  (a second, which only compiling needs)

        take_steps(state, 1)
        self.state = state
        launches = backend == "inductor" and state.device.type != "cpu"
        options: dict[str, Any] = {"mode": "reduce-overhead"} if launches else {}
        surrogate_on = partial(mean_surrogate, state.problem, state.estimator)
        with _compiling():
            self._compiled = torch.compile(surrogate_on, backend=backend, dynamic=False, **options)
        counters["graph_break"].clear()
        synchronize(state.device)
        start = time.perf_counter()
        try:
            self.take(2)
        except Exception as error:
            raise CannotCompileError(_in_short(f"{type(error).__name__}: {error}")) from error
        synchronize(state.device)
        self.seconds = time.perf_counter() - start
        self.breaks = tuple(dict.fromkeys(_in_short(str(reason)) for reason in counters["graph_break"]))

    def take(self, steps: int) -> list[Tensor]:
        """Take steps, and return the surrogates: see ``take_steps``."""
        with _compiling():
            return take_steps(self.state, steps, surrogate_on=self._surrogate_on)

    def _surrogate_on(self, x: Tensor) -> tuple[Tensor, int]:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        surrogate, evaluations = self._compiled(x)
        return surrogate.clone(), evaluations  # what a captured graph returns is overwritten by its next step


@contextlib.contextmanager
def _compiling() -> Iterator[None]:
    """Within, torch may compile a function as often as there are estimators; its older versions have other names.

    torch stops checking the arguments of distributions when it compiles, and leaves it so: it is put back.
    """
    from torch._dynamo import config  # noqa: PLC0415

    names = [name if hasattr(config, name) else name.replace("recompile", "cache_size") for name in LIMITS]
    checked = Distribution._validate_args  # noqa: SLF001
    try:
        with config.patch(dict.fromkeys(names, VARIANTS)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler's advice to the author of a model
            yield
    finally:
        Distribution.set_default_validate_args(checked)


def _in_short(reason: str) -> str:
    """Return the first line of a reason; if it only announces the next one, that one."""
    lines = [line.strip() for line in reason.strip().splitlines() if line.strip()]
    announced = len(lines) > 1 and lines[0].endswith(":")
    return shortened(lines[announced] if lines else "no reason is given", LONGEST_REASON)
