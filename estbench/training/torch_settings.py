"""Settings of torch that hold for a whole process, or for a whole thread: how to read each, and how to put it back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.distributions import Distribution
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

MISSING = object()
PRECISIONS = [
    ("generic", "all"),
    *((backend, part) for backend in ("mkldnn", "cuda") for part in ("all", "matmul", "conv", "rnn")),
]


class Setting(NamedTuple):
    """One thing of the process: its name, how to read it, and how to put it back."""

    name: str
    read: Callable[[], Any]
    restore: Callable[[Any], object]
    own: bool = False  # the cell's to use: put back, and no fault of it
    imported: bool = False  # modules change it, too, as they are imported


def attributes(name: str, *places: tuple[Any, Iterable[str]], imported: bool = False) -> Setting:
    """Attributes of modules or objects: ``(object, names)``; those that there are."""
    pairs = [(place, attribute) for place, names in places for attribute in names if hasattr(place, attribute)]

    def restore(values: list[Any]) -> None:
        for (place, attribute), value in zip(pairs, values, strict=True):
            if getattr(place, attribute) is not value:
                setattr(place, attribute, value)

    return Setting(name, lambda: [getattr(*pair) for pair in pairs], restore, imported=imported)


def contents(name: str, *containers: Any, imported: bool = False) -> Setting:
    """Lists and dictionaries that others hold, too, and that are therefore changed in place."""

    def restore(values: list[Any]) -> None:
        for container, value in zip(containers, values, strict=True):
            if container != value:
                container.clear()
                (container.update if isinstance(container, dict) else container.extend)(value)

    return Setting(name, lambda: [container.copy() for container in containers], restore, imported=imported)


def torch_settings() -> list[Setting]:
    """Return all settings. Modes come first, because they may change how the others are read."""
    cuda, core = torch.backends.cuda, torch._C  # noqa: SLF001
    hooks = [(each, [name for name in vars(each) if name.startswith("_global")]) for each in (modules, optimizers)]
    return [
        Setting("a TorchDispatchMode", lambda: _stack("dispatch"), lambda modes: _restore_stack("dispatch", modes)),
        Setting("torch's default device", _default_device, torch.set_default_device),
        Setting("a TorchFunctionMode", lambda: _stack("function"), lambda modes: _restore_stack("function", modes)),
        Setting("inference mode", torch.is_inference_mode_enabled, _restore_inference_mode),
        Setting("torch's grad mode", torch.is_grad_enabled, core._set_grad_enabled),  # noqa: SLF001
        Setting(
            "anomaly detection",
            lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
            lambda value: torch.autograd.set_detect_anomaly(*value),
        ),
        Setting("autocast", _autocast, _restore_autocast),
        Setting("hooks for saved tensors", _saved_tensors_hooks, _restore_saved_tensors_hooks),
        Setting(
            "autograd's multithreading",
            core._is_multithreading_enabled,  # noqa: SLF001
            core._set_multithreading_enabled,  # noqa: SLF001
        ),
        Setting("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
        Setting("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
        Setting("flush_denormal", lambda: sys.float_info.min / 2 == 0, torch.set_flush_denormal),
        Setting("float32 matmul precision", _precision, _restore_precision),
        Setting(
            "deterministic algorithms",
            lambda: (
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            lambda value: torch.use_deterministic_algorithms(value[0], warn_only=value[1]),
        ),
        attributes(
            "flags of torch.backends",
            (torch.backends.cudnn, ("enabled", "benchmark", "benchmark_limit", "deterministic", "allow_tf32")),
            (torch.backends.mkldnn, ("enabled", "deterministic", "allow_tf32")),
            (torch.backends.opt_einsum, ("enabled", "strategy")),
            (torch.utils.deterministic, ("fill_uninitialized_memory",)),
        ),
        Setting(
            "attention kernels",
            lambda: [getattr(cuda, f"{name}_sdp_enabled")() for name in ("flash", "mem_efficient", "math", "cudnn")],
            lambda value: [
                getattr(cuda, f"enable_{name}_sdp")(enabled)
                for name, enabled in zip(("flash", "mem_efficient", "math", "cudnn"), value, strict=True)
            ],
        ),
        attributes("validation of distributions' arguments", (Distribution, ("_validate_args",))),
        contents(
            "hooks on all modules or optimisers",
            *(hook for module, names in hooks for name in names if isinstance(hook := getattr(module, name), dict)),
        ),
        attributes("hooks on all modules or optimisers", *hooks),
        attributes(
            "torch.__future__", (torch.__future__, [name for name in vars(torch.__future__) if name.startswith("_")])
        ),
    ]


def _stack(kind: str) -> list[Any]:
    count, at = (getattr(torch._C, name) for name in (f"_len_torch_{kind}_stack", f"_get_{kind}_stack_at"))  # noqa: SLF001
    return [at(index) for index in range(count())]


def _restore_stack(kind: str, modes: list[Any]) -> None:
    count, push = (getattr(torch._C, f"{name}_torch_{kind}_stack") for name in ("_len", "_push_on"))  # noqa: SLF001
    while count():
        torch._C._pop_torch_dispatch_stack(None) if kind == "dispatch" else torch._C._pop_torch_function_stack()  # noqa: SLF001
    for mode in modes:
        push(mode)


def _default_device() -> torch.device | None:
    context = getattr(torch._GLOBAL_DEVICE_CONTEXT, "device_context", None)  # noqa: SLF001
    return None if context is None else context.device


# Torch leaves an inference mode when its object is collected.
_INFERENCE_MODES: list[Any] = []


def _restore_inference_mode(value: bool) -> None:
    mode = torch._C._InferenceMode(value)  # noqa: SLF001
    mode.__enter__()  # type: ignore[no-untyped-call]
    _INFERENCE_MODES.append(mode)


def _autocast() -> Any:
    devices = [(name, torch.is_autocast_enabled(name), torch.get_autocast_dtype(name)) for name in ("cpu", "cuda")]
    return devices, torch.is_autocast_cache_enabled()


def _restore_autocast(value: Any) -> None:
    devices, cached = value
    for name, enabled, dtype in devices:
        torch.set_autocast_enabled(name, enabled)
        torch.set_autocast_dtype(name, dtype)
    torch.set_autocast_cache_enabled(cached)
    torch.clear_autocast_cache()


def _saved_tensors_hooks() -> Any:
    return torch._C._autograd._top_saved_tensors_default_hooks(True)  # noqa: SLF001


def _restore_saved_tensors_hooks(value: Any) -> None:
    while (top := _saved_tensors_hooks()) is not None and top != value:
        torch._C._autograd._pop_saved_tensors_default_hooks()  # noqa: SLF001
    if value is not None and _saved_tensors_hooks() != value:
        saved_tensors_hooks(*value).__enter__()


def _precision() -> Any:
    return torch.get_float32_matmul_precision(), _precisions()


def _precisions() -> list[str]:
    return [torch._C._get_fp32_precision_getter(*part) for part in PRECISIONS]  # noqa: SLF001


def _restore_precision(value: Any) -> None:
    torch.set_float32_matmul_precision(value[0])
    for part, now, before in zip(PRECISIONS, _precisions(), value[1], strict=True):
        if now != before:
            torch._C._set_fp32_precision_setter(*part, before)  # noqa: SLF001
