"""Registries by name, open to plugins: one each for estimators, problems, parts of a VAE, datasets and metrics."""

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
from estbench.source import combine_fingerprints, find_constants, fingerprint, ships
from estbench.variant import NAME, Variant

Entry = TypeVar("Entry", bound=Callable[..., Any])
WORD = re.compile(r"[a-z0-9][a-z0-9_-]*")
E = TypeVar("E", bound=Callable[..., Any])
FUNCTIONS = {"dataset", "metric", "network"}  # kinds whose entries are functions


@dataclass(frozen=True)
class Resolved:
    """A variant with the values of all options: the part of a cell that its key is made from.

    ``label`` has the options that differ from their defaults; it is for people and is not part of a key.
    """

    name: str
    options: dict[str, Any]
    version: int
    label: str
    card: str = ""  # of a problem: bounds are compared only if their cards are equal
    source: str = ""  # the fingerprint of all its code that is not part of estbench

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, for a record: one dictionary, which all cells of the variant share."""
        return self._plain

    @cached_property
    def _plain(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


class Registry(Generic[Entry]):
    """The entries of one kind by name; those of installed packages are found through their entry points.

    An estimator or a problem is a class that is built from its options; a dataset is a function that loads it, and a
    metric one that measures it.
    """

    def __init__(self, kind: str, uses: Iterable[Registry[Any]] = ()) -> None:
        self.kind = kind
        self._uses = tuple(uses)  # registries with entries that options or code of these entries name
        self._entries: dict[str, Entry] = {}
        self._unlisted: set[str] = set()
        self._entry_points_loaded = False
        self._broken: dict[str, str] = {}  # messages about entry points that could not be loaded

    def register(self, name: str, *, listed: bool = True, **attributes: Any) -> Callable[[E], E]:
        """Decorator: register a class or function under ``name`` (short, lower-case), and set ``attributes`` on it.

        One that is not ``listed`` is found by its name and is not among ``names``. A second name for the same class or
        function gets a copy, so that each has its own attribute ``name``.
        """
        if not NAME.fullmatch(name):
            raise EstbenchError(
                f"invalid {self.kind} name '{name}': use a-z, 0-9, - and _, and begin with a letter or digit"
            )

        def decorator(entry: E) -> E:
            if not callable(entry):
                raise EstbenchError(f"the {self.kind} '{name}' is {entry!r}; register a class or a function")
            taken = self._entries.get(name)
            if taken is not None and _origin(taken) != _origin(entry):
                raise EstbenchError(
                    f"the {self.kind} '{name}' exists already (in {taken.__module__}); choose another name"
                )
            first_name = vars(entry).get("name") if hasattr(entry, "__dict__") else None
            named: Any = entry if first_name is None or first_name == name else _copy_entry(entry)
            self._entries[name] = named
            (self._unlisted.discard if listed else self._unlisted.add)(name)
            for attribute, value in {**attributes, "name": name}.items():
                setattr(named, attribute, value)
            return entry

        return decorator

    def names(self) -> list[str]:
        """Return all names, in the order of registration."""
        self._load_entry_points()
        return [name for name in self._entries if name not in self._unlisted]

    def get(self, name: str) -> Entry:
        """Return the entry ``name``; raise ``EstbenchError`` that suggests the nearest name if there is none."""
        self._load_entry_points()
        if name in self._broken and name not in self._entries:
            raise EstbenchError(self._broken[name])
        if name not in self._entries:
            hint = did_you_mean(name, self._entries)
            raise EstbenchError(f"unknown {self.kind} '{name}'; {hint}; load one of your own with --plugin FILE")
        return self._entries[name]

    def named(self, words: Collection[str]) -> list[Entry]:
        """Return the entries whose names are among ``words``."""
        return [entry for name, entry in self._entries.items() if name in words]

    def options(self, variant: str | Variant) -> BaseOptions:
        """Return the checked options of a variant; raise ``EstbenchError`` if one is wrong."""
        variant = Variant.parse(variant) if isinstance(variant, str) else variant
        model: type[BaseOptions] = getattr(self.get(variant.name), "Options", BaseOptions)
        return validated(model, variant.options, f"{self.kind} '{variant.name}'")

    def resolve(self, variant: str | Variant) -> Resolved:
        """Return a variant with all options, its version, and a label that does not depend on how it was written."""
        variant = Variant.parse(variant) if isinstance(variant, str) else variant
        options = self.options(variant)
        values = options.model_dump(mode="json")
        version: int = getattr(self.get(variant.name), "version", 1)
        card = getattr(self.get(variant.name), "card_of", lambda _options: "")(options)
        source = self._source(variant.name, values)
        return Resolved(variant.name, values, version, written_with(variant.name, options), card, source)

    def create(self, variant: str | Variant) -> Any:
        """Build an instance from ``name[option=value,...]``."""
        variant = Variant.parse(variant) if isinstance(variant, str) else variant
        return self.get(variant.name)(self.options(variant))

    def entry(self, text: str) -> Entry:
        """Return the entry of ``name[option=value,...]``."""
        return self.get(Variant.parse(text).name)

    def build(self, text: str, *arguments: Any) -> Any:
        """Call the entry of ``name[option=value,...]`` with arguments; its options come last, if it has any."""
        variant = Variant.parse(text)
        entry, options = self.get(variant.name), self.options(variant)
        return entry(*arguments, options) if hasattr(entry, "Options") else entry(*arguments)

    def label(self, text: str) -> str:
        """Return how a variant is written; the same for all ways to write it."""
        variant = Variant.parse(text)
        return written_with(variant.name, self.options(variant))

    def _source(self, name: str, options: dict[str, Any]) -> str:
        """Return one fingerprint of an entry and the entries that its options or code name, without shipped ones."""
        entry = self.get(name)
        own = not ships(entry)
        named = set(WORD.findall(json.dumps(options))) | (find_constants(entry) if own else set())
        others = [
            fingerprint(other)
            for registry in (self, *self._uses)
            for other in registry.named(named)
            if other is not entry and not ships(other)
        ]
        return combine_fingerprints([fingerprint(entry) if own else "", *sorted(others)])

    def _load_entry_points(self) -> None:
        """Register the entries of installed packages; warn once about one that cannot be loaded."""
        if self._entry_points_loaded:
            return
        self._entry_points_loaded = True
        for point in importlib.metadata.entry_points(group=f"estbench.{self.kind}s"):
            try:
                self._register_loaded(point.name, point.load())
            except (Exception, SystemExit) as error:  # noqa: BLE001  (code of a plugin)
                reason = described(error)
                self._broken[point.name] = (
                    f"cannot load the {self.kind} '{point.name}' from {point.value}: {reason};"
                    " repair or uninstall its package"
                )
                print(f"Warning: {self._broken[point.name]}", file=sys.stderr)

    def _register_loaded(self, name: str, loaded: Any) -> None:
        """Register the object of an entry point: a class, loader or metric, or a module or function that registers."""
        if not isinstance(loaded, type | ModuleType) and self.kind not in FUNCTIONS:
            loaded = loaded()  # a function that registers, or that returns the class
        if loaded is None or isinstance(loaded, ModuleType):
            if name not in self._entries:
                raise EstbenchError(f"it registers no {self.kind} '{name}'")
            return
        if name not in self._entries:
            self.register(name)(loaded)


def written_with(name: str, options: BaseOptions) -> str:
    """Return a name with the options that differ from their defaults: ``rloo[num_samples=4]``."""
    defaults = type(options).model_construct().model_dump(mode="json")
    values = options.model_dump(mode="json")
    return str(Variant(name, {key: value for key, value in values.items() if value != defaults.get(key)}))


def written(instance: Any) -> str:
    """Return how an instance of a registered class is written; of a class without a name, the class's own."""
    name = getattr(instance, "name", type(instance).__name__)
    options = getattr(instance, "options", None)
    return written_with(name, options) if isinstance(options, BaseOptions) else name


def _copy_entry(entry: Any) -> Any:
    """Return a subclass of a class, or a wrapper of a function, that does the same and can have another name."""
    if isinstance(entry, type):
        return type(entry)(
            entry.__name__, (entry,), {name: getattr(entry, name) for name in ("__module__", "__qualname__", "__doc__")}
        )
    return functools.update_wrapper(functools.partial(entry), entry)


def _origin(entry: Callable[..., Any]) -> tuple[str, str]:
    """Return where an entry was defined: a plugin that is loaded twice registers the same entry again."""
    return getattr(entry, "__module__", ""), getattr(entry, "__qualname__", repr(entry))
