"""The contract that lets an estimator be trained and probed alike, whatever its formula."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from estbench.certify.sampling import Gradients, Moments, distance, draw, gradients, slopes
from estbench.certify.settings.base import Setting
from estbench.certify.subject import Subject, train_step
from estbench.certify.verdict import Verdict, threshold, verdict
from estbench.estimators import Estimator
from estbench.randomness import seeded

CPU = torch.device("cpu")
ROUNDING = 1e-10  # of the gradient's norm
REPLICATES = 6
MANY = 256
DRAWS = 10_000


def replicates(subject: Subject, setting: Setting) -> Verdict:
    """Any batch dimensions: one surrogate for each example of each replicate, with a gradient of its own."""
    estimator = subject.prepared(setting)
    for leading in ((), (REPLICATES,), (2, 3)):
        leaves = setting.leaves(*leading)
        with seeded(5, CPU):
            surrogate = estimator(setting.objective(leaves))
        expected = (*leading, setting.examples)
        if tuple(surrogate.shape) != expected:
            said = (
                f"the surrogate has shape {tuple(surrogate.shape)} where parameters have batch shape {expected};"
                " average over the sample dimension alone, mean(0), and keep every batch dimension"
            )
            return verdict(False, "", said)
    alone = slopes(surrogate[0, 0].sum(), leaves)
    leaks = [name for name, slope in alone.items() if slope[1:].any() or slope[:, 1:].any()]
    return verdict(
        not leaks,
        f"{len(leading)} further batch dimensions and less, {setting.examples} examples",
        f"the surrogate of one replicate depends on the {', '.join(leaks)} of others;"
        " reduce over the sample dimension alone",
    )


def cross_talk(subject: Subject, setting: Setting) -> Verdict:
    """One example changed, under the same noise: the gradients of the others are the same bits.

    Where the sampler's use of random numbers depends on its parameters (rejection), the weights alone are changed.
    """
    before_in = {mode: _seeded(subject.prepared(setting).train(mode), setting, 8, REPLICATES) for mode in (False, True)}
    for example in range(setting.examples):
        changed = _changed(setting, example)
        for training, before in before_in.items():
            after = _seeded(subject.prepared(setting).train(training), changed, 8, REPLICATES)
            others = [index for index in range(setting.examples) if index != example]
            wrong = [g for g in before if not torch.equal(before[g][:, others], after[g][:, others])]
            if wrong:
                moved = distance(
                    {g: before[g][:, others] for g in wrong}, {g: after[g][:, others] for g in wrong}, setting
                )
                said = (
                    f"example {example} was changed, and the gradient of {', '.join(wrong)} of another one moved by"
                    f" {moved:.2g} of the gradient ({'training' if training else 'eval'} mode). Usual causes: a"
                    " baseline, a normaliser or a sum over the batch; use state from before the step, or the samples"
                    " of the same example"
                )
                return verdict(False, "", said)
    return verdict(True, "other examples' gradients are the same bits, in training and eval mode")


def permutation(subject: Subject, setting: Setting) -> Verdict:
    """The order of a batch does not matter: turned around, the gradients are turned around, in distribution.

    Compared are the means of the gradient and of its tanh (in units of its spread), coordinate by coordinate.
    """
    turned = dataclasses.replace(
        setting,
        params={name: value.flip(0) for name, value in setting.params.items()},
        weights=setting.weights.flip(0),
    )
    spread = {g: s.amax(0).clamp(min=1e-9 * setting.scale(g)) for g, s in _spread(subject, setting).items()}
    first, second = (_squashed(subject, each, spread, seed) for each, seed in ((setting, 9), (turned, 10)))
    z = max(
        float(
            (
                (first.mean[group] - second.mean[group].flip(0)).abs()
                / (first.error[group].square() + second.error[group].flip(0).square())
                .sqrt()
                .clamp(min=ROUNDING * (setting.scale(group.removeprefix("tanh "))))
            ).max()
        )
        for group in first.mean
    )
    bound = threshold("order of the batch", 2 * subject.coordinates)
    return verdict(
        z <= bound,
        f"max |z| = {z:.2f}, bound {bound:.2f}, n = {DRAWS:,}",
        f"with the batch turned around, the gradients of the same examples have another distribution (z = {z:.1f});"
        " treat all places of a batch alike",
        z / bound,
        z=z,
        bound=bound,
        n=DRAWS,
    )


def decoder(subject: Subject, setting: Setting) -> Verdict:
    """A constant added to log p(x|z) comes back in the surrogate exactly once: neither lost nor doubled.

    Its derivative is the sum of the weights that the samples' own gradients have in the decoder's gradient.
    """
    shift = torch.zeros(MANY, setting.examples, dtype=torch.float64, requires_grad=True)
    shifted = dataclasses.replace(setting, integrand=lambda z, w: setting.integrand(z, w) + shift)
    with seeded(4, CPU):
        total = subject.prepared(setting)(shifted.objective(setting.leaves(MANY))).sum()
        weight = slopes(total, {"shift": shift})["shift"]
    mean, error = float(weight.mean()), float(weight.std()) / weight.numel() ** 0.5
    allowed = threshold("decoder gradient", len(subject.settings)) * error + ROUNDING
    cause = "f is detached, or evaluated under no_grad" if mean < 1 else "f's own gradient is added twice"
    return verdict(
        abs(mean - 1) <= allowed,
        f"the samples' weights sum to {mean:.6g}" + (f" +- {error:.1g}, n = {weight.numel()}" if error else ""),
        f"the weights of the samples in the decoder's gradient sum to {mean:.4g}, and to 1 where it is neither lost"
        f" nor doubled. Usual cause: {cause}",
        abs(mean - 1) / allowed,
        sum=mean,
    )


def prior(subject: Subject, setting: Setting) -> Verdict:
    """No parameter of a learned prior is left without a gradient, of an estimator with a declared bias either."""
    found = _seeded(subject.prepared(setting), setting, 20, MANY)
    exact = setting.exact()
    lost = [
        group
        for group in setting.prior
        if bool(((found[group] == 0).all(0) & (exact[group].abs() > ROUNDING * setting.scale(group))).any())
    ]
    return verdict(
        not lost,
        f"{len(setting.prior)} parameters of a learned prior have a gradient",
        f"the gradient of {', '.join(lost)} is lost in all of {MANY} draws; build the prior's terms where gradients"
        " are on",
    )


def frozen(subject: Subject, setting: Setting) -> Verdict:
    """In eval mode nothing of the estimator's own moves."""
    estimator = subject.prepared(setting)
    before = _copied(estimator)
    _seeded(estimator, setting, 11, REPLICATES)
    moved = _moved(before, estimator.state_dict())
    return verdict(
        not moved,
        f"{len(before)} tensors of state stay as they are" if before else "it has no state",
        f"{', '.join(moved)} moved in eval mode; change state only where self.training is true",
    )


def training_mode(subject: Subject, setting: Setting) -> Verdict:
    """What it learns on the side, and what it will remember, does not enter this step's gradient of the model."""
    learning, still = (
        _seeded(subject.prepared(setting).train(mode), setting, 12, REPLICATES) for mode in (True, False)
    )
    error = distance(learning, still, setting)
    return verdict(
        error <= ROUNDING,
        f"training and eval mode agree to {error:.1e}, bound {ROUNDING:.0e}",
        f"under the same noise and state, the gradient in training mode is another than in eval mode, by {error:.2g} of"
        " the gradient. Usual causes: state updated before it is used (a baseline that has seen its sample), or the"
        " loss of a learned part that reaches the model's parameters: detach what it is made from",
        error / ROUNDING,
        error=error,
        bound=ROUNDING,
    )


def precision(subject: Subject, setting: Setting) -> Verdict:
    """It works in single and in double precision, and gives what it was given."""
    for dtype in (torch.float32, torch.float64):
        for training in (False, True):
            estimator = subject.prepared(setting, dtype).train(training)
            leaves = setting.leaves(REPLICATES, dtype=dtype)
            with seeded(13, CPU):
                surrogate = estimator(setting.objective(leaves))
            found = slopes(surrogate.sum(), leaves)
            wrong = [name for name, slope in found.items() if not slope.isfinite().all()]
            if surrogate.dtype != dtype or wrong:
                what = f"the gradient of {', '.join(wrong)} is not finite" if wrong else f"it gives {surrogate.dtype}"
                return verdict(False, "", f"in {dtype}: {what}; make noise and constants like the parameters")
    return verdict(True, "float32 and float64")


def deterministic(subject: Subject, setting: Setting) -> Verdict:
    """Its only noise is torch's: the same seed gives the same bits."""
    first, second = (_seeded(subject.prepared(setting), setting, 14, REPLICATES) for _ in range(2))
    same = all(torch.equal(first[group], second[group]) for group in first)
    return verdict(
        same, "the same seed gives the same bits", "the same seed gives another gradient; draw from torch's generator"
    )


def devices(subject: Subject, setting: Setting) -> Verdict:
    """It runs on every kind of device that is present."""
    present = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    for device in present:
        with seeded(15, torch.device(device)):
            estimator = subject.prepared(setting, torch.float32, device)
            found = gradients(estimator, setting, REPLICATES, dtype=torch.float32, device=device)
        wrong = [name for name, g in found.items() if g.device.type != device or not g.isfinite().all()]
        if wrong:
            return verdict(False, "", f"on {device}: the gradient of {', '.join(wrong)} is elsewhere, or not finite")
    return verdict(True, ", ".join(present))


def save_and_load(subject: Subject, setting: Setting) -> Verdict:
    """What was saved and loaded into a fresh one gives the same gradients, and goes on to the same state."""
    original = subject.trained(setting)
    saved = _copied(original)
    restored = subject.fresh(setting)
    restored.load_state_dict(saved)
    first, second = (_seeded(each.eval(), setting, 16, REPLICATES) for each in (original, restored))
    for each in (original, restored):
        with seeded(17, CPU):
            train_step(each.train(), setting, None)
    moved = _moved(original.state_dict(), restored.state_dict())
    same = all(torch.equal(first[group], second[group]) for group in first) and not moved
    return verdict(
        same,
        f"{len(original.state_dict())} tensors of state" if original.state_dict() else "it has no state",
        f"a restored estimator goes on otherwise ({', '.join(moved) or 'its gradients differ'}); register state as"
        " buffers, learned parts as parameters",
    )


def _seeded(estimator: Estimator, setting: Setting, seed: int, count: int) -> Gradients:
    with seeded(seed, CPU):
        return gradients(estimator, setting, count)


def _changed(setting: Setting, example: int) -> Setting:
    """Another problem in the place of one example; its parameters too, if that leaves the noise of the others alone."""

    def other(value: Tensor) -> Tensor:
        value = value.clone()
        value[example] = 0.7 * value[example] + 0.3
        return value

    params = {name: other(value) for name, value in setting.params.items()}
    samples = []
    for each in (setting.params, params):
        with seeded(18, CPU):
            samples.append(setting.latents.family(each).sample((DRAWS,)))  # enough that some are rejected
    kept = [index for index in range(setting.examples) if index != example]
    same_noise = torch.equal(samples[0][:, kept], samples[1][:, kept])
    return dataclasses.replace(setting, params=params if same_noise else setting.params, weights=other(setting.weights))


def _spread(subject: Subject, setting: Setting) -> Gradients:
    found = _seeded(subject.prepared(setting), setting, 19, MANY)
    return {group: gradient.std(0) for group, gradient in found.items()}


def _squashed(subject: Subject, setting: Setting, spread: Gradients, seed: int) -> Moments:
    """Moments of the gradient, and of its tanh in units of a spread that all examples share."""
    moments = Moments()

    def both(estimator: Estimator, setting: Setting, count: int) -> Gradients:
        found = gradients(estimator, setting, count)
        return {**found, **{f"tanh {group}": (found[group] / spread[group]).tanh() for group in found}}

    with seeded(seed, CPU):
        draw(moments, subject.prepared(setting), setting, DRAWS, both)
    return moments


def _copied(estimator: Estimator) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in estimator.state_dict().items()}


def _moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    """The names of state that is not the same bits, or is not in both."""
    names = before.keys() | after.keys()
    return sorted(n for n in names if n not in before or n not in after or not torch.equal(before[n], after[n]))
