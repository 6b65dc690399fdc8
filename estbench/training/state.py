"""The state of a training run, built from a cell's seeds, saved and restored as a whole."""

from __future__ import annotations

import copy
import hashlib
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from estbench.errors import EstbenchError
from estbench.estimators import Estimator, create_for, make_ready
from estbench.experiment import Cell, stream_seed
from estbench.guarded import guarded
from estbench.measure import frozen
from estbench.options import shortened
from estbench.problems import Problem
from estbench.problems import create as create_problem
from estbench.randomness import RandomState, random_state, seeded, set_random_state
from estbench.store.checkpoints import complaint, most_bytes
from estbench.training.batches import Batches
from estbench.training.schedules import set_scheduled
from estbench.variant import Variant

Rows = list[dict[str, Any]]
# Examples that learned parts are sized by: enough for a normalisation over the batch.
EXAMPLES = 16


class CheckpointError(OSError):
    """A checkpoint could not be written; this ends the run, because it is not the cell's fault."""


class State:
    """Model, estimator, optimisers, data stream and counters of one cell.

    It is built within the cell's noise stream; the initial weights have a stream of their own, so they are the same
    for every estimator.
    """

    def __init__(self, cell: Cell, device: torch.device) -> None:
        self.cell = cell
        self.device = device
        self.problem: Problem = initial_problem(cell, device)
        self.problem.kl_weight = cell.training.kl_weight_at(0)
        self.batches = Batches(self.problem, cell.training.batch_size, stream_seed(cell.seed, "data"))
        self.estimator = initial_estimator(cell, self.problem)
        training = cell.training
        set_scheduled(training, 0, self.problem, self.estimator)
        rate = training.learning_rate
        self.optimizers = [optimizer_of(self.problem, rate, training.optimizer, training.weight_decay)]
        if any(True for _ in self.estimator.parameters()):
            self.optimizers.append(optimizer_of(self.estimator, training.estimator_learning_rate or rate))
        self.rates = [optimizer.param_groups[0]["lr"] for optimizer in self.optimizers]
        self.step = 0
        self.evaluations = 0
        self.not_resumed = ""
        self.unclipped_norm: torch.Tensor | None = None  # of the last step's gradient, if it was clipped
        self.curves: Rows = []
        self.gradients: Rows = []
        self.remarks: Rows = []
        self.pictures: Rows = []

    @property
    def examples(self) -> int:
        """Examples seen so far."""
        return self.step * self.batches.batch_size

    @property
    def evaluations_per_example(self) -> int:
        """Calls of f per example and step."""
        with frozen(self.problem, self.estimator), seeded(0, self.device), torch.no_grad():
            return self.estimator.count_evaluations(self.problem(_examples(self.problem)))

    def remark(self, measurement: str, message: str) -> None:
        """Note that a measurement could not be taken as asked; the same thing is noted once."""
        if not any((row["measurement"], row["message"]) == (measurement, message) for row in self.remarks):
            self.remarks.append({"step": self.step, "measurement": measurement, "message": message})

    def save(self, path: str | PathLike[str], clocks: Mapping[str, float]) -> None:
        """Write a checkpoint, all or nothing; ``clocks`` travel with it."""
        # Through memory, because a full disk is then an OSError that names the file.
        buffer = io.BytesIO()
        torch.save(tree_map_only(torch.Tensor, torch.Tensor.cpu, self._content(clocks)), buffer)
        try:
            guarded(path).write_bytes(buffer.getbuffer())
        except OSError as error:
            raise CheckpointError(error.errno, error.strerror, str(path)) from error

    def restore(self, path: str | PathLike[str]) -> dict[str, float] | None:
        """Resume from a checkpoint and return its clocks; None, and no change, if there is none that fits.

        ``not_resumed`` then says why.
        """
        self.not_resumed = "is damaged"
        content = read_checkpoint(path, bytes_of(self.problem, self.estimator))
        if content is None or (why_not := self._why_not(content)):
            self.not_resumed = self.not_resumed if content is None else why_not
            return None
        try:
            _check_fits(content, self.problem, self.estimator)
        except Exception:  # noqa: BLE001  (damaged, or made by hand: other shapes, missing parts, other types)
            return None
        before = copy.deepcopy(self._content({}))
        try:
            return self._take(content)
        except Exception:  # noqa: BLE001  (damaged, or made by hand: other shapes, missing parts, other types)
            self._take(before)
            return None

    def _why_not(self, content: Mapping[str, Any]) -> str:
        if content.get("key") != self.cell.key:
            return "is of another cell"
        device = shortened(str(content.get("device", "cpu")), 40)
        if device != self.device.type:
            return f"was made on another device ({device}, and this is {self.device.type}), whose noise differs"
        return ""

    def _content(self, clocks: Mapping[str, float]) -> dict[str, Any]:
        return {
            "key": self.cell.key,
            "device": self.device.type,
            "step": self.step,
            "evaluations": self.evaluations,
            "curves": self.curves,
            "gradients": self.gradients,
            "remarks": self.remarks,
            "clocks": dict(clocks),
            "problem": self.problem.state_dict(),
            "estimator": self.estimator.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "batches": self.batches.state_dict(),
            **self.noise(),
        }

    def noise(self) -> dict[str, torch.Tensor | None]:
        """The state of the noise stream, which is torch's default generators while the cell runs."""
        host, device = random_state(self.device)
        return {"noise": host, "device_noise": device}

    def set_noise(self, noise: Mapping[str, Any]) -> None:
        """Set the noise stream to where ``noise`` was called."""
        set_random_state(RandomState(noise["noise"], noise["device_noise"]), self.device)

    def _take(self, content: Mapping[str, Any]) -> dict[str, float]:
        """Take over a checkpoint's content, and return its clocks; raises any error if it does not fit this cell."""
        self.problem.load_state_dict(content["problem"])
        self.estimator.load_state_dict(content["estimator"])
        for optimizer, state in zip(self.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(state)
            _check_shapes(optimizer)
        self.batches.load_state_dict(content["batches"])
        self.set_noise(content)
        self.step, self.evaluations = int(content["step"]), int(content["evaluations"])
        if not 0 <= self.step <= self.cell.training.steps:
            raise ValueError(f"step {self.step} is none of this cell")
        set_scheduled(self.cell.training, max(self.step - 1, 0), self.problem, self.estimator)
        self.curves, self.gradients, self.remarks = (
            [dict(row) for row in content[name]] for name in ("curves", "gradients", "remarks")
        )
        return {name: float(seconds) for name, seconds in content["clocks"].items()}


def _check_shapes(optimizer: torch.optim.Optimizer) -> None:
    """Refuse moments of another shape than their weights, which torch takes as they come."""
    for parameter, state in optimizer.state.items():
        if any(value.dim() and value.shape != parameter.shape for value in state.values()):
            raise ValueError(f"the optimiser's state is not of {tuple(parameter.shape)} weights")


@contextmanager
def start_run(cell: Cell, device: torch.device | str = "cpu") -> Iterator[State]:
    """Lend a run at its first step, in its own noise stream; torch's random state is restored at the end.

    Examples
    --------
    >>> from estbench.estimators import ESTIMATORS
    >>> from estbench.experiment import Experiment, Training, make_plan
    >>> from estbench.problems import PROBLEMS
    >>> from estbench.training import start_run, take_steps
    >>> experiment = Experiment(estimators=("rloo",), problems=("bernoulli_toy",), training=Training(steps=10))
    >>> (cell,) = make_plan(experiment, ESTIMATORS.resolve, PROBLEMS.resolve)
    >>> with start_run(cell) as run:
    ...     surrogates = take_steps(run, 10)
    >>> run.step
    10
    """
    device = torch.device(device)
    with seeded(noise_seed(cell), device):
        yield State(cell, device)


def noise_seed(cell: Cell) -> int:
    """Seed of the estimator's own noise: the one stream that depends on the estimator."""
    return stream_seed(cell.seed, "noise", estimator=str(Variant(cell.estimator.name, cell.estimator.options)))


def initial_problem(cell: Cell, device: torch.device) -> Problem:
    """The problem with this seed's initial weights, whatever the estimator; torch's random state is left as it was."""
    with seeded(stream_seed(cell.seed, "init"), device):
        return create_problem(Variant(cell.problem.name, cell.problem.options)).to(device)


def initial_estimator(cell: Cell, problem: Problem) -> Estimator:
    """The estimator, its learned parts sized for the problem."""
    estimator = create_for(Variant(cell.estimator.name, cell.estimator.options), problem)
    with frozen(problem), torch.no_grad():
        with seeded(0, problem.device):
            objective = problem(_examples(problem))
        return make_ready(estimator, objective)


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of all weights and buffers: equal where they are bit-equal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _examples(problem: Problem) -> torch.Tensor:
    """A few observations, always the same, (N, X)."""
    intensities = torch.from_numpy(problem.data.train[:EXAMPLES]).to(problem.device)
    return problem.observe(intensities, torch.Generator(problem.device).manual_seed(0))


def optimizer_of(
    module: nn.Module, learning_rate: float, name: str = "adam", weight_decay: float = 0.0
) -> torch.optim.Optimizer:
    """The optimiser of a run, ``adam``, ``adamw`` or ``sgd``, which ascends; only ``adamw`` has a weight decay."""
    weights = module.parameters()
    match name:
        case "sgd":
            return torch.optim.SGD(weights, lr=learning_rate, maximize=True, fused=True)
        case "adamw":
            return torch.optim.AdamW(weights, learning_rate, weight_decay=weight_decay, maximize=True, fused=True)
        case _:
            return torch.optim.Adam(weights, lr=learning_rate, maximize=True, fused=True)


def bytes_of(*modules: nn.Module) -> int:
    """Return the bytes of the weights and buffers of models."""
    return sum(value.nbytes for module in modules for value in tensors_in(module.state_dict()))


def tensors_in(content: Any) -> Iterator[torch.Tensor]:
    """Every tensor of nested data; what is in it several times counts once, and no depth is too deep."""
    waiting, seen = [content], set()
    while waiting:
        each = waiting.pop()
        if isinstance(each, torch.Tensor):
            yield each
        elif isinstance(each, Mapping | list | tuple) and id(each) not in seen:
            seen.add(id(each))
            waiting += each.values() if isinstance(each, Mapping) else each


def read_checkpoint(path: str | PathLike[str], weights: int) -> dict[str, Any] | None:
    """A checkpoint's content; a damaged one counts as none, because the cell can always start again.

    ``weights`` are the bytes of the model that it is for: a file that is too large for it, or that would take more
    memory than it has bytes, is not loaded.
    """
    try:
        with guarded(path).open() as file:
            if complaint(file, weights):
                return None
            content = torch.load(file, map_location="cpu", weights_only=True)
    except EstbenchError:
        raise
    except Exception:  # noqa: BLE001  (reading garbage may raise anything: IndexError, KeyError, struct.error, ...)
        return None
    # A view may have more elements than there are numbers, and all of them would be copied.
    claimed = sum(value.numel() * value.element_size() for value in tensors_in(content))
    return content if isinstance(content, dict) and claimed <= most_bytes(weights) else None


def _check_fits(content: Mapping[str, Any], problem: nn.Module, estimator: nn.Module) -> None:
    """Refuse weights and moments of other shapes than the model's, before any of them is copied."""
    for name, module in (("problem", problem), ("estimator", estimator)):
        own = {key: value.shape for key, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
        given = {key: value.shape for key, value in content[name].items() if isinstance(value, torch.Tensor)}
        if own != given:
            raise ValueError(f"the {name}'s weights are of other shapes")
    for optimizer in content["optimizers"]:
        for moments in optimizer["state"].values():
            if not all(value is None or isinstance(value, torch.Tensor | int | float) for value in moments.values()):
                raise TypeError("the optimiser's state is more than numbers")
