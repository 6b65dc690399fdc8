"""Tables, figures and one page, rebuilt from records only. Imports no torch; plots are loaded when drawn."""

from __future__ import annotations

import errno
import importlib
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estbench.errors import FAULTS_OF_THE_MACHINE, EstbenchError, EstbenchWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from estbench.guarded import GuardedPath
    from estbench.report.analysis import Analysis
    from estbench.report.figures import Canvas, Margins, belongs_to, register_figure
    from estbench.report.helper import Helper
    from estbench.report.sections import Lost
    from estbench.report.tables import register_table
    from estbench.report.tables.fields import ESTIMATOR, Field, build_table
    from estbench.store import Results

__all__ = [
    "ESTIMATOR",
    "Canvas",
    "Field",
    "Margins",
    "belongs_to",
    "build",
    "build_table",
    "register_figure",
    "register_table",
]
# For tables and figures of one's own; imported on first use, because plotting takes a second to load.
_OFFERED = {
    **dict.fromkeys(("Canvas", "Margins", "belongs_to", "register_figure"), "figures"),
    **dict.fromkeys(("ESTIMATOR", "Field", "build_table"), "tables.fields"),
    "register_table": "tables",
}


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module 'estbench.report' has no attribute '{name}'")
    return getattr(importlib.import_module(f"estbench.report.{_OFFERED[name]}"), name)


def build(
    source: str | Path | Results | Analysis,
    formats: Iterable[str] | None = None,
    *,
    out: str | Path | None = None,
    figures: bool = True,
    refresh: int | None = None,
    width: float | None = None,
    helper: Helper | None = None,
    warn: Callable[[str], object] | None = None,
) -> Path:
    """Write ``report/`` in a results folder and return the path of the page.

    It holds report.html, tables/*.{csv,md,tex,short.tex} (the last for a column of an article),
    figures/*.{svg,png,csv} and, for readers who have only the report, environment.json (where its cells ran) and
    experiment.json (the resolved experiment, with the key of each cell).

    The same records give the same bytes. What an earlier report left and this one lacks is removed.

    Parameters
    ----------
    source
        A results folder, results that were loaded or merged, or their analysis.
    formats
        Which of html, csv, md, tex, svg, png and pdf to write; all but pdf if not given. Without html the folder is
        returned.
    out
        Another folder to write into; nothing that is there is removed.
    figures
        Whether there are figures, which take most of the time; without them the page has all tables.
    refresh
        The page loads itself again after so many seconds, for a run that goes on.
    width
        Inches of the figures in figures/, for an article; as wide as those of the page if not given.
    helper
        A process that draws a part of the figures: see ``estbench.report.helper``.
    warn
        Is called with a line about each table or figure of a plugin that could not be made and is left out; without
        it, the line is an ``EstbenchWarning``.

    Raises
    ------
    EstbenchError
        If a format is unknown, the width is not between 3 and 20 inches, or the folder cannot be written.
    """
    from estbench.guarded import guarded  # noqa: PLC0415
    from estbench.report.analysis import Analysis  # noqa: PLC0415  (plotting takes a second to load)
    from estbench.report.figures import all_figures  # noqa: PLC0415
    from estbench.report.formats import WRITTEN, as_formats, as_width, chosen  # noqa: PLC0415
    from estbench.report.helper import draw_together  # noqa: PLC0415
    from estbench.report.page.render import render  # noqa: PLC0415  (plotting takes a second to load)
    from estbench.report.tables import all_tables  # noqa: PLC0415
    from estbench.report.watch import refreshing  # noqa: PLC0415
    from estbench.store import Results, load  # noqa: PLC0415
    from estbench.store.files import encoded, write_files  # noqa: PLC0415
    from estbench.store.homes import report_folder  # noqa: PLC0415

    wanted = as_formats(formats)
    width = None if width is None else as_width(width)
    if isinstance(source, Analysis):
        analysis = source
    else:
        analysis = Analysis(source if isinstance(source, Results) else load(source))
    lost: list[Lost] = []
    tables = all_tables(analysis, lost)
    drawn = wanted - WRITTEN - {"html"}
    drawn = drawn if figures else frozenset()
    kinds = (drawn if width is None else frozenset()) | ({"svg"} if figures and "html" in wanted else frozenset())
    shared = draw_together(analysis, kinds, helper) if kinds and helper else None
    shown = all_figures(analysis, lost=lost, kinds=kinds, drawn=shared) if kinds else []
    of_files = shown if width is None else all_figures(analysis, width, lost, kinds=drawn) if drawn else []
    for message in dict.fromkeys(each.message for each in lost):
        if warn is None:
            warnings.warn(message, EstbenchWarning, stacklevel=2)
        else:
            warn(message)
    files: dict[str, bytes] = {}
    for table in tables:
        files |= {f"tables/{table.name}.{kind}": encoded(text) for kind, text in table.files(wanted).items()}
    for figure in of_files:
        files |= {f"figures/{figure.name}.{kind}": content for kind, content in figure.files(wanted).items()}
    if "html" in wanted:
        content = encoded(render(analysis, tables, shown, [*dict.fromkeys(lost)]))
        files["report.html"] = content if refresh is None else refreshing(content, refresh)
    files = chosen(files, wanted)
    files["environment.json"] = (json.dumps(analysis.whole.distinct_environments, indent=2) + "\n").encode()
    files["experiment.json"] = (json.dumps(analysis.whole.planned, indent=2) + "\n").encode()
    folder = report_folder(analysis.path) if out is None else guarded(out)
    try:
        write_files(folder, files)
        if out is None:
            _remove_others(folder, files)
    except OSError as error:
        if error.errno in FAULTS_OF_THE_MACHINE - {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise  # no mistake of the user's
        raise EstbenchError(f"cannot write the report into '{folder}': {error.strerror or error}") from None
    return Path(folder / "report.html" if "report.html" in files else folder)


def _remove_others(folder: GuardedPath, files: dict[str, bytes]) -> None:
    if "report.html" not in files:
        (folder / "report.html").unlink(missing_ok=True)
    for kind, endings in {"tables": {".csv", ".md", ".tex"}, "figures": {".svg", ".png", ".pdf", ".csv"}}.items():
        for old in (folder / kind).iterdir():
            if old.suffix in endings and f"{kind}/{old.name}" not in files:
                old.unlink()
