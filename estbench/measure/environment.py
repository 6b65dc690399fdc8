"""The provenance of a number: versions, device, threads, commit. It is never part of a key."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from estbench.devices import describe_device

PACKAGES = ("estbench", "torch", "numpy", "scipy", "pandas", "pyarrow")


def describe_environment(device: torch.device) -> dict[str, Any]:
    """Return the provenance as flat, plain data; ``machine`` is a hash that tells machines apart without naming them.

    Examples
    --------
    >>> import torch
    >>> from estbench.measure import describe_environment
    >>> describe_environment(torch.device("cpu"))["device"]
    'cpu'
    """
    processor = _processor()
    return {
        **{package: _version(package) for package in PACKAGES},
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "device_name": processor,
        **describe_device(device),
        "machine": hashlib.sha256(f"{platform.node()} {processor}".encode()).hexdigest()[:8],
        **_source(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.processor(),
    )


@cache
def _source() -> dict[str, Any]:
    """Return the commit of the source tree that estbench runs from; None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return {"commit": None, "uncommitted": None}
    try:
        commit = _git(root, "rev-parse", "HEAD")
        # Results are written while they are made; they change no number.
        changes = _git(root, "status", "--porcelain", "--", "estbench", "pyproject.toml", "experiments")
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "uncommitted": None}
    return {"commit": commit, "uncommitted": bool(changes)}


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
