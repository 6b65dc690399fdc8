"""Every swept setting of every estimator: the bounds that it was picked by, and the bounds that it led to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from estbench.report.analysis import Analysis
from estbench.report.analysis.wording import NOTHING, fixed
from estbench.report.tables.base import Table
from estbench.report.tables.fields import ESTIMATOR, Field, build_table, order_by_rank, problem_field, with_interval
from estbench.report.tables.registry import register_table
from estbench.stats import Interval, t_interval


@dataclass(frozen=True)
class SensitivityRow:
    """One setting of one estimator on one problem."""

    problem: str
    estimator: str
    setting: dict[str, Any]
    planned: int
    done: int
    validation_elbo: Interval
    test_elbo: Interval
    picked: bool


@register_table(section="sensitivity")
def sensitivity(analysis: Analysis) -> Table:
    """Return one row per problem, estimator and setting; none if nothing is tuned."""
    fields: list[Field[SensitivityRow]] = [
        ESTIMATOR,
        problem_field(analysis),
        *(_setting_field(name) for name in analysis.selection.tuned),
        Field("planned"),
        Field("done", "runs done", entry=lambda row: f"{row.done} of {row.planned}", best="high"),
        Field("validation_elbo", "validation ELBO", write=with_interval(fixed), best="high", short="validation ELBO"),
        Field("test_elbo", "test ELBO", write=with_interval(fixed), best="high", short="test ELBO"),
        Field("picked", "picked", write=lambda picked: "yes" if picked else "no", text=True, short="picked"),
    ]
    caption = (
        "Final bounds in nats per example, mean over the finished runs; higher is better. In brackets: the 95 % t "
        "interval. Picked: the setting with the best mean validation ELBO, of those with the most finished seeds. Only "
        "this setting is in the other tables and figures; the test bounds had no say in it."
    )
    return build_table(
        "sensitivity",
        "Swept settings",
        caption,
        fields,
        _find_rows(analysis),
        csv_first=("problem", "estimator"),
        blocks=("problem", "estimator"),
        short_caption="Mean final bounds in nats per example. Picked by the validation ELBO.",
    )


def _find_rows(analysis: Analysis) -> list[SensitivityRow]:
    all_trials = analysis.selection.trials if analysis.selection.tuned else []
    picked = {id(trial) for trial in analysis.selection.picked}
    # All settings of an estimator together, by the rank that it has at the setting that was picked.
    ranks = {problem: order_by_rank(analysis, problem) for problem in analysis.problems}
    order = {
        (trial.problem, trial.estimator): (
            analysis.problems.index(trial.problem),
            ranks[trial.problem].index(trial.label),
        )
        for trial in analysis.selection.picked
    }
    return [
        SensitivityRow(
            problem=trial.problem,
            estimator=trial.estimator,
            setting=dict(trial.setting),
            planned=len(trial.cells),
            done=len(trial.validation),
            validation_elbo=t_interval([*trial.validation.values()]),
            test_elbo=t_interval([*trial.test.values()]),
            picked=id(trial) in picked,
        )
        for trial in sorted(all_trials, key=lambda trial: order[trial.problem, trial.estimator])
    ]


def _setting_field(name: str) -> Field[SensitivityRow]:
    """Return the field of one setting; an estimator that does not have it has no value."""
    return Field(
        name,
        name,
        short=name,
        value=lambda row: row.setting.get(name),
        entry=lambda row: str(row.setting.get(name, NOTHING)),
    )
