"""Fingerprints of source: what changes them, and what does not."""

from __future__ import annotations

import functools
import importlib.util
import linecache
import sys
import textwrap

import pytest

from estbench import datasets, estimators
from estbench.source import fingerprint, ships

PLUGIN = '''
"""A plugin."""
import math
from functools import cache, partial

import helpers
import layers.dense as dense
from helpers import scale, unused
from layers import *

FACTOR = 0.5
TABLE = {}
NETS = {}
UNRELATED = 7


def net(name):
    def decorator(function):
        NETS[name] = function
        return function
    return decorator


@net("small")
def small():
    return 1


def twice(x):
    """Double."""
    return 2 * x  # a comment


TABLE["x"] = 3


class Base:
    def step(self):
        return twice(1)


class Mine(Base):
    """A class."""

    rate: float = 0.1

    def forward(self, x, factor=FACTOR):
        from helpers import lazy

        return scale(x) * factor + lazy + helpers.OFFSET + dense.WIDTH + DEPTH + TABLE["x"] + NETS["small"]()


class Neighbour(Base):
    def forward(self):
        scale = 3
        return UNRELATED + scale + unused()


def load(path="faces"):
    return path, math.pi


def make(factor):
    class Made:
        def forward(self):
            return factor
    return Made


Half, Third = make(0.5), make(0.3)
part = partial(load, "a")
kept = cache(load)
square = lambda x: x * FACTOR
'''

HELPERS = """
OFFSET = 1
lazy = 4
UNUSED = 5
_K = 3

def scale(x):
    return _K * x

def unused():
    return UNUSED
"""

FILES = {
    "plugin.py": PLUGIN,
    "helpers.py": HELPERS,
    "layers/__init__.py": "DEPTH = 2\nOTHER = 3\n",
    "layers/dense.py": "WIDTH = 4\nHEIGHT = 5\n",
}


@pytest.fixture
def found(tmp_path, monkeypatch):
    """The fingerprint of one thing in the plugin, after some text in the files was replaced."""
    count = 0

    def of(name: str = "Mine", file: str = "plugin.py", old: str = "", new: str = "") -> str:
        nonlocal count
        count += 1
        folder = tmp_path / str(count)
        for path, text in FILES.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            assert old in text or path != file
            (folder / path).write_text(text.replace(old, new) if old and path == file else text)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(str(folder))
            before = set(sys.modules)
            spec = importlib.util.spec_from_file_location("plugin", folder / "plugin.py")
            module = importlib.util.module_from_spec(spec)
            sys.modules["plugin"] = module
            try:
                spec.loader.exec_module(module)
                return fingerprint(getattr(module, name))
            finally:
                for each in set(sys.modules) - before:
                    del sys.modules[each]

    return of


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("plugin.py", "2 * x  # a comment", "2 * x"),
        ("plugin.py", '    """Double."""\n', '    """Double it,\n    and more."""\n'),
        ("plugin.py", '    """A class."""\n', ""),
        ("plugin.py", "\n\nclass Mine", "\n\n\n\n# Mine\nclass Mine"),
        ("plugin.py", "return twice(1)", "return (\n            twice(1)\n        )"),
        ("plugin.py", "UNRELATED = 7", "UNRELATED = 8"),
        ("plugin.py", "scale = 3", "scale = 4"),
        ("plugin.py", "class Neighbour(Base):", "class Neighbour:"),
        ("plugin.py", "from helpers import scale, unused", "from helpers import unused, scale"),
        ("plugin.py", "return path, math.pi", "return path"),
        ("plugin.py", "make(0.5), make(0.3)", "make(0.25), make(0.3)"),
        ("helpers.py", "UNUSED = 5", "UNUSED = 6"),
        ("layers/__init__.py", "OTHER = 3", "OTHER = 4"),
        ("layers/dense.py", "HEIGHT = 5", "HEIGHT = 6"),
    ],
)
def test_what_a_class_does_not_use_changes_nothing(found, file, old, new):
    assert found("Mine", file, old, new) == found("Mine")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("plugin.py", "rate: float = 0.1", "rate: float = 0.2"),
        ("plugin.py", "FACTOR = 0.5", "FACTOR = 1.0"),
        ("plugin.py", "return 2 * x", "return 3 * x"),
        ("plugin.py", "return twice(1)", "return twice(2)"),
        ("plugin.py", 'TABLE["x"] = 3', 'TABLE["x"] = 4'),
        ("plugin.py", "def small():\n    return 1", "def small():\n    return 2"),
        ("plugin.py", "class Base:", "class Base:\n    extra = 1\n"),
        ("helpers.py", "_K = 3", "_K = 4"),
        ("helpers.py", "OFFSET = 1", "OFFSET = 2"),
        ("helpers.py", "lazy = 4", "lazy = 5"),
        ("layers/__init__.py", "DEPTH = 2", "DEPTH = 3"),
        ("layers/dense.py", "WIDTH = 4", "WIDTH = 5"),
    ],
)
def test_whatever_a_class_uses_changes_it(found, file, old, new):
    assert found("Mine", file, old, new) != found("Mine")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("load", "math.pi", "math.e"),
        ("part", 'partial(load, "a")', 'partial(load, "b")'),
        ("part", "math.pi", "math.e"),
        ("kept", "math.pi", "math.e"),
        ("square", "x * FACTOR", "x + FACTOR"),
        ("square", "FACTOR = 0.5", "FACTOR = 0.75"),
        ("Half", "return factor", "return 2 * factor"),
        ("Half", "make(0.5)", "make(0.25)"),
    ],
)
def test_functions_lambdas_partials_and_made_classes_have_theirs(found, name, old, new):
    assert found(name, "plugin.py", old, new) != found(name)


def test_two_classes_of_one_maker_differ(found):
    assert found("Half") != found("Third")


def typed_in(text: str, name: str = "Mine", *, source: bool = False) -> str:
    """The fingerprint of what a notebook or ``exec`` defines, with its source in linecache or without."""
    file = f"<cell {hash(text)}>" if source else "<string>"
    if source:
        linecache.cache[file] = len(text), None, text.splitlines(True), file
    namespace = {"__name__": "typed_in"}
    exec(compile(textwrap.dedent(text), file, "exec"), namespace)  # noqa: S102
    return fingerprint(namespace[name])


TYPED = """
K = 3

def scale(x):
    '''Scale.'''
    return K * x

class Mine:
    rate = 0.1
    def forward(self, x):
        return [scale(each) for each in x]
"""


@pytest.mark.parametrize("source", [False, True])
@pytest.mark.parametrize(
    ("old", "new", "same"),
    [
        ("'''Scale.'''", "'''Scale it.'''", True),
        ("return K * x", "return K * x  # a comment", True),
        ("\nclass Mine", "\n\n\nclass Mine", True),
        ("\nclass Mine", "\nOTHER = 5\n\nclass Mine", True),
        ("K = 3", "K = 4", False),
        ("K * x", "K + x", False),
        ("rate = 0.1", "rate = 0.2", False),
        ("for each in x]", "for each in x if each]", False),
    ],
)
def test_code_without_a_file_is_told_by_its_bytecode(source, old, new, same):
    assert (typed_in(TYPED.replace(old, new), source=source) == typed_in(TYPED, source=source)) is same


def test_a_fingerprint_is_the_same_wherever_the_files_are(found):
    assert found("Mine") == found("Mine")
    assert len(found("Mine")) == 64


def test_shipped_code_is_known_as_such(found):
    assert ships(estimators.ESTIMATORS.get("reparam"))
    assert ships(datasets.DATASETS.get("digits"))
    assert not ships(functools.partial(found))


def test_shipped_estimators_differ_and_each_has_its_own():
    marks = {name: fingerprint(estimators.ESTIMATORS.get(name)) for name in estimators.names()}
    assert len(set(marks.values())) == len(marks)
