"""Clocks and throughput.

Throughput is timed in rounds that are interleaved over the estimators, because a machine's speed drifts. Every
estimator runs once in each round, in an order that rotates, and is compared with the reference within a round: the
ratio of the two times is free of the drift that both share.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from estbench.devices import synchronize
from estbench.measure.memory import PeakMemory

NAMES = ("training", "evaluation", "probe", "writing")


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
        By label, a function that takes so many training steps. What it needs should be built when it is first called:
        the memory of that call, above what was in use before, is that of this runner.
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
    One row per round and runner: ``round``, ``estimator``, ``seconds`` (of all steps) and ``peak_memory_bytes`` (of
    the runner's first call; None if it cannot be known).

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

    memory = PeakMemory(device)
    peaks: dict[str, int | None] = {}
    for label in list(labels):
        memory.reset()
        timed(label)
        peaks[label] = memory.bytes()
    for index in range(rounds):
        if interrupted():
            return []
        shift = index % max(1, len(labels))
        for label in labels[shift:] + labels[:shift]:
            seconds = timed(label)
            if seconds is None:
                continue
            rows.append({"round": index, "estimator": label, "seconds": seconds, "peak_memory_bytes": peaks[label]})
    return rows


def _seconds(take_steps: TakeSteps, steps: int, device: torch.device) -> float:
    """Return the duration of some steps: by events where a device has streams of work, else by the wall clock."""
    module = torch.get_device_module(device)
    if device.type == "cpu" or not hasattr(module, "Event"):
        synchronize(device)
        start = time.perf_counter()
        take_steps(steps)
        synchronize(device)
        return time.perf_counter() - start
    stream = module.current_stream(device)
    begin, end = (module.Event(enable_timing=True) for _ in range(2))
    synchronize(device)
    begin.record(stream)
    take_steps(steps)
    end.record(stream)
    synchronize(device)
    return float(begin.elapsed_time(end)) / 1000
