"""Every estimator against every other."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from estbench.report.analysis import frames
from estbench.report.tables.assemble import columns_of, entry, signed
from estbench.report.tables.base import NOTHING, Column, Entry, Table
from estbench.report.tables.equal_cost import standings

if TYPE_CHECKING:
    from estbench.store import Results


def pairwise(results: Results) -> Table:
    """A matrix per problem: final test ELBO of the row's estimator less that of the column's."""
    finals = {problem: of_problem[0] for problem, of_problem in standings(results).items()}  # at equal steps: the last
    labels = [label for label in frames.estimators(results) if any(label in each.spans for each in finals.values())]
    several = len(frames.problems(results)) > 1

    def heads(estimator: Any, problem: Any) -> tuple[Any, ...]:
        return (estimator, problem) if several else (estimator,)

    counts = {sum(not math.isnan(claim.p) for claim in each.claims.values()) // 2 for each in finals.values()}
    pairs = " or ".join(str(count) for count in sorted(counts))
    data: list[dict[str, Any]] = []
    rows: list[tuple[Entry, ...]] = []
    rules = []
    for problem, standing in finals.items():
        rules.append(len(rows))
        for first in (label for label in labels if label in standing.spans):
            entries = []
            for second in labels:
                claim = standing.claims.get((first, second))
                if claim is None:
                    entries.append(Entry(NOTHING))
                    continue
                interval, p = claim
                told = {"problem": problem, "estimator": first, "other": second}
                data.append(told | columns_of({"elbo_difference": interval}) | {"p_holm": p})
                shown = entry(interval, signed)
                star = " *" if standing.ahead(first, second) or standing.ahead(second, first) else ""
                entries.append(Entry(shown.text + star, shown.note + ("" if math.isnan(p) else f", {p_words(p)}")))
            rows.append((*heads(Entry(first), Entry(problem)), *entries))
    head = partial(Column, numeric=False, head=True)
    caption = (
        "Final test ELBO of the row's estimator less that of the column's, in nats per example, paired by seed; in "
        "brackets the 95 % t interval of that one difference, which is not corrected for the number of claims. p is "
        f"adjusted: Holm's correction for all {pairs} pairs{' of a problem' if several else ''} keeps the chance of "
        "any false claim among them at 5 %, and a star marks the differences that stand (p at most 0.05). Below three "
        "common seeds there is neither."
    )
    return Table(
        "pairwise",
        "Every pair of estimators",
        caption,
        pd.DataFrame(data),
        (*heads(head("estimator"), head("problem")), *map(Column, labels)),
        tuple(rows),
        frozenset(rules[1:]),
    )


def p_words(p: float) -> str:
    """A p-value, no more precise than it deserves."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"
