"""Who is ahead when all have spent the same: steps, evaluations or training seconds."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from estbench.report.analysis import frames
from estbench.report.analysis.paired import CURRENCIES, LEVEL, Runs, Span, comparable, difference, finished_runs, worth
from estbench.report.tables.assemble import ABSENT, assemble, columns_of, count, entry, signed
from estbench.report.tables.base import NOTHING, Column, Entry, Table, fixed
from estbench.stats import Claim, holm, spanned_claim

if TYPE_CHECKING:
    from estbench.store import Results


class Standing(NamedTuple):
    """The estimators of one problem at one budget, paired by seed, best mean first."""

    currency: str
    budget: float
    spans: dict[str, dict[int, Span]]
    claims: dict[tuple[str, str], Claim]  # of every ordered pair, p-values adjusted for all pairs (Holm)

    @property
    def leader(self) -> str:
        """The estimator with the highest mean; that alone makes it no winner."""
        return next(iter(self.spans))

    def ahead(self, first: str, second: str) -> bool:
        """Whether ``first`` is shown to be better than ``second``."""
        claim = self.claims[first, second]
        return claim.p <= LEVEL and claim.interval.low > 0

    @property
    def winner(self) -> str | None:
        """The leader, where it is shown to be ahead of every other; nobody otherwise."""
        return None if self.rivals else self.leader

    @property
    def rivals(self) -> list[str]:
        """The estimators that the leader is not shown to be ahead of."""
        return [label for label in self.spans if label != self.leader and not self.ahead(self.leader, label)]


def at_equal(runs: Runs, currency: str) -> Standing:
    """Compare at the largest budget that every finished cell has come to."""
    budget = min(float(run.cost[currency][-1]) for seeds in runs.values() for run in seeds.values())
    values = {
        label: {seed: worth(run, currency, budget) for seed, run in seeds.items()} for label, seeds in runs.items()
    }
    means = {label: sum(span.value for span in spans.values()) / len(spans) for label, spans in values.items()}
    values = {label: values[label] for label in sorted(values, key=lambda label: -means[label])}
    pairs = list(itertools.combinations(values, 2))
    found = [difference(values[first], values[second]) for first, second in pairs]
    claims = {}
    for (first, second), claim, p in zip(pairs, found, holm([claim.p for claim in found]), strict=True):
        value, low, high, n = claim.interval
        claims[first, second] = Claim(claim.interval, float(p))
        claims[second, first] = Claim(claim.interval._replace(value=-value, low=-high, high=-low, n=n), float(p))
    return Standing(currency, budget, values, claims)


@frames.once
def standings(results: Results) -> dict[str, list[Standing]]:
    """One standing per currency for every problem with two finished estimators or more."""
    return {
        problem: [at_equal(runs, currency) for currency in comparable(results, runs)]
        for problem, runs in finished_runs(results).items()
        if len(runs) > 1
    }


def budget_words(standing: Standing) -> str:
    """A budget in words."""
    amount = fixed(standing.budget, 2) if standing.currency == "seconds" else count(standing.budget)
    return f"{amount} {CURRENCIES[standing.currency]}"


def equal_cost(results: Results) -> Table:
    """One row per problem and estimator, the currencies side by side."""
    found = standings(results)
    data: list[dict[str, Any]] = []
    rows = []
    for problem, of_problem in found.items():
        by_currency = {standing.currency: standing for standing in of_problem}
        for estimator in frames.estimators(results):
            if estimator not in of_problem[0].spans:
                continue
            row: dict[str, Any] = {"problem": problem, "estimator": estimator}
            entries = []
            for currency in CURRENCIES:
                numbers, shown = _place(by_currency.get(currency), estimator)
                row |= {f"{currency}_{name}": number for name, number in numbers.items()}
                entries += shown
            data.append(row)
            rows.append((Entry(estimator), Entry(problem), *entries))
    columns = [
        Column("estimator", numeric=False, head=True),
        Column("problem", numeric=False, head=True),
        *(
            Column(title)
            for name in CURRENCIES.values()
            for title in (f"test ELBO at equal {name}", f"behind the leader, {name}")
        ),
    ]
    budgets = "; ".join(
        (f"{problem}: " if len(found) > 1 else "") + ", ".join(map(budget_words, of_problem))
        for problem, of_problem in found.items()
    )
    caption = (
        "Test ELBO, mean nats per example over the finished cells, at the largest budget that all of them have come to "
        f"({budgets}). Where a budget falls between two evaluations, the value is on the straight line between them, "
        "and the 95 % t interval takes both in. The leader has the highest mean; the differences to it are paired by "
        "seed. A star: shown to be behind, p at most 0.05 after Holm's correction for all pairs of estimators. A star "
        "at the leader, and bold: ahead of every other. Seconds are compared within one machine only. "
        + " ".join(change for problem, each in found.items() if (change := change_of_winner(problem, each, len(found))))
    ).rstrip()
    return assemble(results, "equal_cost", "Equal cost", caption, data, columns, rows)


def change_of_winner(problem: str, of_problem: list[Standing], problems: int = 1) -> str:
    """Say so where another currency has another leader, and whether that is shown; nothing where it is the same."""
    leaders = list(dict.fromkeys(standing.leader for standing in of_problem))
    if len(leaders) < 2:
        return ""
    named = ", ".join(f"{each.leader} at equal {CURRENCIES[each.currency]}" for each in of_problem)
    turned = any(
        one.ahead(one.leader, other.leader) and other.ahead(other.leader, one.leader)
        for one, other in itertools.combinations(of_problem, 2)
        if one.leader != other.leader
    )
    where = f"On {problem} the" if problems > 1 else "The"
    if turned:
        return f"{where} winner changes with the currency: {named}."
    return f"{where} highest mean changes with the currency ({named}), but no change of winner is shown."


def _place(standing: Standing | None, estimator: str) -> tuple[dict[str, float], list[Entry]]:
    """One estimator at one budget: numbers and entries."""
    if standing is None:
        empty = {"budget": math.nan} | columns_of({"elbo": ABSENT, "difference": ABSENT}) | {"p_holm": math.nan}
        return empty, [Entry(NOTHING, "timed in several places"), Entry(NOTHING)]
    spans = list(standing.spans[estimator].values())
    own = spanned_claim(*([getattr(span, end) for span in spans] for end in ("low", "value", "high"))).interval
    leads = estimator == standing.leader
    behind = Claim(ABSENT, math.nan) if leads else standing.claims[estimator, standing.leader]
    columns = {"budget": standing.budget} | columns_of({"elbo": own, "difference": behind.interval})
    wins = estimator == standing.winner
    note = "leader *" if wins else "leader"
    if not leads:
        compared = entry(behind.interval, signed)
        star = " *" if standing.ahead(standing.leader, estimator) else ""
        compared = Entry(compared.text + star, compared.note)
    return columns | {"p_holm": behind.p}, [replace(entry(own, fixed), best=wins), Entry(note) if leads else compared]
