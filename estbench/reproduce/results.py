"""Results of cards on disk: one JSON document per card, and tables, figures and a page made from them all.

results/reproductions/
  cards/<name>.json           the card as it was, its result, the environment
  reproductions.csv           every check, in full precision
  reproductions.{md,tex}      the claims with their outcomes; every check (md)
  figures/<name>.{svg,png,csv}
  reproductions.html          everything on one page
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from estbench.errors import EstbenchError
from estbench.guarded import GuardedPath
from estbench.options import validated
from estbench.reproduce.card import ReproductionCard
from estbench.reproduce.card_result import CardResult, StoredCardResult
from estbench.reproduce.figure import draw
from estbench.reproduce.page import render
from estbench.reproduce.studies import StudyResult
from estbench.reproduce.tables import checks_table, claims_table, count_outcomes, names_table, sort_results
from estbench.store.files import encoded, read_json, write_files, write_json

PAGE = "reproductions.html"


def write_result(result: CardResult, folder: Path, environment: dict[str, Any]) -> None:
    """Write one result; it takes the place of an earlier one of the same card."""
    measured = result.measured or StudyResult({})
    content = {
        **result.as_dict(),
        "axes": list(measured.axes),
        "log_axes": list(measured.log_axes),
        "panels": {name: panel.model_dump(mode="json") for name, panel in measured.panels.items()},
        "bars": measured.bars,
        "environment": environment,
    }
    path = GuardedPath(folder) / "cards" / f"{result.card.name}.json"
    try:
        path.parent.mkdir()
        write_json(path, _finite(content))
    except OSError as error:
        raise EstbenchError(f"cannot write '{path}': {error.strerror or error}; choose another --out") from None


def read_results(folder: Path, warn: Callable[[str], None]) -> list[CardResult]:
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


def _read_result(path: GuardedPath) -> CardResult:
    data = read_json(path, "reproduce it again, or delete it")
    stored = {name: data[name] for name in StoredCardResult.model_fields if name in data}
    result = validated(StoredCardResult, stored, f"'{path}'").as_result()
    if path.stem != result.card.name:
        raise EstbenchError(f"'{path}' is of the card {result.card.name!r}")
    return result


def write_page(cards: Iterable[ReproductionCard], folder: Path, warn: Callable[[str], None]) -> Path:
    """Write the tables, the figures and the page of all results in a folder; return the page.

    ``cards`` are those of today, whose words the page has.
    """
    results = sort_results(read_results(folder, warn), cards)
    table, checks = claims_table(results), checks_table(results)
    pictures = {result.card.name: draw(result) for result in results}
    files = {
        "reproductions.csv": encoded(checks.to_csv()),
        "reproductions.md": encoded(f"{count_outcomes(results)}\n\n{table.to_markdown()}\n{checks.to_markdown()}"),
        "reproductions.tex": encoded(names_table(results).to_latex()),
        PAGE: encoded(render(results, pictures)),
    }
    for picture in filter(None, pictures.values()):
        files |= {f"figures/{picture.name}.{ending}": content for ending, content in picture.files().items()}
    write_files(GuardedPath(folder), files)
    return folder / PAGE


def _finite(value: Any) -> Any:
    """Return a value as JSON has it: NaN and infinity become null."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return json.loads(json.dumps(value, default=float))
