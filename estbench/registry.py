"""Names to classes: one registry each for estimators, problems and datasets, open to plugins."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import re
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from types import ModuleType
from typing import Any, Generic, TypeVar

from estbench.errors import EstbenchError, did_you_mean
from estbench.failures import described
from estbench.options import BaseOptions, validated
from estbench.source import combined, constants, fingerprint, ships
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
        self._broken: dict[str, str] = {}  # entry points that could not be loaded, and why

    def register(self, name: str, **attributes: Any) -> Callable[[E], E]:
        """Decorator: make a class or function known as ``name`` (short, lower-case), with ``attributes`` set on it.

        One that is registered under several names keeps each of them right.
        """
        if not NAME.fullmatch(name):
            raise EstbenchError(
                f"'{name}' is no {self.kind} name; use a-z, 0-9, - and _, and begin with a letter or digit"
            )

        def decorator(entry: E) -> E:
            if not callable(entry):
                raise EstbenchError(f"the {self.kind} '{name}' is {entry!r}; register a class or a function")
            taken = self._entries.get(name)
            if taken is not None and _origin(taken) != _origin(entry):
                raise EstbenchError(
                    f"the {self.kind} '{name}' exists already (in {taken.__module__}); choose another name"
                )
            known_as = vars(entry).get("name") if hasattr(entry, "__dict__") else None
            named: Any = entry if known_as is None or known_as == name else _twin(entry)
            self._entries[name] = named
            for attribute, value in {**attributes, "name": name}.items():
                setattr(named, attribute, value)
            return entry

        return decorator

    def names(self) -> list[str]:
        """All known names, in the order of their registration."""
        self._load_entry_points()
        return list(self._entries)

    def get(self, name: str) -> Entry:
        """The entry called ``name``; an unknown name is an error that names the nearest."""
        self._load_entry_points()
        if name in self._broken and name not in self._entries:
            raise EstbenchError(self._broken[name])
        if name not in self._entries:
            hint = did_you_mean(name, self._entries)
            raise EstbenchError(f"unknown {self.kind} '{name}'; {hint}; one of your own comes with --plugin FILE")
        return self._entries[name]

    def named(self, words: Collection[str]) -> list[Entry]:
        """The entries whose names are among some words."""
        return [entry for name, entry in self._entries.items() if name in words]

    def options(self, variant: str | Variant) -> BaseOptions:
        """The checked options of a variant."""
        variant = Variant.parse(variant) if isinstance(variant, str) else variant
        model: type[BaseOptions] = getattr(self.get(variant.name), "Options", BaseOptions)
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
        """Find what installed packages bring; what cannot be loaded is named once and left out."""
        if self._entry_points_loaded:
            return
        self._entry_points_loaded = True
        for point in importlib.metadata.entry_points(group=f"estbench.{self.kind}s"):
            try:
                self._take(point.name, point.load())
            except (Exception, SystemExit) as error:  # noqa: BLE001  (anybody's code)
                reason = described(error)
                self._broken[point.name] = (
                    f"cannot load the {self.kind} '{point.name}' from {point.value}: {reason};"
                    " mend or uninstall its package"
                )
                print(f"Warning: {self._broken[point.name]}", file=sys.stderr)

    def _take(self, name: str, loaded: Any) -> None:
        """Register what an entry point names: a class or loader; or a module or function that registers on its own."""
        if not isinstance(loaded, type) and not isinstance(loaded, ModuleType) and self.kind != "dataset":
            loaded = loaded()  # a function that registers, or that gives the class
        if loaded is None or isinstance(loaded, ModuleType):
            if name not in self._entries:
                raise EstbenchError(f"it registers no {self.kind} '{name}'")
            return
        if name not in self._entries:
            self.register(name)(loaded)


def _twin(entry: Any) -> Any:
    """The same class or function once more, for another name."""
    if isinstance(entry, type):
        return type(entry)(
            entry.__name__, (entry,), {name: getattr(entry, name) for name in ("__module__", "__qualname__", "__doc__")}
        )
    return functools.update_wrapper(functools.partial(entry), entry)


def _origin(entry: Callable[..., Any]) -> tuple[str, str]:
    """Where an entry was defined: a plugin that is loaded twice registers the same thing again."""
    return getattr(entry, "__module__", ""), getattr(entry, "__qualname__", repr(entry))
