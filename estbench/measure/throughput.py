"""Throughput: training steps timed in rounds that are interleaved over the estimators.

A machine's speed drifts. So every estimator runs once in each round, in an order that rotates, and an estimator is
compared with the reference within a round: the ratio of the two times is free of the drift that both share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from estbench.measure.clocks import synchronize
from estbench.measure.memory import PeakMemory

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

    Returns one row per round and runner: ``round``, ``estimator``, ``seconds`` (of all steps) and
    ``peak_memory_bytes`` (nothing where it cannot be known). A measurement that is interrupted before its last
    round returns no rows. A runner that raises is left out, and ``failed`` is told; without it, the error is raised.
    """
    rows: list[dict[str, Any]] = []
    labels = list(runners)

    def timed(label: str) -> float | None:
        try:
            return _seconds(runners[label], steps, device)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # an estimator is anybody's code
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
    """Duration of some steps: by events on CUDA, by the wall clock on a CPU."""
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
