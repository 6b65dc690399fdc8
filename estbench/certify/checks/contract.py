"""The contract of an estimator, whatever its formula: what training and probes rely on."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from estbench.certify.check_result import CheckResult, decide, z_threshold
from estbench.certify.estimator_under_test import EstimatorUnderTest, train_step
from estbench.certify.problems.base import SmallProblem
from estbench.certify.sampling import (
    Gradients,
    RunningMoments,
    differentiate,
    draw_until,
    relative_difference,
    sample_gradients,
)
from estbench.certify.simulated_device import SimulatedDevice, place_of, why_not
from estbench.devices import accelerators
from estbench.estimators import Estimator, surrogate_of
from estbench.randomness import seeded

CPU = torch.device("cpu")
ROUNDING = 1e-10  # of the gradient's norm
FEW_REPLICATES = 6
MANY_REPLICATES = 256
DRAWS = 10_000


def check_call(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that a plain call, as in training, gives one surrogate for each example."""
    with seeded(5, CPU):
        surrogate = surrogate_of(tested.prepared(problem), problem.objective(problem.leaf_tensors()))
    return decide(True, f"one surrogate for each of {len(surrogate)} examples")


def check_replicates(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that any batch dimensions work: one surrogate for each example of each replicate, independent of others."""
    estimator = tested.prepared(problem)
    for leading in ((), (FEW_REPLICATES,), (2, 3)):
        leaves = problem.leaf_tensors(*leading)
        with seeded(5, CPU):
            surrogate = estimator(problem.objective(leaves))
        expected = (*leading, problem.examples)
        if tuple(surrogate.shape) != expected:
            message = (
                f"the surrogate has shape {tuple(surrogate.shape)}, and the parameters have batch shape {expected};"
                " f takes z of (S, *batch_shape, D): draw with a sample dimension in front, average over that one only,"
                " mean(0), and keep every batch dimension"
            )
            return decide(False, "", message)
    gradients_of_first = differentiate(surrogate[0, 0].sum(), leaves)
    leaks = [name for name, gradient in gradients_of_first.items() if gradient[1:].any() or gradient[:, 1:].any()]
    return decide(
        not leaks,
        f"up to {len(leading)} further batch dimensions, {problem.examples} examples",
        f"the surrogate of one replicate depends on the {', '.join(leaks)} of others;"
        " average over the sample dimension only",
    )


def check_cross_talk(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Change one example, under the same noise: the gradients of the others must be the same bits.

    If the sampler's use of random numbers depends on its parameters (rejection), only the weights are changed.
    """
    original = {
        training: _draw(tested.prepared(problem).train(training), problem, 8, FEW_REPLICATES)
        for training in (False, True)
    }
    for example in range(problem.examples):
        changed = _change_example(problem, example)
        for training, before in original.items():
            after = _draw(tested.prepared(problem).train(training), changed, 8, FEW_REPLICATES)
            others = [index for index in range(problem.examples) if index != example]
            wrong = [g for g in before if not torch.equal(before[g][:, others], after[g][:, others])]
            if wrong:
                difference = relative_difference(
                    {g: before[g][:, others] for g in wrong}, {g: after[g][:, others] for g in wrong}, problem
                )
                message = (
                    f"example {example} was changed, and the gradient of {', '.join(wrong)} of another example changed"
                    f" by {difference:.2g} of the gradient's norm ({'training' if training else 'eval'} mode). Usual"
                    " causes: a baseline, a normaliser or a sum over the batch; use state from before the step, or the"
                    " samples of the same example"
                )
                return decide(False, "", message)
    return decide(True, "other examples' gradients are the same bits, in training and eval mode")


def check_permutation(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that the order of a batch does not matter: in reversed order the gradients have the same distribution.

    Compared are the means of the gradient and of its tanh (in units of its spread), coordinate by coordinate.
    """
    reversed_problem = problem.select(list(range(problem.examples))[::-1])
    spread = {g: s.amax(0).clamp(min=1e-9 * problem.gradient_norm(g)) for g, s in _find_spread(tested, problem).items()}
    first = _draw_moments(tested, problem, spread, seed=9)
    second = _draw_moments(tested, reversed_problem, spread, seed=10)
    z = max(
        float(
            (
                (first.mean[group] - second.mean[group].flip(0)).abs()
                / (first.error[group].square() + second.error[group].flip(0).square())
                .sqrt()
                .clamp(min=ROUNDING * (problem.gradient_norm(group.removeprefix("tanh "))))
            ).max()
        )
        for group in first.mean
    )
    bound = z_threshold("order of the batch", 2 * tested.coordinates)
    return decide(
        z <= bound,
        f"max |z| = {z:.2f}, bound {bound:.2f}, n = {DRAWS:,}",
        f"with the batch in reversed order, the gradients of the same examples have another distribution (z = {z:.1f});"
        " treat all places of a batch alike",
        z / bound,
        z=z,
        bound=bound,
        n=DRAWS,
    )


def check_decoder(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that a constant added to log p(x|z) appears in the surrogate exactly once.

    The surrogate's derivative with respect to the constant is the sum of the weights that the gradients of the samples
    have in the decoder's gradient: 1 if they are neither lost nor doubled.
    """
    shift = torch.zeros(MANY_REPLICATES, problem.examples, dtype=torch.float64, requires_grad=True)
    shifted = dataclasses.replace(problem, integrand=lambda z, w: problem.integrand(z, w) + shift)
    with seeded(4, CPU):
        total = tested.prepared(problem)(shifted.objective(problem.leaf_tensors(MANY_REPLICATES))).sum()
        weight = differentiate(total, {"shift": shift})["shift"]
    mean, error = float(weight.mean()), float(weight.std()) / weight.numel() ** 0.5
    allowed = z_threshold("decoder gradient", len(tested.problems)) * error + ROUNDING
    cause = "f is detached, or evaluated under no_grad" if mean < 1 else "f's own gradient is added twice"
    return decide(
        abs(mean - 1) <= allowed,
        f"the samples' weights sum to {mean:.6g}" + (f" +- {error:.1g}, n = {weight.numel()}" if error else ""),
        f"the weights of the samples in the decoder's gradient sum to {mean:.4g}; they must sum to 1. Usual cause:"
        f" {cause}",
        abs(mean - 1) / allowed,
        sum=mean,
    )


def check_prior(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that every parameter of a learned prior gets a gradient, also from an estimator with a declared bias."""
    drawn = _draw(tested.prepared(problem), problem, 20, MANY_REPLICATES)
    exact = problem.exact_gradient()
    lost = [
        group
        for group in problem.prior
        if bool(((drawn[group] == 0).all(0) & (exact[group].abs() > ROUNDING * problem.gradient_norm(group))).any())
    ]
    return decide(
        not lost,
        f"{len(problem.prior)} parameters of a learned prior have a gradient",
        f"the gradient of {', '.join(lost)} is zero in all of {MANY_REPLICATES} draws; build the terms of the prior"
        " while gradients are on",
    )


def check_frozen(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that a call in eval mode does not change the estimator's state."""
    estimator = tested.prepared(problem)
    before = _copy_state(estimator)
    _draw(estimator, problem, 11, FEW_REPLICATES)
    changed = _find_changed(before, estimator.state_dict())
    return decide(
        not changed,
        f"{len(before)} tensors of state do not change" if before else "it has no state",
        f"{', '.join(changed)} changed in eval mode; change state only if self.training is true",
    )


def check_training_mode(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that training and eval mode give the same gradient of the model, under the same noise and state.

    What the estimator learns in a step, and what it will remember of it, must not change the gradient of that step.
    """
    in_training, in_eval = (
        _draw(tested.prepared(problem).train(training), problem, 12, FEW_REPLICATES) for training in (True, False)
    )
    error = relative_difference(in_training, in_eval, problem)
    return decide(
        error <= ROUNDING,
        f"training and eval mode agree to {error:.1e}, bound {ROUNDING:.0e}",
        f"under the same noise and state, the gradients in training and in eval mode differ by {error:.2g} of the"
        " gradient's norm. Usual causes: state is updated before it is used (a baseline that has seen its sample), or"
        " the loss of a learned part has a gradient for the model's parameters: detach what it is computed from",
        error / ROUNDING,
        error=error,
        bound=ROUNDING,
    )


def check_precision(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that it works in single and in double precision, and returns the precision of the parameters."""
    for dtype in (torch.float32, torch.float64):
        for training in (False, True):
            estimator = tested.prepared(problem, dtype).train(training)
            leaves = problem.leaf_tensors(FEW_REPLICATES, dtype=dtype)
            with seeded(13, CPU):
                surrogate = estimator(problem.objective(leaves))
            drawn = differentiate(surrogate.sum(), leaves)
            wrong = [name for name, gradient in drawn.items() if not gradient.isfinite().all()]
            if surrogate.dtype != dtype or wrong:
                what = f"the gradient of {', '.join(wrong)} is not finite" if wrong else f"it gives {surrogate.dtype}"
                return decide(False, "", f"in {dtype}: {what}; make noise and constants in the parameters' precision")
    return decide(True, "float32 and float64")


def check_deterministic(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that its only noise is torch's: the same seed gives the same bits."""
    first, second = (_draw(tested.prepared(problem), problem, 14, FEW_REPLICATES) for _ in range(2))
    same = all(torch.equal(first[group], second[group]) for group in first)
    return decide(
        same, "the same seed gives the same bits", "the same seed gives another gradient; draw from torch's generator"
    )


def check_devices(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that it runs on every kind of device of this machine, and on a simulated one; name what waits there."""
    present = ["cpu", *accelerators()]
    for device in present:
        with seeded(15, torch.device(device)):
            estimator = tested.prepared(problem, torch.float32, device)
            drawn = sample_gradients(estimator, problem, FEW_REPLICATES, dtype=torch.float32, device=device)
        wrong = [name for name, g in drawn.items() if g.device.type != device or not g.isfinite().all()]
        if wrong:
            message = f"on {device}: the gradient of {', '.join(wrong)} is on another device, or not finite"
            return decide(False, "", message)
    if not tested.is_representative(problem):
        return decide(True, ", ".join(present))
    if reason := why_not():
        return decide(True, f"{', '.join(present)}; no simulated accelerator: {reason}")
    return _check_simulated(tested, problem, present)


def _check_simulated(tested: EstimatorUnderTest, problem: SmallProblem, present: list[str]) -> CheckResult:
    """Take two training steps on a simulated accelerator; the first may wait, and costs nothing."""
    with SimulatedDevice() as simulated, seeded(15, simulated.device):
        estimator = tested.prepared(problem, torch.float32, str(simulated.device)).train()
        leaves = problem.leaf_tensors(FEW_REPLICATES, dtype=torch.float32, device=str(simulated.device))
        try:
            for _ in range(2):
                simulated.waits.clear()
                surrogate = estimator(problem.objective(leaves)).sum()
                waits = dict(simulated.waits)
                differentiate(surrogate, leaves)
        except RuntimeError as error:
            if "same device" not in str(error) and "device type for generator" not in str(error):
                raise
            return decide(False, "", _say_what_is_on_the_host(estimator, error))
    named = ", ".join(f"{wait} in {simulated.places[wait]}" for wait in waits)
    times = "once" if sum(waits.values()) == 1 else f"{sum(waits.values())} times"
    cost = f"it waits {times} a step ({named}), and an accelerator is idle meanwhile" if waits else ""
    return decide(True, "; ".join([f"{', '.join(present)}, a simulated accelerator", *([cost] if cost else [])]))


def _say_what_is_on_the_host(estimator: Estimator, error: RuntimeError) -> str:
    """Say which tensor stays on the host: an attribute that is no buffer, or one that a line of code makes."""
    attributes = [
        f"'{name}'"
        for module in estimator.modules()
        for name, value in vars(module).items()
        if isinstance(value, torch.Tensor) and value.device.type == "cpu"
    ]
    if attributes:
        return (
            f"its tensor {' and '.join(attributes)} stays on the host when the estimator goes to a device; make it"
            " a buffer: self.register_buffer(name, tensor)"
        )
    return (
        f"{place_of(error)} makes a tensor or a generator on the host, and the parameters are on a device; make it"
        " there: device=z.device, or torch.zeros_like(z)"
    )


def check_save_and_load(tested: EstimatorUnderTest, problem: SmallProblem) -> CheckResult:
    """Check that a new instance with the saved state gives the same gradients, and trains on to the same state."""
    original = tested.trained(problem)
    saved = _copy_state(original)
    restored = tested.create(problem)
    restored.load_state_dict(saved)
    first, second = (_draw(each.eval(), problem, 16, FEW_REPLICATES) for each in (original, restored))
    for each in (original, restored):
        with seeded(17, CPU):
            train_step(each.train(), problem, None)
    changed = _find_changed(original.state_dict(), restored.state_dict())
    same = all(torch.equal(first[group], second[group]) for group in first) and not changed
    return decide(
        same,
        f"{len(original.state_dict())} tensors of state" if original.state_dict() else "it has no state",
        f"a restored estimator continues differently ({', '.join(changed) or 'its gradients differ'}); register state"
        " as buffers, and learned parts as parameters",
    )


def _draw(estimator: Estimator, problem: SmallProblem, seed: int, count: int) -> Gradients:
    with seeded(seed, CPU):
        return sample_gradients(estimator, problem, count)


def _change_example(problem: SmallProblem, example: int) -> SmallProblem:
    """Change the weights of one example, and its parameters if that does not change the noise of the others."""

    def change(value: Tensor) -> Tensor:
        value = value.clone()
        value[example] = 0.7 * value[example] + 0.3
        return value

    params = {name: change(value) for name, value in problem.params.items()}
    samples = []
    for each in (problem.params, params):
        with seeded(18, CPU):
            samples.append(problem.latents.family(each).sample((DRAWS,)))  # so many that some are rejected
    others = [index for index in range(problem.examples) if index != example]
    same_noise = torch.equal(samples[0][:, others], samples[1][:, others])
    return dataclasses.replace(
        problem, params=params if same_noise else problem.params, weights=change(problem.weights)
    )


def _find_spread(tested: EstimatorUnderTest, problem: SmallProblem) -> Gradients:
    """Return the standard deviation of every coordinate of the gradient by group, (B, ...)."""
    drawn = _draw(tested.prepared(problem), problem, 19, MANY_REPLICATES)
    return {group: gradient.std(0) for group, gradient in drawn.items()}


def _draw_moments(tested: EstimatorUnderTest, problem: SmallProblem, spread: Gradients, seed: int) -> RunningMoments:
    """Return the moments of the gradient, and of its tanh in units of a spread that all examples share."""
    moments = RunningMoments()

    def draw_both(estimator: Estimator, problem: SmallProblem, count: int) -> Gradients:
        drawn = sample_gradients(estimator, problem, count)
        return {**drawn, **{f"tanh {group}": (drawn[group] / spread[group]).tanh() for group in drawn}}

    with seeded(seed, CPU):
        draw_until(DRAWS, moments, tested.prepared(problem), problem, draw_both)
    return moments


def _copy_state(estimator: Estimator) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in estimator.state_dict().items()}


def _find_changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    """Return the names of state that is only in one of the two, or differs in a bit."""
    names = before.keys() | after.keys()
    return sorted(n for n in names if n not in before or n not in after or not torch.equal(before[n], after[n]))
