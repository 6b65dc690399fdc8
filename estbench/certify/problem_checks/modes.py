"""Checks of eval mode: the model stands still in it, and measurements leave the model as it was."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from estbench.certify.check_result import CheckResult, failed, passed
from estbench.certify.problem_under_test import (
    CPU,
    ProblemUnderTest,
    call,
    copy_state,
    find_changed,
    observe_examples,
)
from estbench.measure import evaluate_elbo, probe
from estbench.problems import Problem
from estbench.randomness import seeded

FEWEST_REPLICATES = 3


@torch.no_grad()
def check_eval_mode(tested: ProblemUnderTest) -> CheckResult:
    """Check that eval mode holds in every module, that calls repeat, and that no buffer or weight changes."""
    problem = tested.build().eval()
    x, before = observe_examples(problem), copy_state(problem)
    calls = [call(problem, x) for _ in range(2)]
    active = [name or "the problem" for name, module in problem.named_modules() if module.training]
    if active:
        message = f"{', '.join(active[:5])} is in training mode after eval(); leave self.training to train() and eval()"
        return failed(message)
    changed = find_changed(before, copy_state(problem))
    if changed:
        message = f"{', '.join(changed[:5])} changed in eval mode; change buffers only if self.training is true"
        return failed(message)
    different = find_changed(*calls)
    if different:
        message = (
            f"two calls in eval mode with the same noise give another {', '.join(different)}; keep what changes from"
            " call to call out of eval mode, and draw noise from torch's generator"
        )
        return failed(message)
    remarks = [
        f"; {part} draws noise in eval mode: a layer of latents, or F.dropout without training=self.training"
        for part in _find_noisy(problem, x)
    ]
    return passed(
        f"two calls give the same bits, and {len(before)} weights and buffers do not change{''.join(remarks)}"
    )


def _find_noisy(problem: Problem, x: Tensor) -> Iterator[str]:
    """Yield the parts that give other numbers under other noise, though nothing in them is to be drawn."""
    with seeded(0, CPU):
        params = problem.encode(x)
        z = problem.objective(params, x).q.sample((1,))
    found = []
    for seed in (1, 2):
        with seeded(seed, CPU):
            found.append((problem.encode(x), problem.objective(params, x).f(z)))
    (one, f), (other, g) = found
    if find_changed(dict(one), dict(other)):
        yield "the encoder"
    if find_changed({"f": f}, {"f": g}):
        yield "f"


def check_left_as_found(tested: ProblemUnderTest) -> CheckResult:
    """Check that bounds and probes leave modes, weights, buffers and torch's random state as they were."""
    problem = tested.build()
    x, estimator = observe_examples(problem), tested.create_estimator(problem)
    for training in (True, False):
        problem.train(training)
        modes, before = [module.training for module in problem.modules()], copy_state(problem)
        with seeded(0, CPU):
            noise = torch.get_rng_state()
            evaluate_elbo(problem, x, 2, seed=1)
            probe(problem, estimator, x, FEWEST_REPLICATES, seed=1)
            same_noise = torch.equal(noise, torch.get_rng_state())
        changed = find_changed(before, copy_state(problem))
        if [module.training for module in problem.modules()] != modes:
            changed.append("the mode of a module")
        if not same_noise:
            changed.append("torch's random state")
        if changed:
            message = (
                f"after bounds and a probe in {'training' if training else 'eval'} mode, {', '.join(changed[:5])} is"
                " another one; keep state in buffers and attributes, and let train() and eval() only set modes"
            )
            return failed(message)
    return passed("bounds and a probe leave modes, weights, buffers and torch's random state as they were")
