"""All figures of a report: one set per problem, and the profile over all of them."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from estbench.report.analysis import frames
from estbench.report.figures import bounds, cost, gradients, profile, throughput
from estbench.report.figures.picture import Picture
from estbench.report.figures.style import looks, settings

if TYPE_CHECKING:
    from estbench.store import Results


def all_figures(results: Results) -> list[Picture]:
    """Every figure that the records have data for, in the order of the report."""
    chosen = looks(frames.estimators(results))
    problems = frames.problems(results)
    made: list[Picture] = []
    with settings():
        for at, problem in enumerate(problems):
            drawn = [
                *(bounds.draw(results, problem, x, chosen) for x in bounds.AXES),
                *(
                    gradients.draw(results, problem, chosen, statistic, trajectory)
                    for trajectory in gradients.trajectories(results)
                    for statistic in gradients.QUANTITIES
                ),
                cost.draw(results, problem, chosen),
                throughput.draw(results, problem, chosen),
            ]
            of_problem = [picture for picture in drawn if picture is not None]
            if len(problems) > 1:
                of_problem = [_named(picture, problem, at) for picture in of_problem]
            made += of_problem
        overall = profile.draw(results, chosen)
        made += [overall] if overall else []
    return made


def _named(picture: Picture, problem: str, at: int) -> Picture:
    """Tell the problem; its label becomes part of a file name, so only letters and digits stay."""
    slug = re.sub(r"[^a-z0-9]+", "-", problem.lower()).strip("-")[:40]
    return dataclasses.replace(
        picture,
        name=f"{picture.name}-{at + 1}-{slug}".rstrip("-"),
        title=f"{picture.title}: {problem}",
        alt=f"Problem {problem}. {picture.alt}",
    )
