"""The page of a report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2
from markupsafe import Markup, escape

from estbench.experiment.sweep import family
from estbench.options import shortened
from estbench.references import BIBTEX, LONGEST_ENTRY, read_entry
from estbench.report.analysis.frames import TRAJECTORIES, Frames
from estbench.report.analysis.notices import VERSIONS, status_line
from estbench.report.analysis.wording import count_noun
from estbench.report.figures.style import line_styles
from estbench.report.page.svg import inline_svg
from estbench.report.sections import OPTIONAL, SECTIONS
from estbench.report.tables.base import Table
from estbench.visible import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from estbench.report.analysis import Analysis
    from estbench.report.figures.rendered import RenderedFigure
    from estbench.report.sections import Lost
    from estbench.report.tables.base import Entry

# Texts of the experiment file that stand beside the answer, with their titles.
AUTHORS = {"surprise": "What surprised", "limits": "What this does not show"}
# The most that the page prints of where cells ran. Real records have less; a damaged one could have megabytes.
MOST_FACTS, MOST_VALUES, LONGEST = 100, 50, 1000


def render(
    analysis: Analysis, tables: Iterable[Table], figures: Iterable[RenderedFigure], lost: Sequence[Lost] = ()
) -> str:
    """Return the page as HTML, with tables and figures at their places; every string from the records is escaped.

    In the place of a table or figure that was ``lost``, the page says why.
    """
    script = part("report.js")
    shown: list[Table | RenderedFigure] = [*tables, *figures]
    shown.sort(key=lambda item: item.place.order)
    items = {key: [item for item in shown if item.place.section == key] for key in SECTIONS}
    lost_in = {key: [each.message for each in lost if each.place.section == key] for key in SECTIONS}
    return _template().render(
        analysis=analysis,
        name=analysis.setting("name", default=analysis.path.name),
        question=analysis.setting("question", default=""),
        expect=analysis.setting("expect", default=""),
        answers=_read_texts(analysis, "answer"),
        authors=[(title, texts) for key, title in AUTHORS.items() if (texts := _read_texts(analysis, key))],
        details=[each for each in analysis.conclusions if each.kind in {"currency", "bound"}],
        status=status_line(analysis.whole),
        setup=setup(analysis.whole),
        line_styles=line_styles(analysis.estimators),
        sections={key: each for key, each in SECTIONS.items() if items[key] or lost_in[key] or key not in OPTIONAL},
        items=items,
        lost_in=lost_in,
        blocks={key: arrange(of_section) for key, of_section in items.items()},
        labelled=list(line_styles(analysis.estimators).items()),
        probed=any(len(analysis.gradients(trajectory)) for trajectory in TRAJECTORIES),
        drawing=inline_svg,
        owners=lambda table, row: _owners(table, row, analysis.estimators),
        breakable=_breakable,
        tight=_tight,
        environment=environment_rows(analysis.whole),
        versions=versions(analysis.whole),
        citations=citations(analysis),
        file=f"{_file_name(analysis)}.toml",
        spec=spec_toml(analysis.whole),
        style=Markup(part("report.css")),  # noqa: S704  (our own file)
        script=Markup(script),  # noqa: S704  (our own file)
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.tests["table"] = lambda item: isinstance(item, Table)
    return environment.from_string(part("template.html.j2"))


class Block(NamedTuple):
    """A table or figure of a section, or several views of one thing, shown one at a time."""

    items: list[Table | RenderedFigure]
    id: str

    @property
    def views(self) -> bool:
        """Whether these are views of the same thing."""
        return len(self.items) > 1

    @property
    def title(self) -> str:
        """The title: of the views together, or of the only item."""
        first = self.items[0]
        return first.group if self.views else first.title

    @property
    def folded(self) -> str:
        """The line that the block is folded behind; empty if it is open."""
        return self.items[0].place.folded


def arrange(items: Iterable[Table | RenderedFigure]) -> list[Block]:
    """Return the items of a section as blocks; those of one group that follow each other are views."""
    blocks: list[Block] = []
    for item in items:
        last = blocks[-1].items[-1] if blocks else None
        if last is not None and item.group and (type(item), item.group) == (type(last), last.group):
            blocks[-1].items.append(item)
        else:
            kind = "table" if isinstance(item, Table) else "figure"  # a table and a figure may have the same name
            blocks.append(Block([item], f"{kind}-{item.name}"))
    return blocks


def _read_texts(frames: Frames, key: str) -> list[str]:
    """Return a text or the list of texts of the experiment file; a record may hold anything."""
    value = frames.setting(key, default=())
    texts = [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
    return [text for text in texts if isinstance(text, str) and text]


def setup(frames: Frames) -> str:
    """Return the protocol in one or two sentences."""

    def number(*keys: str) -> str:
        if keys[-1] in frames.results.swept:
            return f"{', '.join(map(str, frames.results.sweep[keys[-1]]))} (swept)"
        value = frames.setting(*keys)
        return f"{value:,}" if isinstance(value, (int, float)) else "?"

    counts = {
        "estimator": len(_families(frames.estimators, frames)),
        "problem": len(frames.problems),
        "seed": frames.cells["seed"].nunique(),
    }
    listed = ", ".join(count_noun(count, noun) for noun, count in counts.items())
    replicates = frames.setting("probe", "replicates", default=0)
    probe = f"gradients probed with {replicates} draws" if replicates else "no gradient probe"
    return (
        f"{listed}. Each run trains for {number('training', 'steps')} steps on minibatches of "
        f"{number('training', 'batch_size')} at learning rate {number('training', 'learning_rate')}; bounds on up to "
        f"{number('evaluation', 'examples')} images per split; {probe}.{_cards(frames)}"
    )


def _cards(frames: Frames) -> str:
    """Say what the bounds of each problem are bounds on."""
    problems = [cell["problem"] for cell in frames.results.plan["cells"]]
    found = {problem["label"]: problem.get("card", "") for problem in problems}
    cards = list(dict.fromkeys(card for card in found.values() if card))
    if len(cards) < 2:
        named = f" Problem: {next(iter(found))}" if len(found) == 1 else ""
        return f"{named}{'; its card' if named else ' Problem card'}: {cards[0]}." if cards else named and f"{named}."
    return f" Problem cards: {'; '.join(f'{label}: {card}' for label, card in found.items() if card)}."


def versions(frames: Frames) -> str:
    """Return the versions that the runs were made with, in one line."""
    rows = dict(environment_rows(frames))
    return ", ".join(f"{name} {rows[name]}" for name in VERSIONS if name in rows)


def environment_rows(frames: Frames) -> list[tuple[str, str]]:
    """Return each fact about where the cells ran, once, with all its values."""
    known = frames.environments
    names = dict.fromkeys(name for environment in known for name in environment)
    rows = []
    for name in names:
        values = sorted({str(environment[name]) for environment in known if environment.get(name) is not None})
        if values:
            more = f" and {len(values) - MOST_VALUES} more" if len(values) > MOST_VALUES else ""
            rows.append((shortened(str(name), LONGEST), shortened(", ".join(values[:MOST_VALUES]), LONGEST) + more))
    rest = [("further facts", f"{len(rows) - MOST_FACTS:,}, in environment.json")] if len(rows) > MOST_FACTS else []
    return rows[:MOST_FACTS] + rest


def spec_toml(frames: Frames) -> str:
    """Return the resolved experiment as a TOML file that runs all cells of the plan again."""
    spec = dict(frames.setting(default={}))
    spec["estimators"] = _families(frames.estimators, frames)
    spec["problems"] = _families(frames.problems, frames)
    spec["seeds"] = sorted({int(seed) for seed in frames.cells["seed"]})
    lines = [
        f"{key} = {_toml(value)}" for key, value in spec.items() if not isinstance(value, dict) and value is not None
    ]
    for key, value in spec.items():
        if isinstance(value, dict) and value:
            lines += [
                "",
                f"[{key}]",
                *(f"{inner} = {_toml(each)}" for inner, each in value.items() if each is not None),
            ]
    return "\n".join(lines) + "\n"


def _families(labels: Iterable[str], frames: Frames) -> list[str]:
    """Return labels as they were written, without what is swept."""
    return list(dict.fromkeys(family(label, frames.results.sweep) for label in labels))


def _toml(value: Any) -> str:
    """Return a value as TOML. A JSON string is a TOML string; only the character DEL must be escaped, too."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _file_name(frames: Frames) -> str:
    """Return the experiment's name, with only those characters that are safe in a shell."""
    name = str(frames.setting("name", default="experiment"))
    return (
        "".join(sign for sign in name if sign.isascii() and (sign.isalnum() or sign in "_-")).lstrip("-")
        or "experiment"
    )


def _breakable(text: str) -> Markup:
    """Return escaped text that may break before an estimator's options, not inside a word."""
    escaped = str(escape(text))
    return Markup(escaped.replace("[", "<wbr>[").replace(",", ",<wbr>"))  # noqa: S704  (escaped above)


def _tight(note: str) -> str:
    """Return small print that may break before its n, not inside its interval."""
    return re.sub(r" (?!within one|no interval|n =|\()", "\u00a0", note)


def _owners(table: Table, row: tuple[Entry, ...], estimators: list[str]) -> str:
    """Return the places in the plan of the estimators in a row; the row is hidden with any of them."""
    texts = [entry.text for entry, column in zip(row, table.columns, strict=True) if not column.numeric]
    return " ".join(str(estimators.index(text)) for text in dict.fromkeys(texts) if text in estimators)


def part(file: str) -> str:
    """Return the text of a file that the page is made from."""
    return resources.files(__package__).joinpath(file).read_text(encoding="utf-8")


class Citations(NamedTuple):
    """BibTeX entries by key, and the estimators for which there is none."""

    entries: dict[str, str]
    lacking: list[str]


def citations(frames: Frames) -> Citations:
    """Return the papers that the estimators' records refer to, each once, in the order of their keys.

    An estimator that is not part of estbench has its entry in its record. A second entry of the same key is not cited.
    """
    entries: dict[str, str] = {}
    lacking = []
    for label in frames.estimators:
        facts = frames.facts(label)
        own = _read_own_entry(facts.get("bibtex"))
        # An estimator that names others has the keys of all.
        keys = [own[0]] if own else str(facts.get("reference") or "").split(", ")
        for key in keys:
            entry = own[1] if own and key not in BIBTEX else BIBTEX.get(key, "")
            if not entry or entries.setdefault(key, entry) != entry:
                lacking.append(f"{label} ({key})" if key else label)
    return Citations(dict(sorted(entries.items())), lacking)


def _read_own_entry(recorded: Any) -> tuple[str, str] | None:
    """Return the key and the text of an entry in a record, made safe to show; None if it is not one entry."""
    if not isinstance(recorded, str) or len(recorded) > LONGEST_ENTRY:
        return None
    try:
        return read_entry(visible(recorded, keep="\n\t"))
    except ValueError:
        return None
