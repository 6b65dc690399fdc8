"""The analysis of a results folder: every number and sentence of a report, each computed once.

Tables, figures, the page and the terminal only read it.
"""

from __future__ import annotations

from functools import cached_property

from estbench.report.analysis.conclusions import Conclusion, draw_conclusions
from estbench.report.analysis.frames import Frames
from estbench.report.analysis.launches import Growth, describe_launches, find_growths
from estbench.report.analysis.leaderboard import Leaderboard, build_leaderboard, find_contenders
from estbench.report.analysis.notices import describe_limits, find_failed, find_uncertified
from estbench.report.analysis.origins import Origin, describe_origins, find_origins, name_sources
from estbench.report.analysis.paired import Runs, find_runs
from estbench.report.analysis.rankings import Ranking, find_rankings
from estbench.report.analysis.selection import describe_selection, select
from estbench.report.analysis.targets import Crossing, TargetCost, find_crossings, find_target_costs
from estbench.store import Results


class Analysis(Frames):
    """The analysis of some results; of a sweep, of the settings that were picked for each estimator.

    Attributes
    ----------
    results
        The results at the picked settings: those of a sweep that take part in comparisons.
    whole
        The frames of all results, with every setting of a sweep.
    selection
        The settings of a sweep that were tried, and those that were picked.

    Examples
    --------
    >>> import tempfile
    >>> import estbench
    >>> from estbench.report.analysis import Analysis
    >>> experiment = {
    ...     "estimators": ["reparam"],
    ...     "problems": ["vae[dataset=digits,hidden=[4],latent_size=2]"],
    ...     "training": {"steps": 2},
    ...     "probe": {"replicates": 0},
    ...     "throughput": {"rounds": 0},
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     analysis = Analysis(estbench.run(experiment, out=folder))
    ...     [entrant.estimator for entrant in analysis.leaderboards[0].contenders]
    ['reparam']
    """

    def __init__(self, whole: Results) -> None:
        self.whole = Frames(whole)
        self.selection = select(whole)
        super().__init__(self.selection.restrict(whole))

    @cached_property
    def runs(self) -> dict[str, Runs]:
        """The finished runs of every problem, by estimator and seed."""
        return find_runs(self)

    @cached_property
    def contenders(self) -> dict[str, Runs]:
        """The same without the estimators of which a run collapsed."""
        return {problem: find_contenders(runs) for problem, runs in self.runs.items()}

    @cached_property
    def leaderboards(self) -> list[Leaderboard]:
        """The estimators of every problem, best first."""
        return [build_leaderboard(self, problem, runs) for problem, runs in self.runs.items()]

    def leaderboard(self, problem: str) -> Leaderboard | None:
        """Return the estimators of one problem, best first; None if no run of it has a bound."""
        return next((board for board in self.leaderboards if board.problem == problem), None)

    @cached_property
    def rankings(self) -> dict[str, list[Ranking]]:
        """The rankings of contenders at equal cost, one for each currency, by problem."""
        return find_rankings(self, self.contenders)

    @cached_property
    def crossings(self) -> list[Crossing]:
        """The cost of every target for every run."""
        return find_crossings(self, self.runs, self.contenders)

    @cached_property
    def target_costs(self) -> list[TargetCost]:
        """The cost of every target for every estimator."""
        return find_target_costs(self, self.crossings)

    @cached_property
    def conclusions(self) -> list[Conclusion]:
        """The answers to the question of the experiment, each with its evidence."""
        return draw_conclusions(self.leaderboards, self.rankings, find_failed(self))

    @cached_property
    def growths(self) -> list[Growth]:
        """The growth of the time of steps with the minibatch, of the estimators that were timed at several sizes."""
        return find_growths(self)

    @cached_property
    def uncertified(self) -> list[str]:
        """The estimators without a passing certificate, each with the reason."""
        return find_uncertified(self)

    @cached_property
    def origins(self) -> list[Origin]:
        """The folders and archives that all runs came from, by code and machine."""
        return find_origins(self.whole)

    @cached_property
    def sources(self) -> dict[tuple[str, str], list[str]]:
        """The names of the folders and archives by problem and estimator; empty if there is one only."""
        names = name_sources(self)
        found: dict[tuple[str, str], dict[str, None]] = {}
        for cell in self.results.plan["cells"] if len(names) > 1 else ():
            if cell["folder"] in self.results.records:
                of_pair = found.setdefault((cell["problem"]["label"], cell["estimator"]["label"]), {})
                of_pair[names[self.results.origin(cell["folder"])]] = None
        return {pair: [*named] for pair, named in found.items()}

    @cached_property
    def notices(self) -> list[str]:
        """All that limits what the numbers say."""
        return [
            *describe_selection(self.selection),
            *describe_origins(self.origins),
            *describe_limits(self),
            *describe_launches(self.growths),
        ]
