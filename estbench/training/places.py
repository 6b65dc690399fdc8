"""Where a probe may be taken by itself: at fresh weights, at a checkpoint, or at those of a results folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from estbench.errors import EstbenchError
from estbench.experiment import stream_seed
from estbench.failures import mistakes_of
from estbench.guarded import DamagedError, GuardedPath
from estbench.limits import RECORD_BYTES, RECORD_PARTS
from estbench.problems import Problem
from estbench.problems import create as create_problem
from estbench.randomness import seeded
from estbench.store import ResultsFolder
from estbench.store.files import read_json
from estbench.training.state import bytes_of, read_checkpoint
from estbench.variant import Variant


@dataclass(frozen=True)
class Place:
    """A problem at certain weights, and what the place is called."""

    name: str
    problem: Problem


def fresh(variant: str, seed: int, device: torch.device) -> Place:
    """The initial weights that every cell with this seed starts from."""
    with mistakes_of(f"problem '{variant}' cannot be built"), seeded(stream_seed(seed, "init"), device):
        return Place("initial weights", create_problem(variant).to(device))


def at_checkpoint(path: GuardedPath, variant: str | None, device: torch.device) -> Place:
    """The weights of a checkpoint; its problem is the one that is given, or that of the cell that it lies with."""
    variant = variant or _problem_beside(path)
    if variant is None:
        raise EstbenchError(f"'{path}' does not say which problem it is of; name it with --problem")
    if not path.exists():
        raise EstbenchError(f"no checkpoint '{path}'; make one with `estbench run --keep-checkpoints`")
    problem = fresh(variant, 0, device).problem
    content = read_checkpoint(path, bytes_of(problem))
    if content is None or not isinstance(content.get("problem"), dict):
        raise EstbenchError(f"'{path}' is no checkpoint of estbench, is damaged, or is not of '{variant}'")
    try:
        problem.load_state_dict(content["problem"])
    except (RuntimeError, TypeError, AttributeError):
        raise EstbenchError(f"the weights in '{path}' are not those of '{variant}'; name its --problem") from None
    return Place(f"step {content.get('step', '?')} of {path.parent.name}", problem)


def in_results(path: Path, device: torch.device) -> list[Place]:
    """Every finished cell of a results folder that kept its checkpoint."""
    folder = ResultsFolder(path)
    found = []
    for cell in folder.read_plan()["cells"]:
        checkpoint = folder.place(cell["folder"]) / "checkpoint.pt"
        if checkpoint.exists():
            variant = str(Variant(cell["problem"]["name"], cell["problem"]["options"]))
            found.append(at_checkpoint(checkpoint, variant, device))
    if not found:
        raise EstbenchError(f"no cell of '{path}' kept its checkpoint; run it with --keep-checkpoints")
    return found


def _problem_beside(path: GuardedPath) -> str | None:
    """The problem in the ``cell.json`` next to a checkpoint."""
    try:
        problem = read_json(path.parent / "cell.json", limits=(RECORD_BYTES, RECORD_PARTS))["cell"]["problem"]
        return str(Variant(problem["name"], problem["options"]))
    except (DamagedError, KeyError, TypeError, AttributeError):
        return None
