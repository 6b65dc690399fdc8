"""Clocks, peak memory, and throughput.

Throughput is timed in rounds that are interleaved over the estimators, because a machine's speed drifts. Every
estimator runs once in each round, in an order that rotates, and is compared with the reference within a round: the
ratio of the two times is free of the drift that both share.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

NAMES = ("training", "evaluation", "probe", "writing")


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its work; a CPU always has.

    Examples
    --------
    >>> import torch
    >>> from estbench.measure import synchronize
    >>> synchronize(torch.device("cpu"))
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Clocks:
    """Seconds spent in each part of a cell. Run one clock at a time, because nested ones count the same time twice.

    Parameters
    ----------
    device
        The device that is synchronised at both ends of a clock.
    seconds
        The seconds so far, by clock; zero if None.
    begins
        Called with the name of a clock before it starts.

    Examples
    --------
    >>> import torch
    >>> from estbench.measure import Clocks
    >>> clocks = Clocks(torch.device("cpu"))
    >>> with clocks("training"):
    ...     _ = torch.ones(3).sum()
    >>> clocks.seconds["training"] > 0, clocks.seconds["probe"]
    (True, 0.0)
    """

    def __init__(
        self,
        device: torch.device,
        seconds: Mapping[str, float] | None = None,
        begins: Callable[[str], None] = lambda _name: None,
    ) -> None:
        self.device = device
        self.begins = begins
        self.seconds = dict.fromkeys(NAMES, 0.0) | dict(seconds or {})

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Run one clock; the device is synchronised at both ends, so that each counts its own work."""
        self.begins(name)
        synchronize(self.device)
        start = time.perf_counter()
        try:
            yield
        finally:
            synchronize(self.device)
            self.seconds[name] += time.perf_counter() - start


PROCESS = Path("/proc/self")


class PeakMemory:
    """The peak of the memory in use since ``reset``.

    On CUDA it is the memory that torch allocated. On a CPU it is the peak resident set of the whole process, which
    Linux can reset. If it cannot be reset, there is no true number for one estimator, and ``bytes`` gives None.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.known = False

    def reset(self) -> None:
        """Start again from the memory in use now."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self.known = True
            return
        try:
            (PROCESS / "clear_refs").write_text("5", encoding="ascii")
            self.known = True
        except OSError:
            self.known = False

    def bytes(self) -> int | None:
        """Return the mark in bytes; None if it cannot be known."""
        if not self.known:
            return None
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        mark = re.search(r"VmHWM:\s+(\d+) kB", (PROCESS / "status").read_text(encoding="ascii"))
        return int(mark[1]) * 1024 if mark else None


TakeSteps = Callable[[int], object]


def measure_throughput(
    runners: Mapping[str, TakeSteps],
    rounds: int,
    steps: int,
    device: torch.device,
    interrupted: Callable[[], bool] = lambda: False,
    failed: Callable[[str, BaseException], None] | None = None,
) -> list[dict[str, Any]]:
    """Time ``rounds`` x ``steps`` training steps of each runner, after one round of warm-up.

    Parameters
    ----------
    runners
        By label, a function that takes so many training steps.
    rounds, steps
        The rounds, interleaved over the runners, and the steps of a runner in each.
    device
        The device whose work and memory are measured.
    interrupted
        Asked before each round; if it says True, no rows are returned.
    failed
        Called with the label and the error of a runner that raises, which is left out then; if None, the error is
        raised.

    Returns
    -------
    One row per round and runner: ``round``, ``estimator``, ``seconds`` (of all steps) and ``peak_memory_bytes`` (None
    if it cannot be known).

    Examples
    --------
    >>> import torch
    >>> from estbench.measure import measure_throughput
    >>> runners = {"a": lambda steps: None, "b": lambda steps: None}
    >>> rows = measure_throughput(runners, rounds=2, steps=10, device=torch.device("cpu"))
    >>> [(row["round"], row["estimator"]) for row in rows]  # the order rotates
    [(0, 'a'), (0, 'b'), (1, 'b'), (1, 'a')]
    """
    rows: list[dict[str, Any]] = []
    labels = list(runners)

    def timed(label: str) -> float | None:
        try:
            return _seconds(runners[label], steps, device)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # an estimator may be a user's code, and raise anything
            if failed is None:
                raise
            failed(label, error)
            labels.remove(label)
            rows[:] = [row for row in rows if row["estimator"] != label]
            return None

    for label in list(labels):
        timed(label)
    memory = PeakMemory(device)
    for index in range(rounds):
        if interrupted():
            return []
        shift = index % max(1, len(labels))
        for label in labels[shift:] + labels[:shift]:
            memory.reset()
            seconds = timed(label)
            if seconds is None:
                continue
            rows.append({"round": index, "estimator": label, "seconds": seconds, "peak_memory_bytes": memory.bytes()})
    return rows


def _seconds(take_steps: TakeSteps, steps: int, device: torch.device) -> float:
    """Return the duration of some steps: by events on CUDA, by the wall clock on a CPU."""
    if device.type != "cuda":
        start = time.perf_counter()
        take_steps(steps)
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    synchronize(device)
    begin.record()
    take_steps(steps)
    end.record()
    synchronize(device)
    return float(begin.elapsed_time(end)) / 1000
