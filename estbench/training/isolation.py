"""Settings of the whole process that a cell may change, and threads that it leaves: the next cell must not see them.

One table says what is looked at: its name, how to read it, how to put it back. What it does not reach: objects that a
plugin changes in place (a tensor of a library, a cache), memory of native code, files, and the number of threads
between operators, which torch sets once. A thread that goes on after a cell may draw from torch's generator, which all
threads share (``threads_left``).
"""

from __future__ import annotations

import contextlib
import decimal
import gc
import itertools
import locale
import logging
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import types
import warnings
import weakref
from collections.abc import Iterator
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
import torch

from estbench.failures import is_foreign
from estbench.training.torch_settings import MISSING, Setting, attributes, contents, torch_settings

# Where functions are most likely to be replaced: these modules, and the classes in those.
MODULES = {"builtins", "math", "os", "random", "threading", "time", "torch", "torch.nn.functional"}
PACKAGES = ("estbench.estimators", "estbench.problems", "estbench.measure", "estbench.training")
CLASSES = (torch.Tensor, torch.nn.Module, torch.nn.Linear, torch.optim.Optimizer, torch.optim.Adam, torch.optim.SGD)


@contextlib.contextmanager
def isolated(*, importing: bool = False) -> Iterator[list[str]]:
    """Put back, on leaving, whatever changed of the process within; the list that it yields then names it.

    With ``importing`` only what numbers depend on is put back: code may set itself a path or a variable as it is
    imported, and needs it later.
    """
    left: list[str] = []
    before = [(setting, _read(setting)) for setting in (_settings()[0] if importing else itertools.chain(*_settings()))]
    modules = len(sys.modules)
    functions = [(place, vars(place).copy()) for place in _namespaces(modules)]
    try:
        yield left
    finally:
        imported = len(sys.modules) > modules
        changed = [(setting, value) for setting, value in before if not setting.own and _differs(setting, value)]
        for setting, value in before:  # all again where some had changed, because to put back one may touch another
            if (setting.own or changed) and _differs(setting, value):
                with contextlib.suppress(Exception):  # a handler outside the main thread, a folder that is gone
                    setting.restore(value)
        left += [
            f"{setting.name}, which cannot be put back" if _differs(setting, value) else setting.name
            for setting, value in changed
            if not (setting.imported and imported)
        ]
        left += [name for place, old in functions for name in _put_back_functions(place, old, imported=imported)]
        left[:] = dict.fromkeys(left)


def seed_generators(seed: int) -> None:
    """Seed the generators of Python and NumPy, whatever was drawn from them before; ``isolated`` puts them back."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (the generator that plugins know)


def _read(setting: Setting) -> Any:
    try:
        return setting.read()
    except Exception:  # noqa: BLE001  (not on this system, or in a state that cannot be read)
        return MISSING


def _differs(setting: Setting, before: Any) -> bool:
    """Whether a setting has changed; one that could not be read before is not touched."""
    return before is not MISSING and not _equal(_read(setting), before)


def _equal(now: Any, before: Any) -> bool:
    try:
        return bool(now == before)
    except Exception:  # noqa: BLE001  (objects of a plugin, whose comparison is anybody's)
        return False


@cache
def _settings() -> tuple[list[Setting], list[Setting]]:
    """The table: of torch, and of everything else."""
    return torch_settings(), [*_python_settings(), *_system_settings()]


def _python_settings() -> list[Setting]:
    random_state, set_random_state = np.random.get_state, np.random.set_state
    return [
        Setting("the state of the module random", random.getstate, random.setstate, own=True),
        Setting("NumPy's random state", random_state, set_random_state, own=True),
        Setting("NumPy's handling of errors", np.geterr, lambda value: np.seterr(**value)),
        Setting("warnings filters", lambda: [*warnings.filters], _restore_filters, imported=True),
        attributes("how warnings are shown", (warnings, ("showwarning", "formatwarning"))),
        Setting("the decimal context", _decimal, lambda value: decimal.setcontext(decimal.Context(*value))),
        attributes(
            "hooks of sys and threading",
            (sys, ("excepthook", "unraisablehook", "displayhook", "breakpointhook")),
            (threading, ("excepthook",)),
        ),
        Setting("the trace function", sys.gettrace, sys.settrace),
        Setting("the profile function", sys.getprofile, sys.setprofile),
        attributes("standard streams", (sys, ("stdin", "stdout", "stderr"))),
        contents("sys.path", sys.path, imported=True),
        contents("sys.argv", sys.argv),
        Setting("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
        Setting("the limit on digits", sys.get_int_max_str_digits, sys.set_int_max_str_digits),
        Setting("the switch interval", sys.getswitchinterval, sys.setswitchinterval),
        Setting("garbage collection", gc.isenabled, lambda value: gc.enable() if value else gc.disable()),
        Setting("thresholds of garbage collection", gc.get_threshold, lambda value: gc.set_threshold(*value)),
        attributes("logging", (logging.root, ("level", "disabled")), (logging.root.manager, ("disable",))),
        contents("logging's handlers", logging.root.handlers, imported=True),
        Setting("the default timeout of sockets", socket.getdefaulttimeout, socket.setdefaulttimeout),
        attributes("the folder of temporary files", (tempfile, ("tempdir",)), imported=True),
    ]


def _system_settings() -> list[Setting]:
    return [
        Setting("environment variables", os.environ.copy, _restore_environment, imported=True),
        Setting("the working directory", os.getcwd, os.chdir),
        Setting("the umask", _umask, os.umask),
        Setting("the locale", partial(locale.setlocale, locale.LC_ALL), partial(locale.setlocale, locale.LC_ALL)),
        Setting("signal handlers", lambda: {each: signal.getsignal(each) for each in _signals()}, _restore_handlers),
        Setting("timers", _timers, _restore_timers),
        Setting("processor affinity", lambda: os.sched_getaffinity(0), lambda value: os.sched_setaffinity(0, value)),
    ]


def _timers() -> list[bool]:
    """Which timers of the process will send a signal."""
    return [signal.getitimer(which)[0] > 0 for which in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)]


def _restore_timers(value: list[bool]) -> None:
    for which, armed in zip((signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF), value, strict=True):
        if not armed:
            signal.setitimer(which, 0)


def _restore_filters(value: list[Any]) -> None:
    warnings.filters[:] = value  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]  # noqa: SLF001  (forget what was decided by the others)


def _decimal() -> tuple[Any, ...]:
    now = decimal.getcontext()
    traps = [kind for kind, trapped in now.traps.items() if trapped]
    return now.prec, now.rounding, now.Emin, now.Emax, now.capitals, now.clamp, [], traps


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _restore_environment(value: dict[str, str]) -> None:
    for name in os.environ.keys() - value.keys():
        del os.environ[name]
    for name, text in value.items():
        if os.environ.get(name) != text:
            os.environ[name] = text


@cache
def _signals() -> list[signal.Signals]:
    """All but the one about child processes: torch's DataLoader takes it for good, and passes it on."""
    named = (number for number in signal.valid_signals() if isinstance(number, signal.Signals))
    return sorted(number for number in named if number.name != "SIGCHLD")


def _restore_handlers(value: dict[signal.Signals, Any]) -> None:
    for number, handler in value.items():
        if handler is not None and signal.getsignal(number) != handler:  # None: not installed from Python
            signal.signal(number, handler)


@lru_cache(maxsize=1)
def _namespaces(_modules: int) -> list[Any]:
    """Modules and classes whose functions a plugin may replace, as they are loaded now."""
    loaded = {name: module for name, module in [*sys.modules.items()] if name in MODULES or name.startswith(PACKAGES)}
    known = [*(vars(module) for module in loaded.values()), vars(torch.distributions)]
    classes = [each for names in known for each in names.values() if isinstance(each, type) and _is_tracked(each)]
    return [*loaded.values(), *dict.fromkeys((*CLASSES, *classes))]


def _is_tracked(cls: type) -> bool:
    return cls.__module__.startswith((*PACKAGES, "torch.distributions"))


def _put_back_functions(place: Any, before: dict[str, Any], *, imported: bool) -> Iterator[str]:
    """Undo what replaced functions of a module or a class, and name it; torch replaces some of its own on import."""
    now = vars(place).copy()
    if _equal(now, before):
        return
    names = [name for name, value in before.items() if now.get(name, MISSING) is not value]
    if isinstance(place, type):
        names += [name for name in now.keys() - before.keys() if not (imported and _is_new(place, name))]
    for name in names:
        new, old = now.get(name, MISSING), before.get(name, MISSING)
        if not _is_function(new if old is MISSING else old) or (imported and not _is_patch(new)):
            continue
        with contextlib.suppress(Exception):  # types of C cannot be changed
            delattr(place, name) if old is MISSING else setattr(place, name, old)
        yield f"{place.__name__}.{name}"


def _is_new(cls: type, name: str) -> bool:
    """Whether a class of torch had nothing of this name, so that a library may add it for itself when it is imported.

    Nobody else can call it, and the library needs it as long as it stays imported. Python itself calls ``__names__``.
    """
    ours = cls.__module__.startswith("torch.") and not name.startswith("__")
    return ours and not any(name in vars(base) for base in cls.__mro__[1:])


def _is_function(value: Any) -> bool:
    return callable(value) or isinstance(value, property)


def _is_patch(value: Any) -> bool:
    """Whether a function is a plugin's; a wrapper says by its globals whose it is, and not by its name."""
    return is_foreign(getattr(value, "__globals__", {}).get("__name__", getattr(value, "__module__", "")))


# Threads that are not for us to judge: those of the program that calls estbench.
_OF_HOST: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
# Those among them that ``threading`` does not know, by their identifiers: they were started from C or by ``_thread``.
_UNKNOWN_OF_HOST: set[int] = set()


def accept_threads() -> None:
    """Accept the threads that there are now; called before any plugin is loaded."""
    threads = threading.enumerate()
    _OF_HOST.update(threads)
    _UNKNOWN_OF_HOST.update(sys._current_frames().keys() - {thread.ident for thread in threads})  # noqa: SLF001


def threads_left() -> list[str]:
    """Names of the threads that run a plugin's code, other than the one that asks."""
    frames = sys._current_frames()  # noqa: SLF001
    known = {thread.ident: thread for thread in threading.enumerate()}
    own = {threading.get_ident(), threading.main_thread().ident}
    found = []
    for ident in [ident for ident in frames if ident not in own]:
        thread = known.get(ident)
        accepted = ident in _UNKNOWN_OF_HOST if thread is None else thread in _OF_HOST
        if accepted or not (_runs_plugin(frames[ident]) or _is_of_plugin(thread)):
            continue
        found.append(thread.name if thread else f"thread {ident}")
    return found


def _runs_plugin(frame: types.FrameType | None) -> bool:
    while frame is not None:
        if is_foreign(frame.f_globals.get("__name__", "")):
            return True
        frame = frame.f_back
    return False


def _is_of_plugin(thread: threading.Thread | None) -> bool:
    """Whether a thread is a plugin's by its class or by the function that it was made for; waiting, perhaps."""
    target: Any = getattr(thread, "function", None) or getattr(thread, "_target", None)
    owner = getattr(target, "__globals__", {}).get("__name__")
    if owner is not None:
        return is_foreign(owner)
    # A timer may be about to call a function of torch itself; a thread may say by its class what it runs.
    return isinstance(target, types.BuiltinFunctionType) or is_foreign(type(thread or 0).__module__)
