"""All generated pages, by their places in docs/."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from estbench.estimators import names as estimator_names
from estbench.experiment.spec import shipped_experiments
from estbench.problems import names as problem_names
from estbench_site import api, estimators, experiments, parts, problems, reference
from estbench_site.distributions import THEMES, draw_picture, example_of

# Folders that hold nothing but generated pages.
FOLDERS = ("gallery/estimators", "gallery/problems", "gallery/experiments", "reference/python")


def generated_pages() -> dict[str, Callable[[], str]]:
    """Return by the place of each generated page the function that makes it; those of estimators have no pictures."""
    return {
        "gallery/estimators/index.md": estimators.overview_page,
        **{f"gallery/estimators/{name}.md": partial(estimators.estimator_page, name) for name in estimator_names()},
        "gallery/problems/index.md": problems.overview_page,
        **{f"gallery/problems/{name}.md": partial(problems.problem_page, name) for name in problem_names()},
        "gallery/experiments/index.md": experiments.overview_page,
        **{
            f"gallery/experiments/{name}.md": partial(experiments.experiment_page, name, file)
            for name, file in shipped_experiments().items()
        },
        "gallery/parts.md": parts.parts_page,
        "gallery/datasets.md": parts.datasets_page,
        "gallery/metrics.md": parts.metrics_page,
        "reference/experiment_file.md": reference.experiment_file_page,
        "reference/columns.md": reference.columns_page,
        "reference/command_line.md": reference.command_line_page,
        **{f"reference/python/{module}.md": partial(api.module_page, module) for module in api.MODULES},
    }


def write_pages(docs: Path) -> None:
    """Write all generated pages, with the pictures of estimators, and remove those that are no longer made."""
    pages = generated_pages()
    written = set()
    for place, make in pages.items():
        name = _estimator_of(place)
        if name:
            example = example_of(name)
            make = partial(estimators.estimator_page, name, example)  # noqa: PLW2901
            (docs / place).parent.mkdir(parents=True, exist_ok=True)
            for at, (ours, other) in enumerate(zip(example.draws, example.others, strict=True)):
                for theme in THEMES:
                    picture = (docs / place).with_name(estimators.picture_of(name, at, theme))
                    draw_picture(ours, other, theme, picture)
                    written.add(picture)
        _write_if_changed(docs / place, make())
        written.add(docs / place)
    for old in _files_in(docs):
        if old not in written:
            old.unlink()


def _estimator_of(place: str) -> str:
    folder, _, name = place.rpartition("/")
    name = name.removesuffix(".md")
    return name if folder == "gallery/estimators" and name != "index" else ""


def _write_if_changed(file: Path, text: str) -> None:
    """Write a page; one that is the same keeps its time, so that only changed pages are built again."""
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


def _files_in(docs: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        yield from (docs / folder).glob("*.*")
