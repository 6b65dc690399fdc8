"""Content hashes: the same cell has the same key on every machine, however its options were written."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# Raised when what is written changes its shape or its meaning; records of any other schema are refused.
SCHEMA_VERSION = 3


def content_hash(data: Any) -> str:
    """SHA-256, in hexadecimal, of plain data; independent of the order of keys."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
