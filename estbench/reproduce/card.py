"""A reproduction card: a claim of the literature, how it is put to the test, and what is expected.

A card is a TOML file. Its protocol and every deviation from the paper's stand in it in words; ``study`` names the
Python file beside it that computes its quantities from ``options``; each ``[[expect]]`` says what one of them should be
and where the tolerance comes from.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, PrivateAttr, field_validator, model_validator

from estbench.errors import EstbenchError, did_you_mean
from estbench.options import Frozen, validated
from estbench.references import BIBTEX
from estbench.stats import Interval
from estbench.toml_files import read_toml

Tier = Literal["seconds", "minutes", "gpu", "cluster"]
# Shortest first; the first two are what a machine without an accelerator can be asked for.
TIERS: tuple[Tier, ...] = ("seconds", "minutes", "gpu", "cluster")
Verdict = Literal["reproduced", "contradicted", "undecided"]
Text = Field(min_length=1)
# A file beside the card, and no path to anywhere else; names with a leading underscore are those of helpers.
STUDY_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Expectation(Frozen):
    """The value or the range that a measured quantity should have.

    ``equals``: its whole interval lies within ``tolerance`` of ``value``. ``less`` and ``greater``: its whole interval
    lies on that side of ``value``. So an interval that is too wide is no success, and no failure either.
    """

    quantity: str = Text
    relation: Literal["equals", "less", "greater"]
    value: float
    tolerance: float | None = Field(default=None, gt=0)
    source: str = Field(min_length=1, description="where the value and the tolerance come from")

    @model_validator(mode="after")
    def _applicable(self) -> Expectation:
        if (self.relation == "equals") != (self.tolerance is not None):
            raise ValueError("relation = 'equals' needs a tolerance, and the other relations take none")
        return self

    def verdict(self, measured: Interval) -> Verdict:
        """Return what the measured interval says of the claim.

        ``reproduced`` if all of the interval agrees, ``contradicted`` if none of it does, and ``undecided`` if it holds
        values of both kinds or is not finite. A number without sampling error is an interval of one value.

        >>> claim = Expectation(quantity="ratio", relation="less", value=1.0, source="the claim")
        >>> claim.verdict(Interval(0.97, 0.94, 1.01, 5))
        'undecided'
        """
        if not all(map(math.isfinite, measured[:3])):
            return "undecided"
        low, high = self.accepted
        if low <= measured.low and measured.high <= high:
            return "reproduced"
        return "contradicted" if measured.high < low or measured.low > high else "undecided"

    @property
    def accepted(self) -> tuple[float, float]:
        """The values that agree with the claim."""
        match self.relation:
            case "less":
                return -math.inf, self.value
            case "greater":
                return self.value, math.inf
            case _:
                return self.value - (self.tolerance or 0.0), self.value + (self.tolerance or 0.0)

    def __str__(self) -> str:
        match self.relation:
            case "less":
                return f"< {self.value:g}"
            case "greater":
                return f"> {self.value:g}"
            case _:
                return f"{self.value:g} ± {self.tolerance:g}"


class ReproductionCard(Frozen):
    """One claim and its test."""

    name: str = Text
    claim: str = Text
    paper: str = Field(min_length=1, description="a BibTeX key of estbench.references")
    where: str = Field(min_length=1, description="section, figure or table of the paper")
    protocol: str = Text
    deviations: tuple[str, ...]
    computed: str = Field(min_length=1, description="how the quantities are computed")
    tier: Tier
    verdict: Verdict = Field(default="reproduced", description="the verdict that is foreseen")
    finding: str = Field(default="", description="what was found, if that is not what is claimed")
    study: str = Field(description="the name, without .py, of the Python file beside the card that computes it")
    options: dict[str, Any] = Field(default_factory=dict)
    expect: tuple[Expectation, ...] = Field(min_length=1)
    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path | None:
        """The folder that the card was read from; None if it was not read from a file of its own."""
        return self._folder

    @field_validator("study")
    @classmethod
    def _is_beside(cls, name: str) -> str:
        if not STUDY_NAME.fullmatch(name):
            raise ValueError(
                f"takes the name of a Python file beside the card, without .py: a-z, 0-9 and _; '{name}' is none"
            )
        return name

    @model_validator(mode="after")
    def _consistent(self) -> ReproductionCard:
        if self.paper not in BIBTEX:
            raise ValueError(f"unknown paper '{self.paper}'; {did_you_mean(self.paper, BIBTEX)}")
        if (self.verdict != "reproduced") != bool(self.finding):
            raise ValueError(
                "'finding' says what was found where the verdict is 'contradicted' or 'undecided', and only there"
            )
        return self


class JudgedExpectation(NamedTuple):
    """An expectation and the measured quantity."""

    expectation: Expectation
    measured: Interval

    @property
    def verdict(self) -> Verdict:
        """The verdict of this expectation alone."""
        return self.expectation.verdict(self.measured)


def read_card(path: str | Path) -> ReproductionCard:
    """Read a card, and nothing else; raise ``EstbenchError`` that names the file, the field and the remedy."""
    path = Path(path)
    data = read_toml(path, f"no card '{path}'; see `estbench reproduce --list`")
    card = validated(ReproductionCard, {"name": path.stem, **data}, path.name)
    card._folder = path.parent  # noqa: SLF001  (no part of the card's data)
    return card


def shipped_cards() -> dict[str, Path]:
    """Return the cards that come with the package, by name: as installed, or in the source tree."""
    package = Path(__file__).parents[1]
    folders = (package / "_experiments", package.parent / "experiments")
    folder = next((folder for folder in folders if folder.is_dir()), package)
    return {path.stem: path for path in sorted((folder / "reproductions").glob("*.toml"))}


def find_cards(wanted: tuple[str, ...], tiers: tuple[str, ...]) -> list[ReproductionCard]:
    """Return the cards of these names or files, or else all of these tiers, the quickest tier first."""
    shipped = shipped_cards()
    if wanted:
        return [read_card(_find(name, shipped)) for name in wanted]
    cards = [read_card(path) for path in shipped.values()]
    return sorted((card for card in cards if card.tier in tiers), key=lambda card: (TIERS.index(card.tier), card.name))


def _find(name: str, shipped: dict[str, Path]) -> Path:
    if name in shipped:
        return shipped[name]
    path = Path(name)
    if path.suffix == ".toml":
        return path
    raise EstbenchError(f"no card '{name}'; {did_you_mean(name, shipped)}")
