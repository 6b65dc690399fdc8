"""The reference of the Python API: one page for each public module, of the names in its ``__all__``."""

from __future__ import annotations

import inspect
from importlib import import_module
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from estbench_site.docstrings import to_markdown
from estbench_site.markdown import page, section

MODULES = (
    "estbench",
    "estbench.estimators",
    "estbench.problems",
    "estbench.latents",
    "estbench.datasets",
    "estbench.measure",
    "estbench.certify",
    "estbench.experiment",
    "estbench.store",
    "estbench.report",
    "estbench.stats",
)


def public_names(module: str) -> dict[str, Any]:
    """Return the documented objects of a module by name: classes and functions, but no modules and constants."""
    loaded = import_module(module)
    named = getattr(loaded, "__all__", None) or [
        name for name, each in vars(loaded).items() if not name.startswith("_") and _is_own(each, module)
    ]
    found = {name: getattr(loaded, name) for name in named}
    return {name: each for name, each in found.items() if inspect.isclass(each) or inspect.isroutine(each)}


def module_page(module: str) -> str:
    """Return the page of a module: a table of its names, and the documentation of each."""
    names = public_names(module)
    listed = "\n".join(f"   {name}" for name in names)
    return page(
        module,
        to_markdown(inspect.getdoc(import_module(module)) or ""),
        f"```{{eval-rst}}\n.. py:module:: {module}\n\n.. autosummary::\n   :nosignatures:\n\n{listed}\n```",
        *(section(f"`{name}`", _directive(module, name, each)) for name, each in names.items()),
    )


def public_addresses() -> dict[str, str]:
    """Return by the full name of an object's definition the name that it is documented under.

    >>> public_addresses()["estbench.estimators.base.Estimator"]
    'estbench.estimators.Estimator'
    """
    found: dict[str, str] = {}
    for module in MODULES:
        for name, each in public_names(module).items():
            if not inspect.ismethod(each):  # the names() of several registries have one definition
                found.setdefault(f"{each.__module__}.{each.__qualname__}", f"{module}.{name}")
    return found


def exists(address: str) -> bool:
    """Whether a dotted name leads to an object: a module, or an attribute of one."""
    module, _, name = address.rpartition(".")
    try:
        return hasattr(import_module(module), name)
    except ImportError:
        return False


def _directive(module: str, name: str, each: Any) -> str:
    if not inspect.isclass(each):
        lines = [f".. autofunction:: {module}.{name}"]
    elif issubclass(each, BaseException):
        lines = [f".. autoexception:: {module}.{name}"]
    elif issubclass(each, BaseModel):  # its fields are keys of the experiment file, which has a page
        fields = ", ".join(each.model_fields)
        lines = [f".. autoclass:: {module}.{name}(**fields)", "   :members:", f"   :exclude-members: {fields}"]
    else:
        lines = [f".. autoclass:: {module}.{name}", "   :members:"]
    return "\n".join(["```{eval-rst}", *lines, "```"])


def _is_own(each: Any, module: str) -> bool:
    return not isinstance(each, ModuleType) and getattr(each, "__module__", None) == module
