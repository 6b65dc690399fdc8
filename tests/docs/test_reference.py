"""The reference names every key, column, command and public object, with what it is."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

import estbench
from estbench.cli import COMMANDS
from estbench.experiment import Evaluation, Experiment, Probe, Schedule, Throughput, Training
from estbench.measure.gradients.moments import COLUMNS as MOMENTS
from estbench.store.columns import LABELS, TABLES
from estbench_site import api, reference
from estbench_site.docstrings import keep_equations, to_markdown
from estbench_site.repository import DOCS, drop_empty_globs, link_to_repository

TINY = {
    "estimators": ["reparam"],
    "problems": ["vae[dataset=digits,hidden=[8],latent_size=2]"],
    "training": {"steps": 4, "batch_size": 8},
    "evaluation": {"points": 2, "examples": 8, "num_samples": 2},
    "probe": {"replicates": 4, "points": 1},
    "throughput": {"rounds": 1, "steps": 1},
}


def test_every_key_of_an_experiment_file_is_explained():
    page = reference.experiment_file_page()
    for model in (Experiment, Training, Evaluation, Probe, Throughput, Schedule):
        for key, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{key} needs a description"
            assert (f"| `{key}` |" in page) == (key not in reference.SET_BY_A_RUN)
    assert "| `steps` | integer, at least 1 | `2000` |" in page
    assert '| `optimizer` | `adam` or `adamw` or `sgd` | `"adam"` |' in page


@pytest.mark.usefixtures("one_thread")
def test_the_columns_of_a_run_are_those_of_the_page(tmp_path):
    results = estbench.run(TINY, out=tmp_path / "results")
    labels = [column.name for column in LABELS]
    page = reference.columns_page()
    for name, recorded in TABLES.items():
        frame = getattr(results, name)
        assert len(frame)
        front = labels if name in {"curves", "gradients", "pictures"} else []
        assert list(frame.columns) == [*front, *(column.name for column in recorded.columns)]
        for column in recorded.columns:
            assert column.meaning
            assert f"| `{column.name}` | {column.type} | {column.meaning} | {column.unit} |" in page
    assert set(MOMENTS) < {column.name for column in TABLES["gradients"].columns}


def test_the_columns_name_every_value_that_a_run_records(tmp_path):
    """Metrics, statistics and kinds of pictures are values, and the page explains them in the column's meaning."""
    toy = TINY | {"problems": ["vae[dataset=digits,hidden=[8],latent_size=2]", "bernoulli_toy"], "estimators": ["rloo"]}
    toy["evaluation"] = toy["evaluation"] | {"final_num_samples": 2, "final_examples": 4}
    toy["probe"] = toy["probe"] | {"reference": "reinforce", "reference_replicates": 50}
    results = estbench.run(toy, out=tmp_path / "results")
    named = {(name, column.name): column.meaning for name, table in TABLES.items() for column in table.columns}
    for (table, column), frame in {
        ("curves", "metric"): results.curves,
        ("gradients", "statistic"): results.gradients,
        ("gradients", "space"): results.gradients,
        ("gradients", "trajectory"): results.gradients,
        ("pictures", "kind"): results.pictures,
    }.items():
        words = set(named[table, column].replace(",", " ").replace(":", " ").split())
        assert set(frame[column]) <= words, (table, column)


def test_every_command_is_on_the_page():
    page = reference.command_line_page()
    assert all(f".. click:: estbench.cli.{name.replace('-', '_')}:command" in page for name in COMMANDS)


@pytest.mark.parametrize("module", api.MODULES)
def test_every_public_name_is_on_its_page(module):
    page, names = api.module_page(module), api.public_names(module)
    assert names
    assert all(f":: {module}.{name}" in page for name in names)


def test_definitions_lead_to_public_names():
    addresses = api.public_addresses()
    assert addresses["estbench.store.results.Results"] == "estbench.store.Results"
    assert all(api.exists(address) for address in addresses)
    assert not api.exists("estbench.estimators.base.Nothing")
    assert not api.exists("estbench.nowhere.Nothing")


@pytest.mark.parametrize("module", ["api", "docstrings", "fields", "markdown", "repository"])
def test_examples_of_the_generators(module):
    outcome = doctest.testmod(import_module(f"estbench_site.{module}"))
    assert outcome.attempted
    assert not outcome.failed


def test_equations_of_several_lines_are_one_block():
    text = "One.\n\n    a = b\n\n    c = d\n      + e\n\n* item\n\n    f\n\nTwo: E[f](z) <b>."
    assert to_markdown(text) == (
        "One.\n\n```text\na = b\n\nc = d\n  + e\n```\n\n* item\n\n```text\nf\n```\n\nTwo: E[f]\\(z) \\<b>."
    )
    section = ["Parameters", "----------", "x", "    A number.", ""]
    kept = keep_equations(["One.", "", "    a", "", *section])
    assert kept == ["One.", "", "::", "", "    a", "", *section]


def test_examples_in_docstrings_are_blocks_of_python():
    text = "One.\n\nExamples\n--------\n>>> 1 + 1\n2\n\nText."
    assert to_markdown(text) == "One.\n\n**Examples**\n\n```pycon\n>>> 1 + 1\n2\n```\n\nText."


def test_links_to_the_repository():
    page = DOCS / "gallery" / "experiments" / "x.md"
    report = "../../../results/mnist_gaussian/report/report.html"
    assert link_to_repository(f"[The report]({report})", page) == (
        '<a href="../../results/mnist_gaussian/report/report.html">The report</a>'
    )
    assert link_to_repository("[a](../../../results)", page).endswith("/tree/main/results)")
    unchanged = "![a](../../../results/quickstart.png) [b](../index.md) [c](https://example.org) [d](../../../no.md)"
    assert link_to_repository(unchanged, page) == unchanged


def test_patterns_without_pages_are_dropped():
    assert drop_empty_globs("notebooks/*\nnothing_*\n", DOCS) == "notebooks/*\n\n"
