"""The pages of problems."""

from __future__ import annotations

from estbench.cli.list import LISTINGS
from estbench.problems import PROBLEMS, describe
from estbench_site.docstrings import to_markdown
from estbench_site.fields import fields_table
from estbench_site.markdown import code, hidden_toctree, page, section, table
from estbench_site.standings import committed_entries


def problem_page(name: str) -> str:
    """Return the page of a problem."""
    facts, cls = describe(name), PROBLEMS.get(name)
    options = PROBLEMS.options(name)
    bound = cls.bound_of(options)
    if "importance_samples" in facts["options"]:
        bound += "; multi-sample with `importance_samples` above 1"
    latents = ", ".join(f"{latent}: {family}" for latent, family in cls.latents_by_name(options).items())
    rows = [
        ["latents", facts["latents"]],
        ["latents by name, with the defaults", latents],
        ["bound", bound],
        ["card, with the defaults", code(PROBLEMS.resolve(name).card)],
        ["version", str(facts["version"])],
    ]
    used = [
        f"* [{folder}](../experiments/{folder}.md): {entry.question}"
        for folder, entry in committed_entries().items()
        if any(board.problem.partition("[")[0] == name for board in entry.boards)
    ]
    return page(
        name,
        to_markdown(facts["documentation"]),
        section("Facts", table(["fact", "value"], rows)),
        section("Options", fields_table(cls.Options, "option")),
        section("In the committed results", "\n".join(used)),
    )


def overview_page() -> str:
    """Return the table of all problems, and their pages."""
    entries = LISTINGS["problems"]()
    rows = [[f"[{entry['name']}]({entry['name']}.md)", entry["latents"], entry["summary"]] for entry in entries]
    listed = [str(entry["name"]) for entry in entries]
    return page(
        "Problems",
        table(["problem", "latents", "summary"], rows),
        hidden_toctree(listed),
    )
