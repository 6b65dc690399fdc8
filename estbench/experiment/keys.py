"""Content hashes: a cell has the same key on every machine, in whatever order its options were written."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# Raised when the shape or the meaning of a record changes; records of any other schema are refused.
SCHEMA_VERSION = 3


def content_hash(data: Any) -> str:
    """Return the SHA-256 of plain data in hexadecimal; it does not depend on the order of keys."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
