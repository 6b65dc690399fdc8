"""The pages of the parts of a VAE, of datasets and of metrics."""

from __future__ import annotations

from estbench.cli.list import LISTINGS
from estbench.measure import METRICS, describe_metric
from estbench.problems import PARTS, describe_part
from estbench_site.docstrings import to_markdown
from estbench_site.fields import fields_table
from estbench_site.markdown import code, page, table, yes_or_no


def parts_page() -> str:
    """Return the page of the networks, posteriors, priors and likelihoods of ``vae``."""
    parts = []
    for kind, registry in PARTS.items():
        parts.append(f"## {kind.capitalize()}")
        for name in registry.names():
            options = getattr(registry.get(name), "Options", None)
            parts += [
                f"### {kind}={name}",
                to_markdown(describe_part(kind, name)["documentation"]),
                fields_table(options, "option") if options else "",
            ]
    return page("Parts of a VAE", "Each is chosen by an option of [`vae`](problems/vae.md).", *parts)


def datasets_page() -> str:
    """Return the page of the datasets."""
    rows = [[code(entry["name"]), entry["summary"]] for entry in LISTINGS["datasets"]()]
    return page("Datasets", table(["dataset", "summary"], rows))


def metrics_page() -> str:
    """Return the page of the metrics, with their units."""
    parts = []
    for name in METRICS.names():
        facts = describe_metric(name)
        shown = [[fact, yes_or_no(facts[fact])] for fact in ("unit", "better", "splits") if facts[fact]]
        parts += [f"## {name}", to_markdown(facts["documentation"]), table(["fact", "value"], shown)]
    return page("Metrics", "Further metrics that a run can measure beside its bounds.", *parts)
