"""The pages of the ready experiments."""

from __future__ import annotations

import os
from pathlib import Path

from estbench.experiment import Experiment, read_experiment
from estbench.experiment.spec import shipped_experiments
from estbench_site.markdown import hidden_toctree, page, section, table
from estbench_site.repository import DOCS
from estbench_site.standings import committed_entries, report_of

FOLDER = DOCS / "gallery" / "experiments"


def experiment_page(name: str, file: Path) -> str:
    """Return the page of an experiment: its texts, its committed report if there is one, and its file."""
    experiment = read_experiment(file)
    entry = committed_entries().get(name)
    computed = "\n".join(f"* {answer}" for answer in entry.answers) if entry else ""
    return page(
        name,
        experiment.question,
        section("Expectation", experiment.expect),
        section("Answer", experiment.answer, computed, _report_link(name)),
        section("Surprises", _bullets(experiment.surprise)),
        section("Limits", _bullets(experiment.limits)),
        section("Its size", _size(experiment)),
        section("The file", f"```sh\nestbench run {name}\n```", f"```toml\n{file.read_text(encoding='utf-8')}```"),
    )


def overview_page() -> str:
    """Return the table of all ready experiments, and their pages."""
    files = shipped_experiments()
    rows = [
        [f"[{name}]({name}.md)", read_experiment(file).question, "yes" if report_of(name) else ""]
        for name, file in files.items()
    ]
    listed = [*files]
    return page(
        "Experiments",
        "Each is run by `estbench run NAME`.",
        table(["experiment", "question", "committed results"], rows),
        hidden_toctree(listed),
    )


def _report_link(name: str) -> str:
    report = report_of(name)
    return f"[The report]({os.path.relpath(report, FOLDER)}) has every number, table and figure." if report else ""


def _bullets(texts: tuple[str, ...]) -> str:
    return "\n".join(f"* {text}" for text in texts)


def _size(experiment: Experiment) -> str:
    rows = [
        ["estimators", ", ".join(f"`{each}`" for each in experiment.estimators)],
        ["problems", ", ".join(f"`{each}`" for each in experiment.problems)],
        ["seeds", ", ".join(map(str, experiment.seeds))],
        ["training steps", f"{experiment.training.steps:,}"],
        *([f"sweep over {name}", ", ".join(map(str, values))] for name, values in experiment.sweep.items()),
    ]
    return table(["setting", "value"], rows)
