"""Names to classes: one registry each for estimators, problems and datasets, open to plugins."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import sys
import traceback
import zlib
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from estbench.errors import EstbenchError, did_you_mean
from estbench.source import combined, constants, fingerprint, ships
from estbench.validation import Options, validated
from estbench.variant import NAME, Variant

Entry = TypeVar("Entry", bound=Callable[..., Any])
WORD = re.compile(r"[a-z0-9][a-z0-9_-]*")
E = TypeVar("E", bound=Callable[..., Any])


@dataclass(frozen=True)
class Resolved:
    """A variant with every option spelled out: what a cell's key is made from.

    ``label`` names the options that differ from their defaults; it is for people and is not part of a key.
    """

    name: str
    options: dict[str, Any]
    version: int
    label: str
    card: str = ""  # of a problem: what its bounds are bounds on
    source: str = ""  # the fingerprint of all its code that does not ship with estbench

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for a record: one dictionary, which all cells of the variant share."""
        return self._plain

    @cached_property
    def _plain(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


class Registry(Generic[Entry]):
    """The entries of one kind by name; those of installed packages are found by their entry points.

    An estimator or a problem is a class that is built from its options; a dataset is a function that loads it.
    """

    def __init__(self, kind: str, uses: Iterable[Registry[Any]] = ()) -> None:
        self.kind = kind
        self._uses = tuple(uses)  # whose entries are named by the options or the code of these
        self._entries: dict[str, Entry] = {}
        self._entry_points_loaded = False

    def register(self, name: str) -> Callable[[E], E]:
        """Decorator: make a class or function known as ``name`` (short, lower-case)."""
        if not NAME.fullmatch(name):
            raise EstbenchError(f"'{name}' is no {self.kind} name; use a-z, 0-9, - and _")

        def decorator(entry: E) -> E:
            taken = self._entries.get(name)
            if taken is not None and _origin(taken) != _origin(entry):
                raise EstbenchError(
                    f"the {self.kind} '{name}' exists already (in {taken.__module__}); choose another name"
                )
            self._entries[name] = entry  # type: ignore[assignment]
            entry.name = name  # type: ignore[attr-defined]
            return entry

        return decorator

    def names(self) -> list[str]:
        """All known names, in the order of their registration."""
        self._load_entry_points()
        return list(self._entries)

    def get(self, name: str) -> Entry:
        """The entry called ``name``; an unknown name is an error that names the nearest."""
        self._load_entry_points()
        if name not in self._entries:
            raise EstbenchError(f"unknown {self.kind} '{name}'; {did_you_mean(name, self._entries)}")
        return self._entries[name]

    def named(self, words: Collection[str]) -> list[Entry]:
        """The entries whose names are among some words."""
        return [entry for name, entry in self._entries.items() if name in words]

    def options(self, variant: str | Variant) -> Options:
        """The checked options of a variant."""
        variant = Variant.parse(variant) if isinstance(variant, str) else variant
        model: type[Options] = getattr(self.get(variant.name), "Options", Options)
        return validated(model, variant.options, f"{self.kind} '{variant.name}'")

    def resolve(self, variant: str | Variant) -> Resolved:
        """Spell a variant out: all options, the version, and a label that is the same however it was written."""
        variant = Variant.parse(variant) if isinstance(variant, str) else variant
        options = self.options(variant)
        values = options.model_dump(mode="json")
        defaults = type(options).model_construct().model_dump(mode="json")
        changed = {key: value for key, value in values.items() if value != defaults.get(key)}
        version: int = getattr(self.get(variant.name), "version", 1)
        card = getattr(self.get(variant.name), "card_of", lambda _options: "")(options)
        source = self._source(variant.name, values)
        return Resolved(variant.name, values, version, str(Variant(variant.name, changed)), card, source)

    def create(self, variant: str | Variant) -> Any:
        """Build an instance from ``name[option=value,...]``."""
        variant = Variant.parse(variant) if isinstance(variant, str) else variant
        return self.get(variant.name)(self.options(variant))

    def _source(self, name: str, options: dict[str, Any]) -> str:
        """The fingerprint of an entry, and of the entries that its options or its code name; of shipped ones none."""
        entry = self.get(name)
        own = not ships(entry)
        named = set(WORD.findall(json.dumps(options))) | (constants(entry) if own else set())
        others = [
            fingerprint(other)
            for registry in (self, *self._uses)
            for other in registry.named(named)
            if other is not entry and not ships(other)
        ]
        return combined([fingerprint(entry) if own else "", *sorted(others)])

    def _load_entry_points(self) -> None:
        if self._entry_points_loaded:
            return
        self._entry_points_loaded = True
        for entry in importlib.metadata.entry_points(group=f"estbench.{self.kind}s"):
            try:
                loaded = entry.load()
            except Exception as error:
                raise EstbenchError(
                    f"cannot load the {self.kind} '{entry.name}' from {entry.value}: {type(error).__name__}: {error};"
                    " mend or uninstall its package"
                ) from error
            if entry.name not in self._entries:
                self.register(entry.name)(loaded)


def _origin(entry: Callable[..., Any]) -> tuple[str, str]:
    """Where an entry was defined: a plugin that is loaded twice registers the same thing again."""
    return entry.__module__, entry.__qualname__


def load_plugin(path: str | Path) -> None:
    """Run a Python file that registers estimators, problems or datasets.

    This is the only way that code from outside an installed package comes in.
    """
    path = Path(path)
    if not path.is_file():
        raise EstbenchError(f"no plugin file '{path}'; --plugin takes the path of a Python file")
    # Two files of one name in two folders are two modules.
    name = f"estbench_plugin_{path.stem}_{zlib.crc32(str(path.resolve()).encode()):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise EstbenchError(f"'{path}' is no Python file; --plugin takes the path of a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except EstbenchError as error:
        raise EstbenchError(f"plugin '{path}': {error}") from error
    except (Exception, SystemExit) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == spec.origin]
        line = f", line {frames[-1].lineno}" if frames else ""
        raise EstbenchError(f"plugin '{path}'{line}: {type(error).__name__}: {error}") from error
