"""Whatever a cell changes of the process is put back and named; what only looks changed is not."""

# ruff: noqa: NPY002, S102 (what plugins do)

from __future__ import annotations

import _thread
import decimal
import gc
import locale
import logging
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from estbench.training.isolation import _read, _settings, accept_threads, isolated, seed_generators, threads_left
from estbench.training.torch_settings import MISSING


class FunctionMode(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class DispatchMode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


def patched(*_args, **_kwargs):
    return torch.zeros(())


KEPT = []  # what must not be collected, because it would undo itself


def enter(manager):
    KEPT.append(manager)
    manager.__enter__()


CHANGES = {
    "torch's default dtype": lambda: torch.set_default_dtype(torch.float64),
    "torch's grad mode": lambda: torch.set_grad_enabled(False),
    "inference mode": lambda: enter(torch.inference_mode()),
    "anomaly detection": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
    "autocast": lambda: enter(torch.autocast("cpu", torch.bfloat16)),
    "hooks for saved tensors": lambda: enter(torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x)),
    "autograd's multithreading": lambda: enter(torch.autograd.set_multithreading_enabled(False)),
    "float32 matmul precision": lambda: torch.set_float32_matmul_precision("medium"),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    "flags of torch.backends": lambda: setattr(torch.backends.mkldnn, "enabled", False),
    "flush_denormal": lambda: torch.set_flush_denormal(True),
    "attention kernels": lambda: torch.backends.cuda.enable_math_sdp(False),
    "torch's number of threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "torch's default device": lambda: torch.set_default_device("meta"),
    "a TorchFunctionMode": lambda: enter(FunctionMode()),
    "a TorchDispatchMode": lambda: enter(DispatchMode()),
    "validation of distributions' arguments": lambda: torch.distributions.Distribution.set_default_validate_args(False),
    "hooks on all modules or optimisers": lambda: nn.modules.module.register_module_forward_hook(patched),
    "torch.__future__": lambda: torch.__future__.set_overwrite_module_params_on_conversion(True),
    "NumPy's handling of errors": lambda: np.seterr(all="raise"),
    "warnings filters": lambda: warnings.simplefilter("ignore"),
    "how warnings are shown": lambda: setattr(warnings, "showwarning", patched),
    "the decimal context": lambda: setattr(decimal.getcontext(), "prec", 3),
    "hooks of sys and threading": lambda: setattr(threading, "excepthook", patched),
    "standard streams": lambda: setattr(sys, "stdout", None),
    "sys.path": lambda: sys.path.append("/nowhere"),
    "sys.argv": sys.argv.clear,
    "the recursion limit": lambda: sys.setrecursionlimit(5_000),
    "the limit on digits": lambda: sys.set_int_max_str_digits(10_000),
    "the switch interval": lambda: sys.setswitchinterval(1.0),
    "garbage collection": gc.disable,
    "thresholds of garbage collection": lambda: gc.set_threshold(1),
    "logging": lambda: logging.disable(logging.CRITICAL),
    "logging's handlers": lambda: logging.root.addHandler(logging.NullHandler()),
    "the default timeout of sockets": lambda: socket.setdefaulttimeout(1.0),
    "the folder of temporary files": lambda: setattr(tempfile, "tempdir", "/nowhere"),
    "environment variables": lambda: os.environ.update(ESTBENCH_TEST="1"),
    "the working directory": lambda: os.chdir("/"),
    "the umask": lambda: os.umask(0o777),
    "the locale": lambda: locale.setlocale(locale.LC_ALL, "C.UTF-8"),
    "signal handlers": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "timers": lambda: signal.setitimer(signal.ITIMER_VIRTUAL, 1000),
    "processor affinity": lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),
    # Functions that are replaced, added and removed.
    "torch.randn": lambda: setattr(torch, "randn", patched),
    "Tensor.__add__": lambda: setattr(torch.Tensor, "__add__", patched),
    "Normal.rsample": lambda: setattr(torch.distributions.Normal, "rsample", patched),
    "Adam.step": lambda: delattr(torch.optim.Adam, "step"),
    "estbench.training.loop.take_steps": lambda: setattr(sys.modules["estbench.training.loop"], "take_steps", patched),
    "math.exp": lambda: setattr(sys.modules["math"], "exp", patched),
}
# What another change brings along.
ALONG = {
    "torch's default device": {"a TorchFunctionMode"},
    "inference mode": {"torch's grad mode", "autograd's multithreading"},
}


@pytest.fixture
def imported():
    """What torch imports late is there, so that nothing is imported meanwhile."""
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_is_put_back_and_named(name, imported):
    before = {setting.name: _read(setting) for part in _settings() for setting in part if not setting.own}
    with isolated() as left:
        CHANGES[name]()
    assert name in left
    assert set(left) - {name} <= ALONG.get(name, set())
    after = {setting.name: _read(setting) for part in _settings() for setting in part if not setting.own}
    assert after == before
    assert torch.randn(2, generator=torch.Generator().manual_seed(0)).dtype is torch.float32
    assert float(torch.ones(()) + torch.ones(())) == 2.0


def test_all_at_once_and_by_an_exception(imported):
    before = {setting.name: _read(setting) for part in _settings() for setting in part if not setting.own}

    def change_all():
        for change in CHANGES.values():
            change()
        raise SystemExit

    with isolated() as left, pytest.raises(SystemExit):
        change_all()
    assert set(left) >= set(CHANGES)
    assert {setting.name: _read(setting) for part in _settings() for setting in part if not setting.own} == before


LIBRARY = """
import torch
from torch.distributions import Normal, Transform

def own(self):
    return 7

Transform.of_a_library = own  # new: nobody else can call it
Normal.enumerate_support = own  # inherited before
Normal.__len__ = own  # called by Python
torch.nn.Linear.train = own
"""


def test_what_a_library_adds_to_torch_when_it_is_imported_stays(tmp_path, monkeypatch):
    """Modules are run once, so a library that adds a method for itself could not be used after it is taken away."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "adds_methods.py").write_text(LIBRARY, encoding="utf-8")
    transform = torch.distributions.Transform
    try:
        with isolated(importing=True) as left:
            import adds_methods  # noqa: F401
        assert set(left) == {"Normal.enumerate_support", "Normal.__len__", "Linear.train"}
        assert transform().of_a_library() == 7
        with isolated() as left:  # in a cell, without an import
            transform.of_a_plugin = patched
        assert left == ["Transform.of_a_plugin"]
        assert not hasattr(transform, "of_a_plugin")
        assert nn.Linear(1, 1).train().training
    finally:
        del transform.of_a_library
        sys.modules.pop("adds_methods")


def test_the_table_can_be_read_here():
    assert [setting.name for part in _settings() for setting in part if _read(setting) is MISSING] == []


def test_drawing_is_no_fault_and_is_undone():
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.rand()
    random.seed(3)
    np.random.seed(3)
    drawn = []
    for _ in range(2):
        with isolated() as left:
            seed_generators(7)
            drawn.append((random.random(), np.random.rand()))
        assert left == []
    assert drawn[0] == drawn[1]
    assert (random.random(), np.random.rand()) == expected


def test_a_host_that_set_a_handler_in_c_is_left_alone(monkeypatch):
    monkeypatch.setattr(signal, "getsignal", lambda _number: None)
    with isolated() as left:
        pass
    assert left == []


def test_threads_of_plugins_are_found_and_others_are_not():
    stop = threading.Event()
    own = threading.Thread(target=stop.wait, name="mine", daemon=True)
    own.start()
    accept_threads()
    assert threads_left() == []
    namespace = {"__name__": "estbench_plugin_x", "time": time, "stop": stop}
    exec("def spin():\n    while not stop.is_set():\n        time.sleep(0.01)", namespace)
    spinning = threading.Thread(target=namespace["spin"], name="spins", daemon=True)
    timer = threading.Timer(100, torch.rand, [3])
    spinning.start()
    timer.start()
    try:
        assert set(threads_left()) == {"spins", timer.name}
    finally:
        stop.set()
        timer.cancel()
        for thread in (own, spinning, timer):
            thread.join()
    assert threads_left() == []


def test_threads_of_the_host_that_threading_does_not_know_are_accepted():
    end = threading.Event()
    scope = {"__name__": "somebody", "end": end}
    exec("def waits():\n    end.wait()", scope)
    _thread.start_new_thread(scope["waits"], ())
    try:
        while not threads_left():  # until it runs
            time.sleep(0.01)
        accept_threads()
        assert threads_left() == []
        _thread.start_new_thread(scope["waits"], ())
        while not threads_left():
            time.sleep(0.01)
        assert len(threads_left()) == 1
    finally:
        end.set()
