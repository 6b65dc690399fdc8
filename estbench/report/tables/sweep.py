"""Every swept setting of every estimator: what it was picked by, and what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from estbench.report.analysis.selection import picks, trials, tuned
from estbench.report.tables.assemble import assemble, columns_of, entry
from estbench.report.tables.base import NOTHING, Column, Entry, Table, fixed
from estbench.stats import t_interval

if TYPE_CHECKING:
    from estbench.store import Results


def sensitivity(results: Results) -> Table:
    """One row per problem, estimator and setting."""
    names = tuned(results)
    found = trials(results) if names else []
    chosen = {id(trial) for trial in picks(found).values()}
    data, rows = [], []
    # All settings of an estimator together, in the order of the plan.
    order = list(dict.fromkeys((trial.problem, trial.estimator) for trial in found))
    for trial in sorted(found, key=lambda trial: order.index((trial.problem, trial.estimator))):
        validation, test = (t_interval([*values.values()]) for values in (trial.validation, trial.test))
        setting = dict(trial.setting)
        planned, finished = len(trial.cells), len(trial.validation)
        data.append(
            {"problem": trial.problem, "estimator": trial.estimator}
            | {name: setting.get(name) for name in names}
            | {"planned": planned, "done": finished}
            | columns_of({"validation_elbo": validation, "test_elbo": test})
            | {"picked": id(trial) in chosen}
        )
        rows.append(
            (
                Entry(trial.estimator),
                Entry(trial.problem),
                *(Entry(str(setting.get(name, NOTHING))) for name in names),
                Entry(f"{finished} of {planned}"),
                entry(validation, fixed),
                entry(test, fixed),
                Entry("yes" if id(trial) in chosen else "no"),
            )
        )
    columns = [
        Column("estimator", numeric=False, head=True),
        Column("problem", numeric=False, head=True),
        *(Column(name) for name in names),
        Column("cells done"),
        Column("validation ELBO"),
        Column("test ELBO"),
        Column("picked", numeric=False),
    ]
    caption = (
        "Final bounds over the cells that are done, in mean nats per example; higher is better. Picked: the setting "
        "with the most finished seeds and, of those, the best mean validation ELBO; it alone is in the other tables "
        "and figures. The test bounds of the others are shown, and were not used. In brackets: the 95 % t interval "
        "over n seeds; below three seeds there is none."
    )
    return assemble(results, "sensitivity", "Swept settings", caption, data, columns, rows)
