"""The sections of the page, and the registry of what stands in them.

A table or a figure is a function that registers itself with a section. The page lays out what is registered, so a new
table or figure is one new file, here or in a plugin, and nothing else lists it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from estbench.errors import EstbenchError, did_you_mean
from estbench.failures import described
from estbench.source import ships

# A section's key, which is its id in the page, and its title in the page's navigation; in the order of the page.
SECTIONS = {
    "answer": "Answer",
    "convergence": "Curves",
    "metrics": "Metrics",
    "pictures": "Pictures",
    "variance": "Gradients",
    "throughput": "Speed and memory",
    "target": "Cost of a bound",
    "pairwise": "All pairs",
    "sensitivity": "Sensitivity",
    "completion": "Runs",
    "certificates": "Certificates",
    "provenance": "Environment",
    "reproduce": "Reproduce",
    "cite": "Cite",
}
# Sections that are left out if nothing stands in them; the others say then why they are empty.
OPTIONAL = frozenset({"metrics", "sensitivity", "target", "pairwise", "pictures"})


class Place(NamedTuple):
    """Where in the page something stands: in a section, by its order there, behind a line if it is folded."""

    section: str = ""
    order: int = 0
    folded: str = ""


NOWHERE = Place()


@dataclass(frozen=True)
class Lost:
    """A table or figure of a plugin that could not be made; ``message`` says which and why."""

    message: str
    place: Place


@dataclass(frozen=True)
class Registered:
    """A function that makes a table or figures, and where they stand."""

    make: Callable[..., Any]
    place: Place

    @property
    def name(self) -> str:
        """The name of the function."""
        return self.make.__name__

    @property
    def ships(self) -> bool:
        """Whether it is part of estbench."""
        return ships(self.make)


Item = TypeVar("Item", bound=Registered)


class SectionRegistry(dict[str, Item], Generic[Item]):
    """The registered items by name; ``kind`` is their noun in messages."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def add(self, item: Item) -> None:
        """Register an item; a plugin that is loaded again replaces its own.

        Raises
        ------
        EstbenchError
            If the page has no such section, or another module has registered an item of this name.
        """
        section = item.place.section
        if section not in SECTIONS:
            raise EstbenchError(
                f"{self.kind} '{item.name}': the page has no section '{section}'; {did_you_mean(section, SECTIONS)}"
            )
        taken = self.get(item.name)
        if taken is not None and taken.make.__module__ != item.make.__module__:
            raise EstbenchError(
                f"a {self.kind} '{item.name}' exists already in {taken.make.__module__}; choose another name"
            )
        self[item.name] = item

    def in_order(self) -> list[Item]:
        """Return all items from the top of the page to its bottom; at one place, in the order of registration."""
        sections = list(SECTIONS)
        return sorted(self.values(), key=lambda item: (sections.index(item.place.section), item.place.order))

    def shipped_first(self) -> list[Item]:
        """Return them in the same order, those of plugins last: if two have the same name, the plugin's is lost."""
        return sorted(self.in_order(), key=lambda item: not item.ships)

    @contextlib.contextmanager
    def attempt(self, item: Item, lost: list[Lost] | None) -> Iterator[None]:
        """Within, add an item of a plugin to ``lost`` if it raises; without ``lost`` all errors are raised."""
        try:
            yield
        except (Exception, SystemExit) as error:
            if lost is None or item.ships:
                raise
            lost.append(Lost(f"the {self.kind} '{item.name}' could not be made: {described(error)}", item.place))
