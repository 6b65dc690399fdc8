"""Divergence: the first training step at which a number is no longer finite.

Adam turns a gradient that is not finite into weights that are not, and so on to all that follows; sampling from such
weights may also raise. So it is enough to look once in a while, without making every step wait for the device. Where
something is found, the steps since a copy of the run was made are repeated one by one: repeated steps have the same
bits, and the first bad one is found, with the run as it was then.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from estbench.failures import described
from estbench.guarded import DamagedError, LinkError
from estbench.measure import frozen
from estbench.measure.frozen import ModelSnapshot
from estbench.randomness import seeded
from estbench.training.state import CheckpointError, State

# Between two copies lies this many times the time that a copy takes, and so many seconds at least.
COPY_SHARE = 200
COPY_SECONDS = 1.0


class DivergedError(Exception):
    """A number of the run is not finite; the message says which, and at which step."""


TakeSteps = Callable[[State, int, Callable[[], bool]], list[Tensor]]


class Watch:
    """Takes a run's training steps, and finds the first after which something in it is not finite."""

    def __init__(self, state: State, take_steps: TakeSteps) -> None:
        self.state, self._take_steps = state, take_steps
        # What is infinite at the start (a mask, for example) is meant to be; checkpoints are of finite runs.
        self.exempt = {id(tensor) for tensor in _tensors(state) if not _are_finite([tensor])}
        self._copy()

    def take_steps(self, steps: int, pause: Callable[[], bool]) -> None:
        """Take ``steps`` steps, or fewer if ``pause`` says so; ``DivergedError`` with the state at the first bad one.

        An error that comes from numbers that are not finite is a divergence, too; any other is raised as it is.
        """
        begun = self.state.step
        try:
            surrogates = self._take_steps(self.state, steps, pause)
        except Exception as error:
            self._repeat(self.state.step, described(error))
            raise
        if not self._is_finite(surrogates):
            reached = self.state.step
            self._repeat(reached)
            # The steps were other ones the second time, as on a device that does not repeat its bits.
            finite = torch.isfinite(torch.stack(surrogates)).tolist()
            bad = begun + finite.index(False) + 1 if False in finite else reached
            raise DivergedError(f"the run is not finite at step {bad}")
        if time.monotonic() >= self.next_copy:
            self._copy()

    def _is_finite(self, surrogates: Sequence[Tensor]) -> bool:
        tensors = [tensor for tensor in _tensors(self.state) if id(tensor) not in self.exempt]
        gradients = [weight.grad for weight in self.state.problem.parameters() if weight.grad is not None]
        return _are_finite([*tensors, *gradients], surrogates)

    def _copy(self) -> None:
        began = time.monotonic()
        state = self.state
        self.models = ModelSnapshot(state.problem, state.estimator)
        self.rest = copy.deepcopy(_rest(state))
        taken = time.monotonic() - began
        self.next_copy = began + max(COPY_SECONDS, COPY_SHARE * taken)

    def _repeat(self, reached: int, error: str = "") -> None:
        """Take the steps since the last copy again; ``DivergedError`` at the first whose numbers are not finite.

        ``error`` is what the step after ``reached`` raised: it is a divergence if that step makes such numbers.
        """
        state = self.state
        self.models.restore()
        _take_rest(state, copy.deepcopy(self.rest))
        while state.step < reached:
            surrogates = self._take_steps(state, 1, _never)
            if not torch.isfinite(surrogates[0]):
                raise DivergedError(f"the surrogate is not finite at step {state.step}")
            if not self._is_finite(surrogates):
                raise DivergedError(f"the gradient, the weights or the buffers are not finite at step {state.step}")
        if error:
            with contextlib.suppress(Exception), _Tracing() as numbers:
                self._take_steps(state, 1, _never)
            if numbers.not_finite:
                state.step = reached + 1
                raise DivergedError(f"the step is not finite at step {state.step} ({error})")


@contextlib.contextmanager
def attempt(state: State, measurement: str, x: Tensor | None = None) -> Iterator[None]:
    """Within, remark a measurement that cannot be taken, with the reason; training continues.

    With ``x``, what it is taken on, an error is ``DivergedError`` where weights or what the encoder makes of x are not
    finite. Errors of writing, which concern the whole run, are raised as they are.
    """
    try:
        yield
    except (DivergedError, CheckpointError, DamagedError, LinkError):
        raise
    except Exception as error:
        if x is not None and not _encodes_finite(state, x):
            raise DivergedError(
                f"the {measurement} cannot be taken, because the model is not finite at step {state.step}"
                f" ({described(error)})"
            ) from error
        state.remark(measurement, f"could not be taken: {described(error)}")


def _never() -> bool:
    return False


def _encodes_finite(state: State, x: Tensor) -> bool:
    with frozen(state.problem), seeded(0, state.device), torch.no_grad():
        try:
            encoded = [*state.problem.encode(x).values()]
        except Exception:  # noqa: BLE001  (what is measured may be the very thing that is broken)
            encoded = []
    return _are_finite([*state.problem.parameters(), *encoded])


def _are_finite(tensors: Sequence[Tensor], surrogates: Sequence[Tensor] = ()) -> bool:
    """Whether all are finite; one look at the device."""
    dense = [tensor.coalesce().values() if tensor.is_sparse else tensor for tensor in tensors]
    # The largest of all: a sum of squares would overflow where no number does.
    finite = torch.isfinite(
        torch.nn.utils.get_total_norm([tensor.detach() for tensor in dense if tensor.numel()], math.inf)
    )
    if surrogates:
        finite = torch.isfinite(torch.stack(list(surrogates))).all() & finite
    return bool(finite)


def _tensors(state: State) -> list[Tensor]:
    """Weights and buffers of the model and of the estimator, as far as they are not whole numbers."""
    models: tuple[nn.Module, ...] = (state.problem, state.estimator)
    return [
        tensor
        for model in models
        for tensor in (*model.parameters(), *model.buffers())
        if tensor.is_floating_point() or tensor.is_complex()
    ]


def _rest(state: State) -> dict[str, Any]:
    """Return what the next steps depend on, apart from the models."""
    return {
        "step": state.step,
        "evaluations": state.evaluations,
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
        "batches": state.batches.state_dict(),
        "noise": state.noise(),
    }


def _take_rest(state: State, rest: dict[str, Any]) -> None:
    state.step, state.evaluations = rest["step"], rest["evaluations"]
    for optimizer, content in zip(state.optimizers, rest["optimizers"], strict=True):
        optimizer.load_state_dict(content)
    state.batches.load_state_dict(rest["batches"])
    state.set_noise(rest["noise"])


class _Tracing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes whether any operation within gives NaN or plus infinity; minus infinity is a usual mask."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.not_finite = False

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        if not self.not_finite and "empty" not in str(operation):  # memory that holds no numbers yet
            self.not_finite = any(
                bool((tensor.isnan() | tensor.isposinf()).any())
                for tensor in tree_leaves(result)
                if isinstance(tensor, Tensor) and tensor.is_floating_point()
            )
        return result
