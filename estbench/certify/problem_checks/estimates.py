"""Check of one gradient estimate from end to end."""

from __future__ import annotations

from estbench.certify.check_result import CheckResult, failed, passed
from estbench.certify.problem_under_test import ProblemUnderTest, observe_examples
from estbench.measure import probe

REPLICATES = 10


def check_probe(tested: ProblemUnderTest) -> CheckResult:
    """Check that a probe with the least demanding estimator works, and say which path it took."""
    problem = tested.build()
    moments = probe(problem, tested.create_estimator(problem), observe_examples(problem), REPLICATES)
    table = moments.table
    rows = table[table["statistic"] == "variance"]
    wrong = rows[~(rows["value"] >= 0)]
    if len(wrong):
        where = ", ".join(f"{group} ({space})" for space, group in zip(wrong["space"], wrong["group"], strict=True))
        message = f"the variance of the gradient of {where} is no number; look for infinite or NaN gradients"
        return failed(message)
    how = "the fast path" if moments.path == "fast" else f"the loop, because {moments.reason}"
    absent = f"; it lacks {', '.join(moments.absent)}" if moments.absent else ""
    return passed(f"{REPLICATES} replicates of {tested.estimator_name} by {how}{absent}")
