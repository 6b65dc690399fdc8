"""The facts that every estimator declares about itself, and the status of its certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from estbench.report.analysis import Analysis
from estbench.report.tables.base import Table
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, order_by_rank
from estbench.report.tables.registry import register_table


@dataclass(frozen=True)
class DeclaredFacts:
    """One estimator: the facts that it declares, and the status of its certificate."""

    estimator: str
    certificate: str
    facts: dict[str, Any]

    def write_list(self, name: str) -> str:
        """Return a fact that is a list, as words in alphabetical order."""
        fact = self.facts.get(name, ())
        return ", ".join(sorted(map(str, fact))) if isinstance(fact, (list, tuple)) else str(fact)

    def write_answer(self, name: str, yes: str, no: str) -> str:
        """Return one of two words for a fact that is true or false; "unknown" if it is neither."""
        fact = self.facts.get(name)
        return yes if fact is True else no if fact is False else "unknown"


FIELDS: list[Field[DeclaredFacts]] = [
    ESTIMATOR,
    Field("summary", "what it is", lambda row: str(row.facts.get("summary", "")), text=True),
    Field("certificate", "certificate", text=True),
    Field("unbiased", "unbiased", lambda row: row.write_answer("unbiased", "yes", "no"), text=True, short="unbiased"),
    Field(
        "differentiable_f",
        "differentiable f",
        lambda row: row.write_answer("needs_differentiable_f", "needed", "not needed"),
        text=True,
    ),
    Field(
        "evaluations",
        "evaluations per image",
        lambda row: str(row.facts.get("evaluations", "")),
        text=True,
        short="evaluations",
    ),
    Field("supports", "supports", lambda row: row.write_list("supports"), text=True),
    Field("reference", "reference", lambda row: str(row.facts.get("reference") or ""), text=True, short="reference"),
]


@register_table(section="certificates")
def estimators(analysis: Analysis) -> Table:
    """Return one row per estimator whose records hold the facts that it declares."""
    labels = dict.fromkeys(label for problem in analysis.problems for label in order_by_rank(analysis, problem))
    rows = [
        DeclaredFacts(label, analysis.certificate(label), facts) for label in labels if (facts := analysis.facts(label))
    ]
    caption = (
        "What each estimator declares about itself; `estbench check` tests it. Evaluations: decoder evaluations, where "
        "one is one latent sample of one image."
    )
    return build_table(
        "estimators", "The estimators, as they declare themselves", caption, FIELDS, rows, short_caption="As declared."
    )
