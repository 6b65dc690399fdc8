"""Content hashes: the keys of cells and the seeds of random streams.

A cell has the same key on every machine, in whatever order its options were written. A cell has one integer seed,
from which the seed of each stream is derived: ``init`` (initial weights), ``data`` (the order of examples),
``pixels`` (binarisation), ``evaluation``, ``probe``, ``pictures`` and ``noise`` (the draws of the estimator). Only
``noise`` has the estimator as an axis, so two estimators with the same seed start from bit-equal weights and see bit-
equal minibatches.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

# Raised when the shape or the meaning of a record changes; records of any other schema are refused.
SCHEMA_VERSION = 5

Stream = Literal["init", "data", "pixels", "evaluation", "probe", "pictures", "noise"]


def content_hash(data: Any) -> str:
    """Return the SHA-256 of plain data in hexadecimal; it does not depend on the order of keys.

    >>> content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    True
    """
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def stream_seed(seed: int, stream: Stream, **axes: str | int) -> int:
    """Return the seed of one stream: 63 bits of SHA-256 over the cell's seed, the stream's name and its axes."""
    return int(content_hash([seed, stream, axes])[:16], 16) >> 1
