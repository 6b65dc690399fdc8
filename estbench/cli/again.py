"""The end of a run, printed again at once if the same command has nothing to do.

A run whose cells all have a result leaves a note in its folder: what it printed, and a fingerprint of whatever
that depends on. If a second run finds the same fingerprint, it prints the note, and loads neither torch nor the plots.
Whatever differs, a file or an option, leads to the full way. No note is written or read where the fingerprint could
miss something: with plugins, with data of the user's own, and where another package adds to estbench.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import platform
import stat
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from estbench.cli.console import Answer, print_answer, say
from estbench.errors import EstbenchError
from estbench.experiment import Experiment
from estbench.guarded import GuardedPath, guarded
from estbench.store import ResultsFolder
from estbench.store.files import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTE = ".printed.json"
PACKAGE = Path(__file__).parents[1]
DRAWN_WITH = ("jinja2", "matplotlib", "numpy", "pandas", "scipy", "seaborn", "torch")


class Note:
    """Keeps what a run printed, in the results folder of its experiment."""

    def __init__(self, experiment: Experiment, out: str | None, **options: Any) -> None:
        self.folder = ResultsFolder(out or Path("results") / experiment.name)
        self._request = {"experiment": experiment.model_dump(mode="json"), "machine": platform.node(), **options}
        self._file = guarded(self.folder.path) / NOTE

    @property
    def is_reliable(self) -> bool:
        """Whether the fingerprint sees whatever could change what is printed."""
        extended = any(group.startswith("estbench.") for group in metadata.entry_points().groups)
        return "file:" not in json.dumps(self._request["experiment"]["problems"]) and not extended

    def print_again(self) -> bool:
        """Print what the last run printed, if it would be the same; otherwise return False and print nothing."""
        try:
            note = read_json(self._file)
            if note["fingerprint"] != self._fingerprint() or not self.is_reliable:
                return False
            planned, answer, page = str(note["planned"]), Answer.of(note["answer"]), str(note["page"])
        except (EstbenchError, OSError, KeyError, TypeError, ValueError):
            return False  # there is none, or it is damaged
        say(planned)
        print_answer(answer)
        say(f"report: {page}")
        return True

    def write(self, planned: str, answer: Answer, page: Path) -> None:
        """Keep what a run printed."""
        if self.is_reliable:
            said = {"planned": planned, "answer": answer._asdict(), "page": str(page)}
            with contextlib.suppress(OSError):  # whatever is wrong with the disk, the run has ended well
                write_json(self._file, {"fingerprint": self._fingerprint(), **said})

    def _fingerprint(self) -> str:
        seen = {
            "request": self._request,
            "results": sorted(self._states(self.folder.path)),
            "estbench": sorted(self._states(PACKAGE)),
            "versions": {name: metadata.version(name) for name in DRAWN_WITH},
        }
        return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()

    def _states(self, folder: Path | GuardedPath) -> Iterator[tuple[str, int, int]]:
        """Yield each file's path, size, and time of its last change."""
        for path, state in guarded(folder).walk():
            if not stat.S_ISDIR(state.st_mode) and path.suffix != ".pyc" and path != self._file:
                yield str(path), state.st_size, state.st_mtime_ns
