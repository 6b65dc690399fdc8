"""Results of cards on disk: one JSON document per card, and a table, figures and a page made from them all.

results/reproductions/
  cards/<name>.json           the card as it was, its result, the environment
  reproductions.{csv,md,tex}  the table
  figures/<name>.{svg,png,pdf,csv}
  reproductions.html          everything on one page
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from estbench.errors import EstbenchError
from estbench.guarded import GuardedPath
from estbench.options import validated
from estbench.report.figures.rendered import RenderedFigure
from estbench.report.page.render import part
from estbench.report.page.svg import inline_svg
from estbench.reproduce.card import ReproductionCard
from estbench.reproduce.card_result import CardResult, StoredCardResult
from estbench.reproduce.figure import draw
from estbench.reproduce.studies import Panel
from estbench.reproduce.tables import table
from estbench.store.files import encoded, read_json, write_files, write_json

PAGE = "reproductions.html"


def write_result(result: CardResult, folder: Path, environment: dict[str, Any]) -> None:
    """Write one result; it takes the place of an earlier one of the same card."""
    content = {
        **result.as_dict(),
        "axes": list(result.measured.axes) if result.measured else ["", ""],
        "log_axes": list(result.measured.log_axes) if result.measured else [False, False],
        "panels": {name: panel.model_dump(mode="json") for name, panel in _panels(result).items()},
        "environment": environment,
    }
    path = GuardedPath(folder) / "cards" / f"{result.card.name}.json"
    try:
        path.parent.mkdir()
        write_json(path, _finite(content))
    except OSError as error:
        raise EstbenchError(f"cannot write '{path}': {error.strerror or error}; choose another --out") from None


def _panels(result: CardResult) -> dict[str, Panel]:
    return result.measured.panels if result.measured else {}


def read_results(folder: Path, warn: Callable[[str], None]) -> list[dict[str, Any]]:
    """Read the results that a folder holds, by card; ``warn`` of a file that is none, or is of an earlier estbench."""
    results = []
    for path in (GuardedPath(folder) / "cards").iterdir():
        if path.suffix != ".json":
            continue
        try:
            results.append(_read_result(path))
        except EstbenchError as error:
            warn(f"Warning: not on the page: {error}")
    return results


def _read_result(path: GuardedPath) -> dict[str, Any]:
    data = read_json(path, "reproduce it again, or delete it")
    stored = {name: data[name] for name in StoredCardResult.model_fields if name in data}
    result = validated(StoredCardResult, stored, f"'{path}'").model_dump(mode="json", exclude_unset=True)
    if path.stem != result["card"]["name"]:
        raise EstbenchError(f"'{path}' is of the card {result['card']['name']!r}")
    return result


def write_page(cards: Sequence[ReproductionCard], folder: Path, warn: Callable[[str], None]) -> Path:
    """Write the table, the figures and the page of all results in a folder; return the page."""
    results = read_results(folder, warn)
    summary = table(cards, results)
    pictures = {result["card"]["name"]: draw(result) for result in results}
    files = {
        "reproductions.csv": encoded(summary.to_csv()),
        "reproductions.md": encoded(summary.to_markdown()),
        "reproductions.tex": encoded(summary.to_latex()),
        PAGE: encoded(_page(cards, results, summary, pictures)),
    }
    for picture in filter(None, pictures.values()):
        files |= {f"figures/{picture.name}.{ending}": content for ending, content in picture.files().items()}
    write_files(GuardedPath(folder), files)
    return folder / PAGE


def _page(
    cards: Sequence[ReproductionCard],
    results: Sequence[dict[str, Any]],
    summary: Any,
    pictures: dict[str, RenderedFigure | None],
) -> str:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        style=Markup(part("report.css")),  # noqa: S704  (our own file)
        cards=cards,
        results={result["card"]["name"]: result for result in results},
        table=summary,
        pictures=pictures,
        drawing=inline_svg,
    )


def _finite(value: Any) -> Any:
    """Return a value as JSON has it: NaN and infinity become null."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.loads(json.dumps(value, default=float))
