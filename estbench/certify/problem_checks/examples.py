"""Checks that samples, replicates and examples stay apart."""

from __future__ import annotations

import torch
from torch import Tensor

from estbench.certify.check_result import CheckResult, failed, passed, skipped
from estbench.certify.problem_under_test import CPU, ProblemUnderTest, differ, draw
from estbench.failures import described
from estbench.measure.gradients.loop import why_examples_mix
from estbench.problems import Objective, Problem
from estbench.problems.two_layers import TwoLayerObjective
from estbench.randomness import seeded

# No two of them are equal, nor equal to the number of examples.
SAMPLES, REPLICATES = 3, 2
MEND = (
    "samples and replicates are leading dimensions: work on the last one, or flatten the others and unflatten the"
    " result in the same order, as in net(z.flatten(0, -2)).unflatten(0, z.shape[:-1])"
)


@torch.no_grad()
def check_leading_dimensions(tested: ProblemUnderTest) -> CheckResult:
    """Check that f at samples of (S, R, B, D) has the values of S R separate calls."""
    problem, x = tested.build_precise()
    params = problem.encode(x)
    objective = problem.objective(params, x)
    z = draw(objective, SAMPLES)
    try:
        wrong = _compare(objective, z, [problem.objective(params, x) for _ in range(SAMPLES)], list(z))
    except Exception as error:  # noqa: BLE001  (a model may raise anything)
        wrong = f"it raises {described(error)}"
    if wrong:
        return failed(f"at {SAMPLES} samples at once {wrong}; {MEND}")
    try:
        replicated = {name: value.expand(REPLICATES, *value.shape).clone() for name, value in params.items()}
        whole = problem.objective(replicated, x)
        z = draw(whole, SAMPLES)
        pairs = [(s, r) for s in range(SAMPLES) for r in range(REPLICATES)]
        single = [problem.objective(params, x) for _ in pairs]
        wrong = _compare(whole, z, single, [z[pair] for pair in pairs])
    except Exception as error:  # noqa: BLE001  (a model may raise anything)
        return passed(f"{SAMPLES} samples at once; a probe takes the loop: replicates raise {described(error)}")
    if wrong:
        return failed(f"at {SAMPLES} samples of {REPLICATES} replicates at once {wrong}; {MEND}")
    evidence = f"{SAMPLES} samples of {REPLICATES} replicates at once have the values of single ones"
    return passed(f"{evidence}, {str(x.dtype).removeprefix('torch.')}")


@torch.no_grad()
def check_examples_apart(tested: ProblemUnderTest) -> CheckResult:
    """Check that parameters and f of an example do not depend on the others in eval mode."""
    problem, x = tested.build_precise()
    if len(x) < 2:
        return skipped("there is only one training example")
    # Given to all calls: how much noise a sampler takes for one example may depend on the others.
    z = draw(problem(x))
    mixed = _find_mixed(problem, x, z)
    if mixed:
        message = (
            f"in eval mode {mixed} of an example changes with the others, so bounds depend on which examples share a"
            " call. Usual causes: a mean or a normalisation over the batch (track_running_stats=False); normalise by"
            " statistics of the training data, kept in buffers"
        )
        return failed(message)
    remarks = []
    problem.train()
    first, second = _compute(problem, x, z), _compute(problem, x, z)
    if any(differ(first[name], second[name]) for name in first):
        remarks.append("in training mode calls with the same noise differ")
    elif _find_mixed(problem, x, z):
        remarks.append("in training mode it does, as with a normalisation over the batch")
    why = why_examples_mix(problem.eval(), x)
    if why:
        remarks.append(f"a probe takes the loop: {why}")
    return passed("; ".join(["in eval mode an example does not depend on the others", *remarks]))


def _find_mixed(problem: Problem, x: Tensor, z: Tensor) -> str:
    """Return a value of the first or the last example that changes if all others are replaced; empty if none does."""
    before = _compute(problem, x, z)
    for kept in (0, len(x) - 1):
        after = _compute(problem, x[kept].expand_as(x).clone(), z)
        for name, value in before.items():
            if differ(value[kept], after[name][kept]):
                return name
    return ""


def _compute(problem: Problem, x: Tensor, z: Tensor) -> dict[str, Tensor]:
    """Return the parameters, f at samples (1, B, D) and the KL, with the examples first, under the same noise."""
    with seeded(0, CPU):
        params = problem.encode(x)
        objective = problem.objective(params, x)
        return {**params, "f": objective.f(z)[0], "the KL": objective.kl()}


def _compare(whole: Objective, z: Tensor, single: list[Objective], rows: list[Tensor]) -> str:
    """Describe the first value of a whole that is not that of its single samples; empty if there is none.

    ``z`` are samples (S, *R, B, D); ``rows`` the same one by one, (B, D) each, with an objective of (B,) for each.
    """
    leading = z.shape[: z.dim() - len(whole.q.event_shape)]
    together = _evaluate(whole, z)
    alone = [_evaluate(objective, row[None]) for objective, row in zip(single, rows, strict=True)]
    for name, values in together.items():
        if values.shape != leading:
            return f"{name} has shape {tuple(values.shape)} in place of {tuple(leading)}"
        separate = torch.stack([each[name][0] for each in alone]).view(leading)
        if differ(values, separate):
            gap = float((values - separate).abs().max())
            return f"{name} differs from that of single calls by {gap:.2g}"
    return ""


def _evaluate(objective: Objective, z: Tensor) -> dict[str, Tensor]:
    """Return what estimators ask an objective for, (S, *R, B) each; of two latents, what has no noise of its own."""
    values = {"the KL": objective.kl().expand(len(z), *objective.batch_shape)}
    if isinstance(objective, TwoLayerObjective):
        second = objective.second(z)
        ones = torch.ones_like(second.q.mean)
        values |= {"f of the second latent": second.f(ones[None])[0], "its KL": second.kl()}
        return {**values, "log p(x|z)": objective.bound_terms(z).log_likelihood} if objective.layered else values
    return {**values, "log p(x|z)": objective.bound_terms(z).log_likelihood, "f": objective.f(z)}
