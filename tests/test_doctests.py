"""The examples in the docstrings of the installed package run, and print what they say."""

from __future__ import annotations

import doctest
import importlib
import io
from pathlib import Path

import pytest
import torch

import estbench
from estbench.estimators import ESTIMATORS
from estbench.problems import PROBLEMS

pytestmark = pytest.mark.usefixtures("one_thread")

PACKAGE = Path(estbench.__file__).parent
# Only modules with an example are imported: others may need an extra that is not installed.
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


# The example makes a whole certificate.
SLOW = "estbench.certify.certificate"


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name == SLOW)) for name in MODULES])
def test_examples_run(name):
    module = importlib.import_module(name)
    runner, report = doctest.DocTestRunner(optionflags=FLAGS), io.StringIO()
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            runner.run(example, out=report.write)
    assert runner.failures == 0, report.getvalue()


@pytest.mark.parametrize("registry", [ESTIMATORS, PROBLEMS], ids=["estimators", "problems"])
def test_what_is_registered_has_an_example_and_explains_its_options(registry):
    classes = {name: registry.get(name) for name in registry.names()}
    assert [name for name, cls in classes.items() if ">>> " not in (cls.__doc__ or "")] == []
    unexplained = [
        f"{name}: {option}"
        for name, cls in classes.items()
        for option, field in cls.Options.model_fields.items()
        if not field.description
    ]
    assert unexplained == []
