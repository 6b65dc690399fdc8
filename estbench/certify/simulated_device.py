"""A simulated accelerator: tensors that say they are on a device, and hold their numbers on the CPU.

Everything that would go wrong on a real accelerator goes wrong here, too: an operation that mixes tensors of the device
and of the host is refused, a generator of the host draws nothing on the device, and the device has a random stream of
its own. What makes the host wait for the device is counted by name. Real arithmetic runs, so results can be compared
with the CPU's, bit by bit.

    with SimulatedDevice() as simulated:
        state = State(cell, DEVICE)
        take_steps(state, 2)
        simulated.waits.clear()
        take_steps(state, 4)
    assert not simulated.waits

Waits are: reading a number (``item``), shapes that depend on numbers (``nonzero``, a mask as an index), comparing as
Python does (``equal``), copies between host and device unless they are ``non_blocking``, and operations that read a
number inside (``torch.normal`` with a tensor of scales).

With ``float64=False`` the device has no double precision, as MPS. With ``most_numbers`` a result of more numbers is
``torch.OutOfMemoryError``. Limits: one device; no streams, events or graphs. Backends in Python are experimental in
torch: tested with 2.13, and ``why_not`` says why there is none elsewhere. It is made once in a process.
"""

from __future__ import annotations

import contextlib
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from estbench.certify.simulated_backend import BACKEND, NAME
from estbench.errors import EstbenchError

CPU = torch.device("cpu")
# Operations that copy from host to device, or back, in one of two ways.
COPIES = {"aten::_to_copy", "aten::copy_"}
COMPOSED = {"aten::to"}
# Operations that read a number inside, wherever they run: torch.normal checks the signs of a tensor of scales.
READS_INSIDE = {"aten::normal"}
OUTPUT_DEPENDS_ON_NUMBERS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
INDEXING = {"aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_", "aten::_unsafe_index"}


_LIBRARIES: list[Any] = []  # what is registered with torch, kept alive


@cache
def register() -> str:
    """Make torch know the device, before autograd is used in this process; return why it cannot, or an empty text."""
    name = torch._C._get_privateuse1_backend_name()  # noqa: SLF001
    if name != "privateuseone":
        return f"torch has another backend here, {name}"
    try:
        from torch.utils.backend_registration import _setup_privateuseone_for_python_backend  # noqa: PLC0415

        _setup_privateuseone_for_python_backend(NAME, backend_module=BACKEND)
    except (ImportError, RuntimeError) as error:
        return f"this torch takes no backend written in Python ({error})"
    # torch.tensor(..., device="simgpu") goes round the mode, and asks the backend for memory and for a copy into it.
    makers = {
        "empty_strided": lambda size, stride, dtype=None, **_: torch.empty_strided(size, stride, dtype=dtype),
        "empty.memory_format": lambda size, dtype=None, **_: torch.empty(size, dtype=dtype),
    }
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    for operation, make in makers.items():
        library.impl(  # type: ignore[no-untyped-call]
            operation, lambda *args, _make=make, **kwargs: _new(_make(*args, **kwargs)), "PrivateUse1"
        )
    copy = torch.ops.aten.copy_.default
    library.impl(  # type: ignore[no-untyped-call]
        "_copy_from", lambda source, target, free=False: _copied(copy, (target, source, free), {}), "PrivateUse1"
    )
    _LIBRARIES.append(library)
    return ""


@cache
def why_not() -> str:
    """Return why there is no simulated accelerator in this process, or an empty text."""
    if reason := register():
        return reason
    try:  # autograd has a queue for each device that there is at its first call
        OnDevice(torch.ones(1)).requires_grad_().sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError:
        return "autograd was used before in this process"
    return ""


def __getattr__(name: str) -> torch.device:
    if name != "DEVICE":
        raise AttributeError(name)
    return CPU if register() else device()


@cache
def device() -> torch.device:
    """Return the device; raise ``EstbenchError`` if torch cannot have it."""
    if reason := register():
        raise EstbenchError(f"there is no simulated accelerator: {reason}")
    return torch.device(f"{NAME}:0")


class OnDevice(Tensor):
    """A tensor that says it is on the device; ``inner`` has the numbers."""

    inner: Any  # the tensor of the CPU

    @staticmethod
    def __new__(cls: type[OnDevice], inner: Tensor) -> OnDevice:  # noqa: D102, PYI034
        with torch.inference_mode(False):  # a wrapper cannot be made in inference mode
            self: OnDevice = Tensor._make_wrapper_subclass(  # noqa: SLF001
                cls,
                inner.shape,
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                device=torch.device(f"{NAME}:0"),
            )
        self.inner = inner
        return self

    def tolist(self) -> Any:
        """Return the numbers as lists; torch refuses this to subclasses."""
        _note("tolist")
        return self.inner.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.inner})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(operation, args, kwargs or {})


class _DeviceGenerator(torch.Generator):
    """A generator of the device: one of the CPU that says otherwise."""

    device = property(lambda _: device())


_Generator = torch.Generator
# Generators of the device, by what stays the same when torch hands them to an operation.
_OF_DEVICE: set[int] = set()


def _identity(generator: Any) -> int:
    return int(generator._cdata)  # noqa: SLF001


class _Kind(type(_Generator)):  # type: ignore[misc]
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Generator)


class _AnyGenerator(_Generator, metaclass=_Kind):
    """Stands for ``torch.Generator``: makes generators of the CPU and of the device."""

    def __new__(cls, device: Any = "cpu") -> Any:
        make: Any = _Generator.__new__
        if not _is_simulated(device):
            return make(_Generator, device)
        made = make(_DeviceGenerator, "cpu")
        _OF_DEVICE.add(_identity(made))
        weakref.finalize(made, _OF_DEVICE.discard, _identity(made))
        return made


class SimulatedDevice(TorchDispatchMode):
    """While it is entered, the device is there; ``waits`` counts what made the host wait, by name."""

    current: SimulatedDevice | None = None

    def __init__(self, *, float64: bool = True, most_numbers: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        if reason := why_not():
            raise EstbenchError(f"there is no simulated accelerator: {reason}")
        self.device = device()
        self.float64, self.most_numbers = float64, most_numbers
        self.waits: Counter[str] = Counter()
        self.places: dict[str, str] = {}  # where in the code the host first waited, by the name of the wait

    def __enter__(self) -> Self:
        SimulatedDevice.current = self
        torch.Generator = _AnyGenerator  # type: ignore[misc]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        torch.Generator = _Generator  # type: ignore[misc]
        SimulatedDevice.current = None
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, kwargs or {})


def _is_simulated(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _note(wait: str) -> None:
    if SimulatedDevice.current is not None:
        SimulatedDevice.current.waits[wait] += 1
        SimulatedDevice.current.places.setdefault(wait, place_of())


def place_of(error: BaseException | None = None) -> str:
    """Return the line of code that waits, or raised an error: the last one that is neither torch's nor of here."""
    own = (__file__, str(Path(torch.__file__).parent))
    frames = traceback.extract_tb(error.__traceback__) if error else traceback.extract_stack()
    outside = [frame for frame in frames if not frame.filename.startswith(own)]
    return f"{Path(outside[-1].filename).name}, line {outside[-1].lineno}" if outside else ""


def _run(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name, device = _name_of(operation), kwargs.get("device")
    if torch.is_inference_mode_enabled() and name in COMPOSED:  # which arrive whole in this mode
        return operation.decompose(*args, **kwargs)
    if name in COPIES:
        return _copied(operation, args, kwargs)
    flat = [*_leaves(args), *_leaves(kwargs.values())]
    ours = [value for value in flat if isinstance(value, OnDevice)]
    if not ours and not _is_simulated(device):
        return operation(*args, **kwargs)
    _check_devices(name, flat)
    _note_wait(operation, name, flat)
    if _is_simulated(device):
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = _mapped(_bare, args), {key: _mapped(_bare, value) for key, value in kwargs.items()}
    with _random_stream(operation, flat):
        out = operation(*args, **kwargs)
    # Operations in place return the tensor that they were given.
    known = {id(value.inner): value for value in ours}

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor) or isinstance(value, OnDevice):
            return value
        return known[id(value)] if id(value) in known else _new(value)

    return _mapped(wrapped, out)


@cache
def _name_of(operation: Any) -> str:
    return str(operation.name()).partition(".")[0]


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    """Yield values, and what lists and tuples among them hold: what operations take and return has no other shape."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from _leaves(value)
        else:
            yield value


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    if type(value) in {list, tuple}:
        return type(value)([_mapped(change, each) for each in value])
    return change(value)


def _bare(value: Any) -> Any:
    return value.inner if isinstance(value, OnDevice) else value


def _new(inner: Tensor) -> OnDevice:
    mode = SimulatedDevice.current
    if mode is not None:
        if inner.dtype in {torch.float64, torch.complex128} and not mode.float64:
            raise TypeError(f"Cannot convert a {NAME} Tensor to float64 dtype: the device has no float64")
        if mode.most_numbers is not None and inner.numel() > mode.most_numbers:
            raise torch.OutOfMemoryError(f"{NAME} out of memory: tried to allocate {inner.nbytes} bytes")
    out = OnDevice(inner)
    storage = inner.untyped_storage()
    address, size = storage.data_ptr(), storage.nbytes()
    if size:
        _TENSORS_AT[address] += 1
        if _TENSORS_AT[address] == 1:
            BACKEND.memory += size
            BACKEND.peak = max(BACKEND.peak, BACKEND.memory)
        weakref.finalize(out, _freed, address, size)
    return out


# The tensors of the device that share memory, by its address.
_TENSORS_AT: Counter[int] = Counter()


def _freed(address: int, size: int) -> None:
    _TENSORS_AT[address] -= 1
    if not _TENSORS_AT[address]:
        BACKEND.memory -= size


def _check_devices(name: str, values: list[Any]) -> None:
    """Refuse tensors of the host, but numbers and indices, and generators of the host."""
    for value in values:
        if isinstance(value, _Generator) and _identity(value) not in _OF_DEVICE:
            raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu' ({name})")
        if isinstance(value, Tensor) and not isinstance(value, OnDevice) and value.dim() > 0 and name not in INDEXING:
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and cpu!"
                f" ({name})"
            )


def _note_wait(operation: Any, name: str, values: list[Any]) -> None:
    """Count an operation whose result, or whose shape, the host cannot know without the device."""
    short = name.removeprefix("aten::")
    if name in INDEXING:
        indices = [value for value in values if isinstance(value, Tensor)][1:]
        mask = any(index.dtype in {torch.bool, torch.uint8} for index in indices)
        fills = "put" in name and indices[-1].dim() == 0
        if mask and not fills:  # x[mask] = 0 is a masked_fill
            _note("mask as an index")
        elif any(not isinstance(index, OnDevice) and index.dtype == torch.int64 for index in indices):
            _note("index of the host")
    elif _has_tag(operation, OUTPUT_DEPENDS_ON_NUMBERS):
        _note({"_local_scalar_dense": "item"}.get(short, short))
    elif name in READS_INSIDE and isinstance(values[1], Tensor):
        _note(f"{short} with a tensor of scales")


@cache
def _has_tag(operation: Any, tags: tuple[torch.Tag, ...]) -> bool:
    return any(tag in operation.tags for tag in tags)


@contextlib.contextmanager
def _random_stream(operation: Any, values: list[Any]) -> Any:
    """Draw from the device's own stream, unless a generator is given."""
    if not _has_tag(operation, (torch.Tag.nondeterministic_seeded,)) or any(isinstance(v, _Generator) for v in values):
        yield
        return
    host = torch.default_generator.get_state()
    torch.default_generator.set_state(BACKEND.state)
    try:
        yield
    finally:
        BACKEND.state = torch.default_generator.get_state()
        torch.default_generator.set_state(host)


def _copied(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Copy within the device, within the host, or between them."""
    into = operation.name().startswith("aten::copy_")
    source = args[1] if into else args[0]
    from_device = isinstance(source, OnDevice)
    to_device = isinstance(args[0], OnDevice) if into else _goes_to_device(kwargs.get("device"), from_device)
    free = kwargs.get("non_blocking") or (into and len(args) > 2 and args[2])
    if from_device and not to_device:
        _note("copy to the host")
    elif to_device and not from_device and not free:
        _note("copy from the host")
    inner = [each.inner if isinstance(each, OnDevice) else each for each in args]
    out = operation(*inner, **{key: value for key, value in kwargs.items() if key != "device"})
    if into:
        return args[0]
    return _new(out) if to_device else out


def _goes_to_device(device: Any, from_device: bool) -> bool:
    return from_device if device is None else _is_simulated(device)
