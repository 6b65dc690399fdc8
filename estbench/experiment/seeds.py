"""Streams of randomness: one integer seed per cell, one independent stream per purpose.

The streams are ``init`` (initial weights), ``data`` (order and binarisation), ``evaluation``, ``probe`` and
``noise`` (the draws of the estimator). Only ``noise`` has the estimator as an axis, so two estimators with the same
seed start from bit-equal weights and see bit-equal minibatches.
"""

from __future__ import annotations

from typing import Literal

from estbench.experiment.keys import content_hash

Stream = Literal["init", "data", "evaluation", "probe", "noise"]


def stream_seed(seed: int, stream: Stream, **axes: str | int) -> int:
    """Return the seed of one stream: 63 bits of SHA-256 over the cell's seed, the stream's name and its axes."""
    return int(content_hash([seed, stream, axes])[:16], 16) >> 1
