"""TOML files that users write by hand: experiments, cards, SLURM files."""

from __future__ import annotations

import os
import re
import tomllib
from typing import Any

from estbench.errors import EstbenchError
from estbench.guarded import DamagedError, GuardedPath
from estbench.limits import TOML_BYTES

# The parser's memory grows with the square of the number of parts of a key.
MOST_PARTS = 40
_NAME = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![\w-])(?:{_NAME}[ \t]*+\.[ \t]*+){{{MOST_PARTS}}}")


def read_toml(path: str | os.PathLike[str], missing: str) -> dict[str, Any]:
    """Read a TOML file; raise ``EstbenchError`` with the place of a mistake, or ``missing`` if there is no file."""
    try:
        text = GuardedPath(path).read_text(limit=TOML_BYTES)
        _check_keys(text)
        return tomllib.loads(text.removeprefix("\ufeff"))  # some editors write a byte order mark
    except (FileNotFoundError, NotADirectoryError):
        raise EstbenchError(missing) from None
    except DamagedError as error:  # a pipe or a device; a folder with this name means that there is no file
        raise EstbenchError(missing if os.path.isdir(path) else f"cannot read {error}") from None  # noqa: PTH112
    except OSError as error:
        raise EstbenchError(f"cannot read '{path}': {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # ValueError: bad syntax, bad UTF-8, a number of 5,000 digits
        raise EstbenchError(f"'{path}' is not valid TOML: {error}") from None


def _check_keys(text: str) -> None:
    if _LONG_KEY.search(text):
        raise ValueError(f"a key has more than {MOST_PARTS} parts")
