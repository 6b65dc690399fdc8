"""Fingerprints of source: one hash of all code that a class or function consists of.

A fingerprint covers the definition and everything that it uses, directly or not: constants, functions, classes and base
classes of its own module and of the user's other modules. It does not change with comments, blank lines and docstrings,
nor with definitions in the same file that are not used. Of installed packages and the standard library, only the
imported names count. Data files, and modules that are imported by a computed name (``importlib.import_module``), are
not covered.

If there is no source (a notebook, ``exec``), the bytecode takes its place, and the fingerprint also depends on the
version of Python.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from estbench.syntax import Chain, Node, plain, syntax_of, top_statements, used_by

PACKAGE = "estbench"
CONSTANT = re.compile(r"Constant\(value='([^'\\]*)'")
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
# Attributes of a class that are set by Python and by the registry.
GENERATED = {
    *("__doc__", "__module__", "__qualname__", "__dict__", "__weakref__", "__firstlineno__"),
    *("name", "dataset_info"),
}
# The text of each module when it was first read: a file that is edited later is not the code that runs here.
_texts: dict[str, tuple[Any, str | None]] = {}


def ships(entry: Any) -> bool:
    """Whether a class or function is part of estbench; it then has a ``version`` instead of a fingerprint."""
    return _is_part(str(getattr(entry, "__module__", "")), PACKAGE)


def fingerprint(entry: Callable[..., Any]) -> str:
    """Return the SHA-256, in hexadecimal, of all source that a class or function consists of."""
    digest = hashlib.sha256()
    for part in sorted(_parts(entry)):
        digest.update(part.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def find_constants(entry: Callable[..., Any]) -> set[str]:
    """Return all string constants in the source of a class or function, except docstrings."""
    return {text for part in _parts(entry) for text in CONSTANT.findall(part)}


def combine_fingerprints(fingerprints: Iterable[str]) -> str:
    """Return one fingerprint for several; "" if all are empty."""
    some = [each for each in fingerprints if each]
    return some[0] if len(some) == 1 else hashlib.sha256("".join(some).encode()).hexdigest() if some else ""


def _parts(entry: Callable[..., Any]) -> set[str]:
    walk = _Walk(_module_of(entry))
    walk.add_object(entry)
    return walk.parts


class _Walk:
    """Collects the parts of an entry: statements of its module and of the user's other modules, each once."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.parts: set[str] = set()
        self._seen: set[Any] = set()
        self._alive: list[Any] = []  # because the identity of a deleted object can be used again

    # Objects of the running program

    def add_object(self, value: Any) -> None:
        """Add a class or function, its base classes, and the values in its closure."""
        if not self._first(("object", id(value))):
            return
        self._alive.append(value)
        if isinstance(value, partial):
            self.add_object(value.func)
            self.add_value([*value.args, value.keywords])
            return
        if isinstance(value, type):
            for base in value.__mro__:
                if self._is_own(base.__module__):
                    self._add_definition(base)
                    for function in _functions_of(base):
                        self._add_closure(function)
            return
        if not hasattr(value, "__qualname__"):  # an instance with __call__
            self.add_object(type(value))
            self.add_value(getattr(value, "__dict__", {}))
            return
        if self._is_own(_module_of(value)):
            self._add_definition(value)
        while value is not None:
            self._add_closure(value)
            value = getattr(value, "__wrapped__", None)

    def add_value(self, value: Any) -> None:
        """Add a value that code uses: plain data by content, code by its source, anything else by its type."""
        if isinstance(value, type | FunctionType | partial) or hasattr(value, "__wrapped__"):
            if self._is_own(_module_of(value)) or isinstance(value, partial):
                self.add_object(value)
            else:
                self.parts.add(f"{_module_of(value)}.{getattr(value, '__qualname__', '')}")
        elif isinstance(value, ModuleType):
            self._use_module(value.__name__, ())
        elif isinstance(value, dict):
            self.parts.add(f"keys {[str(key) for key in value]}")
            for each in value.values():
                self.add_value(each)
        elif isinstance(value, list | tuple | set | frozenset):
            for place, each in enumerate(sorted(value, key=repr) if isinstance(value, set | frozenset) else value):
                self.parts.add(f"place {place}")
                self.add_value(each)
        elif isinstance(value, bool | int | float | complex | str | bytes | None):
            self.parts.add(f"value {value!r}")
        elif hasattr(value, "tobytes") and hasattr(value, "shape"):
            self.parts.add(f"array {value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}")
        else:
            self.parts.add(f"{type(value).__module__}.{type(value).__qualname__}")

    def _add_closure(self, function: Any) -> None:
        for cell in getattr(function, "__closure__", None) or ():
            try:
                value = cell.cell_contents
            except ValueError:  # not yet set
                continue
            if not isinstance(value, type) or "<locals>" in value.__qualname__:
                self.add_value(value)

    def _add_definition(self, value: Any) -> None:
        module, name = _module_of(value), value.__qualname__.partition(".")[0]
        text = _text(module)
        syntax = syntax_of(text) if text is not None else None
        code = getattr(value, "__code__", None)
        if syntax is not None and (name in syntax.bindings or name in syntax.affecting):
            self._use_name(module, (name,))
        elif syntax is not None and code is not None and (statements := top_statements(syntax, code.co_firstlineno)):
            for statement in statements:
                self._add_statement(module, statement)
        else:
            self._add_bytecode(value)
            return
        if "<locals>" in value.__qualname__ and isinstance(value, type):
            self._add_attributes(value)

    # Statements of modules

    def _use_name(self, module: str, chain: Chain) -> bool:
        """Follow a name, and the attributes after it, in a module of the user; return whether it is bound there."""
        text = _text(module)
        if text is None or (syntax := syntax_of(text)) is None:
            return False
        name, *attributes = chain
        statements = syntax.bindings.get(name, [])
        for statement in statements:
            imports = [alias for alias in syntax.imports.get(statement, []) if alias.bound == name]
            for alias in imports:
                self._follow(module, alias.module, alias.level, alias.name, tuple(attributes))
            if not imports:
                self._add_statement(module, statement)
        for statement in syntax.affecting.get(name, []):
            self._add_statement(module, statement)
        if statements or not self._first(("stars", module, name)):
            return bool(statements)
        return any(
            self._use_name(found, chain)
            for star in syntax.stars
            if (found := self._own_module(module, star.module, star.level)) is not None
        )

    def _add_statement(self, module: str, statement: Node) -> None:
        text = plain(statement)
        if not self._first((module, text)):
            return
        self.parts.add(text)
        uses = used_by(statement)
        for chain in uses.chains:
            local = [alias for alias in uses.imports if alias.bound == chain[0]]
            for alias in local:
                self._follow(module, alias.module, alias.level, alias.name, chain[1:])
            if not local:
                self._use_name(module, chain)

    def _follow(self, module: str, imported: str, level: int, name: str | None, attributes: Chain) -> None:
        """Follow ``from imported import name`` in a module, or ``import imported`` if ``name`` is None."""
        self.parts.add(f"import {'.' * level}{imported} {name or ''}")
        found = self._own_module(module, imported, level)
        if found is not None:
            self._use_module(found, attributes if name is None else (name, *attributes))

    def _use_module(self, module: str, chain: Chain) -> None:
        if not self._is_own(module) or not self._first((module, chain)):
            return
        if chain and self._use_name(module, chain):
            return
        if chain and _text(f"{module}.{chain[0]}") is not None:
            self._use_module(f"{module}.{chain[0]}", chain[1:])
            return
        text = _text(module)
        syntax = syntax_of(text) if text is not None else None
        for statement in syntax.statements if syntax is not None else ():  # all, because any of them may be used
            self._add_statement(module, statement)

    def _own_module(self, module: str, imported: str, level: int) -> str | None:
        """Return the module that an import in ``module`` finds, if it is the user's own; else None."""
        for name in _candidates(module, imported, level):
            if _text(name) is not None:
                return name if self._is_own(name) else None
        return None

    # Code without source

    def _add_bytecode(self, value: Any) -> None:
        if isinstance(value, type):
            self._add_attributes(value)
            return
        function = getattr(value, "__wrapped__", value)
        code = getattr(function, "__code__", None)
        if code is None:
            self.parts.add(ADDRESS.sub("", repr(function)))
            return
        self._add_code(code, function.__doc__)
        self.add_value([function.__defaults__, function.__kwdefaults__])
        names = {name for each in _nested(code) for name in each.co_names}
        for name in sorted(names & function.__globals__.keys()):
            used = function.__globals__[name]
            if isinstance(used, ModuleType):
                for attribute in sorted(names & vars(used).keys()):
                    self._use_module(used.__name__, (attribute,))
            else:
                self.add_value(used)

    def _add_code(self, code: CodeType, documentation: str | None) -> None:
        constants = [each for each in code.co_consts if each != documentation and not isinstance(each, CodeType)]
        self.parts.add(repr((code.co_code, constants, code.co_names, code.co_varnames)))
        for each in code.co_consts:
            if isinstance(each, CodeType):
                self._add_code(each, None)

    def _add_attributes(self, cls: type) -> None:
        for name, value in sorted(vars(cls).items()):
            if name in GENERATED or (name.startswith("_") and not isinstance(_function(value), FunctionType)):
                continue
            self.parts.add(f"attribute {name}")
            self.add_value(_function(value))
        self.parts.add(ADDRESS.sub("", repr(getattr(cls, "model_fields", inspect.get_annotations(cls)))))

    def _is_own(self, module: str) -> bool:
        if _is_part(self.root, PACKAGE):
            package = self.root.rpartition(".")[0]
            return module == self.root or (_is_part(module, package) and module not in {package, f"{package}.base"})
        if _is_part(module, PACKAGE):
            return False
        return _top(module) == _top(self.root) or not _is_installed(module)

    def _first(self, item: Any) -> bool:
        known = item in self._seen
        self._seen.add(item)
        return not known


def _functions_of(cls: type) -> Iterator[Any]:
    for value in vars(cls).values():
        function = _function(value)
        while function is not None:
            yield function
            function = getattr(function, "__wrapped__", None)


def _function(value: Any) -> Any:
    """Return the function of a method or a property; any other value as it is."""
    return getattr(value, "__func__", None) or getattr(value, "fget", None) or value


def _nested(code: CodeType) -> Iterable[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _nested(each)


def _module_of(value: Any) -> str:
    inner = value.func if isinstance(value, partial) else value
    return str(getattr(inner, "__module__", None) or type(inner).__module__)


def _candidates(module: str, imported: str, level: int) -> Iterator[str]:
    """Yield the modules that an import may find: for a plugin, one in its folder comes before an installed one."""
    found = sys.modules.get(module)
    package = module if hasattr(found, "__path__") else module.rpartition(".")[0]
    if level:
        above = package.split(".")[: len(package.split(".")) - level + 1]
        yield ".".join([*above, *([imported] if imported else [])])
        return
    beside: Callable[[str], str | None] = getattr(getattr(found, "__loader__", None), "beside", lambda _name: None)
    yield beside(imported) or imported


def _text(module: str) -> str | None:
    """Return the source of a module as it runs here; None if it has none, or if there is no such module."""
    found = sys.modules.get(module)
    spec = getattr(found, "__spec__", None)
    if found is None:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, AttributeError, ValueError):
            return None
        return _read(getattr(spec, "loader", None), module)
    if module not in _texts or _texts[module][0] is not spec:  # a module that was loaded again has another spec
        _texts[module] = spec, _read(getattr(found, "__loader__", None), module, getattr(found, "__file__", None))
    return _texts[module][1]


def _read(loader: Any, module: str, file: str | None = None) -> str | None:
    try:
        text: str | None = loader.get_source(module)
    except (AttributeError, ImportError, OSError, SyntaxError):
        text = None
    if text is None and file is not None and file.endswith(".py"):  # a script, whose module has another name
        try:
            text = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
    return text


def _is_installed(module: str) -> bool:
    """Whether a module comes with Python or from an installed package."""
    if _top(module) in sys.stdlib_module_names:
        return True
    found = sys.modules.get(module)
    file = getattr(found, "__file__", None)
    if found is None:
        try:
            file = getattr(importlib.util.find_spec(module), "origin", None)
        except (ImportError, AttributeError, ValueError):
            return True
    if file is None:
        return module != "__main__" and not hasattr(found, "__path__")
    path = Path(file)
    return bool({"site-packages", "dist-packages"} & set(path.parts)) or _standard() in path.parents


@cache
def _standard() -> Path:
    return Path(sysconfig.get_path("stdlib"))


def _top(module: str) -> str:
    return module.partition(".")[0]


def _is_part(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")
