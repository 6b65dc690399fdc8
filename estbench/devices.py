"""Devices: which there are, how to wait for one, its memory, its precision, and how to make it repeat its bits.

Only this module and ``estbench.randomness`` know kinds of devices. All others call torch, which is the same on each.
"""

from __future__ import annotations

import contextlib
import copy
import os
import re
import subprocess
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from estbench.errors import EstbenchError

T = TypeVar("T")
KINDS = ("cuda", "xpu", "mps")
# cuBLAS repeats its bits only with a workspace of its own, which it asks for when it is first used.
WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
NOT_REPEATED = re.compile(r"(\S+) does not have a deterministic implementation")
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")


def choose_device(name: str = "auto") -> torch.device:
    """Return a device by its name: ``cpu``, ``cuda``, ``cuda:1``, ``mps``, ``xpu``; ``auto`` is CUDA if there is one.

    Raises ``EstbenchError`` if there is no such device.

    Examples
    --------
    >>> from estbench.devices import choose_device
    >>> choose_device("cpu")
    device(type='cpu')
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        module = torch.get_device_module(device)
    except RuntimeError:
        raise EstbenchError(f"--device {name}: no such device; take auto, cpu, cuda, cuda:1, mps or xpu") from None
    if device.type == "cpu":
        return torch.device("cpu")
    if reason := _why_absent(device, module):
        raise EstbenchError(f"--device {name}: {reason}; use --device cpu or auto")
    return device


def _why_absent(device: torch.device, module: Any) -> str:
    name = device.type.upper()
    if not module.is_available():
        built = torch.version.cuda is not None or device.type != "cuda"
        return f"torch finds no {name} device" if built else f"this torch is built without {name}"
    count = module.device_count()
    if (device.index or 0) >= count:
        return f"there are {count} {name} devices, counted from 0" if count > 1 else f"there is one {name} device, 0"
    return ""


def accelerators() -> list[str]:
    """Return the kinds of accelerators that this machine has."""
    return [kind for kind in KINDS if torch.get_device_module(kind).is_available()]


def synchronize(device: torch.device) -> None:
    """Wait until a device has finished its work; a CPU always has.

    Examples
    --------
    >>> import torch
    >>> from estbench.measure import synchronize
    >>> synchronize(torch.device("cpu"))
    """
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(*[device] if device.type != "mps" else [])


@cache
def has_float64(device: torch.device) -> bool:
    """Return whether a device computes in double precision: MPS does not, and some of Intel's GPUs do not."""
    try:
        torch.zeros((), dtype=torch.float64, device=device)
    except (TypeError, RuntimeError):
        return False
    return True


def double(tensor: Tensor) -> Tensor:
    """Return a tensor in double precision: where it is, or on the CPU if its device has none."""
    return tensor.double() if has_float64(tensor.device) else tensor.cpu().double()


def in_double(device: torch.device, *parts: Any) -> tuple[Any, ...]:
    """Return modules and tensors of a device, or copies of them on the CPU if the device has no double precision."""
    return parts if has_float64(device) else tuple(copy.deepcopy(part).cpu() for part in parts)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is that of a device, or of this machine, without enough memory."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or (isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY))


def in_pieces(compute: Callable[[int], T], size: int, smallest: int, device: torch.device) -> tuple[T, int]:
    """Compute something in pieces of at most ``size``, and of half as much each time that memory is short.

    Return it with the size that was small enough. An error is raised if not even ``smallest`` is.
    """
    while True:
        try:
            return compute(size), size
        except Exception as error:
            if not is_out_of_memory(error) or size <= smallest:
                raise
        size //= 2
        if device.type != "cpu":  # what torch keeps for later
            torch.get_device_module(device).empty_cache()


@contextlib.contextmanager
def deterministic(device: torch.device, note: Callable[[str], object] = lambda _name: None) -> Iterator[None]:
    """Let torch take algorithms that give the same bits each time; ``note`` hears of operations that have none.

    On a CPU, torch's algorithms do so anyway, and nothing changes.
    """
    if device.type == "cpu":
        yield
        return
    os.environ.setdefault(*WORKSPACE)
    core, cudnn = torch.utils.deterministic, torch.backends.cudnn
    flags = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    kept = core.fill_uninitialized_memory, cudnn.benchmark, warnings.showwarning  # type: ignore[attr-defined]

    def show(message: Warning | str, *arguments: Any, **options: Any) -> None:
        if match := NOT_REPEATED.match(str(message)):
            note(match[1])
        else:
            kept[2](message, *arguments, **options)

    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    core.fill_uninitialized_memory, cudnn.benchmark = False, False  # type: ignore[attr-defined]
    warnings.showwarning = show
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(flags[0], warn_only=flags[1])
        core.fill_uninitialized_memory, cudnn.benchmark, warnings.showwarning = kept  # type: ignore[attr-defined]


def describe_device(device: torch.device) -> dict[str, Any]:
    """Return the provenance of an accelerator as plain data; empty for a CPU."""
    if device.type == "cpu":
        return {}
    module = torch.get_device_module(device)
    names = [_name(module, index) for index in range(module.device_count())]
    described = {
        "device": device.type,
        "device_name": names[device.index or 0],
        "devices": len(names),
        "device_names": ", ".join(dict.fromkeys(names)),
        "matmul_precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }
    if device.type == "cuda":
        described |= {
            "cuda": torch.version.cuda or torch.version.hip,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "driver": _driver(),
            "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
        }
    return described


def _name(module: Any, index: int) -> str:
    try:
        return str(module.get_device_name(index))
    except (AttributeError, RuntimeError):  # MPS has no names
        return str(module.__name__).rpartition(".")[2]


@cache
def _driver() -> str | None:
    """Return the version of NVIDIA's driver, if its tool is there to ask."""
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.partition("\n")[0].strip() or None
