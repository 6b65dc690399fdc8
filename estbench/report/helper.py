"""A second process that draws a part of a report's figures while this one draws the others.

Drawing takes most of a report's time. A command starts the process before it loads its own libraries, so that the plots
are loaded meanwhile, on a core that would wait. The process is given the results, and then figures by name, from the
end of the page on; this process draws from its beginning, until they meet. What the helper does not return, because it
was killed or lacks memory, this process draws.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from estbench.processes import end_with_parent, started_without_script, usable_cores

if TYPE_CHECKING:
    from collections.abc import Collection
    from multiprocessing.connection import Connection

    from estbench.report.analysis import Analysis
    from estbench.report.figures import RenderedFigure

NAME = "drawing helper"
# The helper reads the tables of the results again, which takes as long as the figures if there are more cells.
MOST_CELLS = 200
# Each process begins with one of the two that take longest.
LONGEST = ("draw_bounds", "draw_statistics")


class Helper:
    """The process; it draws what is registered by one name at a time."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, its_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(its_end,), name=NAME, daemon=True)
        with started_without_script(NAME):
            self._process.start()
        its_end.close()
        self._owes = 1  # answers: the first one says that the plots are loaded
        self._asked: str = ""
        self._drawn: dict[str, list[RenderedFigure]] = {}

    def wait(self) -> None:
        """Wait until nothing is left to do; then the process takes no time from others until it is asked."""
        with contextlib.suppress(EOFError, OSError):  # it has died
            while self._owes:
                answer = self._pipe.recv()
                self._owes -= 1
                if answer is not None:
                    self._drawn[self._asked] = answer

    @property
    def is_free(self) -> bool:
        """Whether the helper has drawn all that it was asked for."""
        return not self._owes or self._pipe.poll()

    def take(self, analysis: Analysis) -> bool:
        """Give the helper what it is to draw; return whether that is worth its while."""
        self.wait()
        self._drawn.clear()
        return len(analysis.whole.cells) <= MOST_CELLS and self._send(analysis.whole.results)

    def ask(self, name: str, kinds: Collection[str]) -> None:
        """Let the helper draw what is registered by this name, as files of some ``kinds``."""
        self.wait()
        if self._send((name, tuple(kinds))):
            self._asked = name
            self._owes += 1

    def drawn(self) -> dict[str, list[RenderedFigure]]:
        """Return what the helper has drawn, by name, as soon as it has."""
        self.wait()
        return self._drawn

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _send(self, message: Any) -> bool:
        try:
            self._pipe.send(message)
        except Exception:  # noqa: BLE001  (it has died, or the message cannot be sent: then this process draws)
            return False
        return True


def draw_together(analysis: Analysis, kinds: Collection[str], helper: Helper) -> dict[str, list[RenderedFigure]]:
    """Return the figures that ship with estbench, by function, as files of some ``kinds``, drawn by two processes."""
    from estbench.report.figures import FIGURES, draw_registered  # noqa: PLC0415  (plotting takes a second to load)

    drawn: dict[str, list[RenderedFigure]] = {}
    if not helper.take(analysis):
        return drawn
    names = [each.name for each in FIGURES.in_order() if each.ships]
    waiting = deque(sorted(names, key=lambda name: (name == LONGEST[1]) - (name == LONGEST[0])))
    while waiting:
        if helper.is_free and len(waiting) > 1:
            helper.ask(waiting.pop(), kinds)
        else:
            name = waiting.popleft()
            drawn[name] = draw_registered(FIGURES[name], analysis, kinds)
    return drawn | helper.drawn()


@contextlib.contextmanager
def drawing_helper(*, wanted: bool = True) -> Iterator[Helper | None]:
    """Start a helper if it is wanted and there is a core for it, and end it on leaving."""
    if not wanted or usable_cores() < 2:
        yield None
        return
    helper = Helper()
    try:
        yield helper
    finally:
        helper.close()


def _serve(pipe: Connection) -> None:
    """Draw what is asked for, until this process is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which then ends this process
    end_with_parent()
    from estbench.report.analysis import Analysis  # noqa: PLC0415  (after the process is guarded)
    from estbench.report.figures import FIGURES, draw_registered  # noqa: PLC0415

    pipe.send(None)
    analysis: Any = None
    while True:
        message = pipe.recv()
        if not isinstance(message, tuple):
            analysis = Analysis(message)
            continue
        name, kinds = message
        try:
            pipe.send(draw_registered(FIGURES[name], analysis, kinds))
        except Exception:  # noqa: BLE001  (the command draws it, and says what is wrong)
            pipe.send(None)
