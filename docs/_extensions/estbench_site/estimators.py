"""The page of an estimator, from the registry, its certificates and the committed results."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np

import estbench
from estbench.certify import certified_variants
from estbench.cli.list import LISTINGS
from estbench.estimators import BIBTEX, ESTIMATORS, describe, requires
from estbench_site.distributions import THEMES, Example, share_outside, span_of
from estbench_site.docstrings import to_markdown
from estbench_site.fields import fields_table
from estbench_site.markdown import code, hidden_toctree, page, section, table, yes_or_no
from estbench_site.standings import standings_table

FACTS = {
    "unbiased": "unbiased",
    "bounds": "bounds",
    "evaluations": "evaluations of f, for each example and step",
    "needs_differentiable_f": "needs the derivative of f",
    "version": "version of its estimate",
}
# The folders of estbench/estimators/, in the order of the overview.
KINDS = {
    "score_function": "Any latents",
    "continuous": "Continuous latents",
    "discrete": "Discrete latents",
    "multi_sample": "The multi-sample bound",
}


def estimator_page(name: str, example: Example | None = None) -> str:
    """Return the page of an estimator; with its picture, if there is an ``example``."""
    facts = describe(name)
    cls = ESTIMATORS.get(name)
    rows = [["requires", requires(name)], *([words, yes_or_no(facts[fact])] for fact, words in FACTS.items())]
    citation = facts.get("bibtex") or BIBTEX.get(str(facts["reference"]), "")
    return page(
        name,
        to_markdown(facts["documentation"]),
        f"Source: {_source(cls)}",
        section("Its gradient on a small problem", _describe_example(name, example)) if example else "",
        section("Facts", table(["fact", "value"], rows)),
        section("Options", fields_table(cls.Options, "option")),
        section("Certificate", _certificate(name)),
        section("In the committed results", standings_table(name)),
        section("Citation", f"```bibtex\n{citation}\n```" if citation else ""),
    )


def picture_of(name: str, at: int, theme: str) -> str:
    """Return the name of the file with the picture of one coordinate, beside the page."""
    return f"{name}-{at + 1}-{theme}.svg"


def overview_page() -> str:
    """Return the tables of all estimators, one for each kind of latents, and their pages."""
    entries = LISTINGS["estimators"]()
    facts = ("summary", "requires", "unbiased", "evaluations", "certificate")
    rows: dict[str, list[list[str]]] = {}
    for entry in entries:
        row = [f"[{entry['name']}]({entry['name']}.md)", *(yes_or_no(entry[fact]) for fact in facts)]
        rows.setdefault(_kind(ESTIMATORS.get(entry["name"])), []).append(row)
    sections = [
        section(kind, table(["estimator", *facts], rows[kind])) for kind in sorted(rows, key=[*KINDS.values()].index)
    ]
    listed = sorted(str(entry["name"]) for entry in entries)
    return page("Estimators", *sections, hidden_toctree(listed))


def _kind(cls: type) -> str:
    """Return the kind of an estimator: by the folder of its source."""
    folder = cls.__module__.removeprefix("estbench.estimators.").partition(".")[0]
    return KINDS.get(folder, KINDS["score_function"])


def _source(cls: type) -> str:
    package = Path(estbench.__file__).parent
    file = Path(inspect.getfile(cls)).relative_to(package.parent).as_posix()
    return f"[`{file}`](../../../{file}), class `{cls.__name__}`"


def _describe_example(name: str, example: Example) -> str:
    """Return the picture, and its numbers in a table."""
    toy = example.problem.partition("[")[0]
    shipped = "_toy" in toy
    where = f"[`{example.problem}`](../problems/{toy}.md)" if shipped else f"the small problem “{example.problem}”"
    drawn = len(example.draws[0].values)
    other = "" if name == example.compared else f" Outline: `{example.compared}` on the same problem, for comparison."
    caption = (
        f"Histogram of {drawn:,} independent estimates on {where}, with the defaults and untrained parts."
        f" Filled: `{name}`. Vertical line: the exact gradient.{other}"
    )
    titles = ["gradient of", "exact", "mean, ± its standard error", "outside the picture", f"variance of {code(name)}"]
    rows = [
        [
            ours.coordinate,
            f"{ours.exact:.4f}",
            f"{ours.values.mean():.4f} ± {ours.values.std(ddof=1) / np.sqrt(drawn):.4f}",
            f"{share_outside(ours, span_of(ours, others)):.1%}",
            f"{ours.values.var(ddof=1):.3g}",
            f"{others.values.var(ddof=1):.3g}",
        ]
        for ours, others in zip(example.draws, example.others, strict=True)
    ]
    titles.append(f"variance of {code(example.compared)}")
    if name == example.compared:
        titles, rows = titles[:-1], [row[:-1] for row in rows]
    pictures = [
        f"```{{image}} {picture_of(name, at, theme)}\n:class: gradient only-{theme}\n"
        f":alt: Histogram of estimates by {name} of the gradient of {ours.coordinate}, the exact value as a line\n```"
        for theme in THEMES
        for at, ours in enumerate(example.draws)
    ]
    return "\n\n".join([*pictures, caption, table(titles, rows)])


def _certificate(name: str) -> str:
    variants = certified_variants(name)
    summary = table(["variant", "status"], [[code(each.label), each.status] for each in variants])
    checks = next((each.checks for each in variants if each.label == name), ())
    rows = [[check.name, check.outcome, check.evidence] for check in checks]
    again = f"```sh\nestbench check {name}\n```\n\nmakes it again."
    return "\n\n".join([summary, table(["check", "outcome", "evidence"], rows) if rows else "", again])
