"""Content hashes: the same cell has the same key on every machine, however its options were written."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# Raised when a record's meaning changes: older records are then recomputed, newer ones refused.
SCHEMA_VERSION = 1


def content_hash(data: Any) -> str:
    """SHA-256, in hexadecimal, of plain data; independent of the order of keys."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
