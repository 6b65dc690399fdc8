r"""Check of an exact objective: its value against draws, and its gradient against finite differences.

Along a random direction v of all trained weights, with step h,

    D(h) = (L(w + h v) - L(w - h v)) / (2 h) = L' + O(h^2) + rounding of size eps |L| / h

Richardson's extrapolation from two steps of ratio r, R(h) = (r^2 D(h / r) - D(h)) / (r^2 - 1), removes the h^2 term.
|R(h) - D(h / r)| bounds what is left of it, and rounding is ``ROUNDING`` eps sum_b |L_b| / (h / r). Of several steps
the one with the smallest sum of both is taken, and this sum is the tolerance: it is large only where L is not smooth
(ReLU), and then the check says that it could not decide.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from estbench.certify.check_result import CheckResult, decide, failed, skipped
from estbench.certify.problem_under_test import CPU, ProblemUnderTest
from estbench.certify.record import CheckOutcome
from estbench.errors import EstbenchError
from estbench.problems import Objective, Problem
from estbench.problems.two_layers import TwoLayerObjective
from estbench.randomness import seeded

EXAMPLES = 2
DIRECTIONS = 2
RATIO = 8
STEPS = tuple(float(RATIO) ** -power for power in (1, 2, 3, 4))
ROUNDING = 1e3  # rounding errors of L, in units of eps |L|: it is a long sum
DRAWS, DRAWS_AT_ONCE = 20_000, 1_000
MOST_ERRORS = 6.0  # standard errors by which a mean of draws may be off
# A tolerance above this share of the gradient's length cannot show a wrong gradient.
WEAKEST = 1e-2
SMALLEST = 1e-6  # a gradient's length in units of |L|; a shorter one counts as this long


def check_exact(tested: ProblemUnderTest) -> CheckResult:
    """Check the exact objective, if there is one: its value by sampling, its gradient by finite differences."""
    problem, x = tested.build_precise()
    x = x[:EXAMPLES]
    try:
        exact = _compute_exact(problem, x)
    except EstbenchError as error:
        return skipped(str(error).partition(";")[0])
    if exact.dtype != torch.float64:
        return skipped("the model does not work in double precision, which finite differences need")
    if not exact.requires_grad:
        return failed("exact() does not depend on any weight; compute it from the parameters, with nothing detached")
    message, allowed = _compare_value(problem, x, exact.detach())
    if message:
        return failed(message)
    weights = [weight for weight in problem.parameters() if weight.requires_grad]
    gradient = torch.autograd.grad(exact.sum(), weights, allow_unused=True, materialize_grads=True)
    length = math.sqrt(sum(float(part.square().sum()) for part in gradient))
    generator = torch.Generator().manual_seed(0)
    worst, largest = 0.0, 0.0
    for _ in range(DIRECTIONS):
        direction = _draw_direction(weights, generator)
        expected = sum(float((part * v).sum()) for part, v in zip(gradient, direction, strict=True))
        measured, tolerance = _differentiate(problem, x, weights, direction)
        if not tolerance <= WEAKEST * max(length, SMALLEST * float(exact.detach().abs().sum())):
            evidence = f"finite differences are good only to {tolerance:.1e}, and the gradient's length is {length:.2g}"
            return CheckResult(CheckOutcome.INCONCLUSIVE, evidence, f"{evidence}; is the objective smooth?")
        deviation = abs(measured - expected)
        if not deviation <= tolerance:
            message = (
                f"along a random direction the gradient of exact() is {expected:.8g}, and finite differences give"
                f" {measured:.8g} +- {tolerance:.1g}; keep exact() differentiable: nothing in it may be detached"
            )
            return failed(message, deviation / tolerance)
        worst, largest = max(worst, deviation / tolerance), max(largest, tolerance)
    evidence = (
        f"its value is the mean of {DRAWS:,} draws within {allowed:.1g} nats, its gradient that of finite differences"
        f" within {largest:.1g} (length {length:.2g})"
    )
    return decide(True, evidence, "", worst)


def _compute_exact(problem: Problem, x: Tensor) -> Tensor:
    """Return L of each example, (B,); an encoder with noise of its own has the same noise each time."""
    with seeded(0, CPU):
        return problem(x).exact()  # type: ignore[no-any-return]


@torch.no_grad()
def _compare_value(problem: Problem, x: Tensor, exact: Tensor) -> tuple[str, float]:
    """Return a complaint about the exact values, (B,), which is empty if they are right, and the allowed error."""
    with seeded(0, CPU):
        objective = problem(x)
        values = torch.cat([_sample_values(objective) for _ in range(DRAWS // DRAWS_AT_ONCE)])
    error = MOST_ERRORS * values.std(0) / len(values) ** 0.5 + 1e-8 * exact.abs().clamp(min=1)
    gap = (values.mean(0) - exact).abs()
    worst = int((gap / error).nan_to_num(math.inf).argmax())
    if bool(gap[worst] <= error[worst]):
        return "", float(error.max())
    return (
        f"exact() of an example is {float(exact[worst]):.6g}, and the mean of {len(values):,} draws is"
        f" {float(values[:, worst].mean()):.6g} +- {float(error[worst]):.1g}; exact() is L, the KL included"
    ), float(error.max())


def _sample_values(objective: Objective) -> Tensor:
    """Return independent estimates of L, (N, B)."""
    K = objective.importance_samples
    if isinstance(objective, TwoLayerObjective):  # its f has the same draw of the second layer for all samples
        return objective.bound_terms(objective.q.sample((DRAWS_AT_ONCE,))).elbo
    if K == 1:
        return objective.f(objective.q.sample((DRAWS_AT_ONCE,))) - objective.kl()
    log_weights = objective.log_weight(objective.q.sample((DRAWS_AT_ONCE * K,)))
    return log_weights.view(DRAWS_AT_ONCE, K, -1).logsumexp(1) - math.log(K)


def _draw_direction(weights: list[nn.Parameter], generator: torch.Generator) -> list[Tensor]:
    """Return a random vector of length 1, in parts of the weights' shapes."""
    parts = [torch.randn(weight.shape, generator=generator, dtype=weight.dtype) for weight in weights]
    length = math.sqrt(sum(float(part.square().sum()) for part in parts))
    return [part / length for part in parts]


@torch.no_grad()
def _differentiate(
    problem: Problem, x: Tensor, weights: list[nn.Parameter], direction: list[Tensor]
) -> tuple[float, float]:
    """Return the derivative of the exact objective along a direction, and the tolerance for it."""
    start = [weight.clone() for weight in weights]

    def evaluate(step: float) -> Tensor:
        for weight, at, v in zip(weights, start, direction, strict=True):
            weight.copy_(at + step * v)
        values = _compute_exact(problem, x)
        for weight, at in zip(weights, start, strict=True):
            weight.copy_(at)
        return values

    size = float(evaluate(0.0).abs().sum())
    central = [float((evaluate(h) - evaluate(-h)).sum()) / (2 * h) for h in STEPS]
    candidates = []
    for coarse, fine, h in zip(central, central[1:], STEPS[1:], strict=False):
        extrapolated = (RATIO**2 * fine - coarse) / (RATIO**2 - 1)
        rounding = ROUNDING * torch.finfo(torch.float64).eps * size / h
        candidates.append((abs(extrapolated - fine) + rounding, extrapolated))
    tolerance, derivative = min(candidates, key=lambda pair: pair[0] if math.isfinite(pair[0]) else math.inf)
    return derivative, tolerance
