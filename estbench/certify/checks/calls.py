r"""One call of an estimator after another: each draws noise of its own, and no call remembers the one before.

In eval mode an estimator is a function of its state, the objective and torch's random state: to the bit. In training
its state moves, so calls are compared as distributions: over many copies of the examples, the gradients of one call say
nothing about those of another. What all copies of a call share (a moving average) is taken out first.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from estbench.certify.sampling import Gradients, gradients
from estbench.certify.settings.base import Setting
from estbench.certify.subject import Subject
from estbench.certify.verdict import Verdict, threshold, verdict
from estbench.estimators import Estimator
from estbench.randomness import seeded

CPU = torch.device("cpu")
COPIES = 2_000
CALLS = 6  # in succession
LAGS = (1, 2, 3)
MANY = 256
SEEDS = (6, 7, 6, 6, 7)


def own_noise(subject: Subject, setting: Setting) -> Verdict:
    """Each replicate and each example of each call draws noise of its own, from torch's generator."""
    twins = {name: value[:1].expand_as(value) for name, value in setting.params.items()}
    alike = dataclasses.replace(setting, params=twins, weights=setting.weights[:1].expand_as(setting.weights))
    for plain in (False, True):
        for training in (False, True):
            estimator = subject.prepared(setting).train(training)
            first = _call(estimator, alike, 6, plain=plain)
            second = _call(subject.prepared(setting).train(training), alike, 7, plain=plain)
            replicates, examples = (
                all(torch.equal(g, g.narrow(axis, 0, 1).expand_as(g)) for g in first.values()) for axis in (0, 1)
            )
            same = _equal(first, second)
            mode = f"{'training' if training else 'eval'} mode, {'one plain batch' if plain else 'replicates'}"
            if not same and (replicates or examples):
                shared = " and ".join(
                    what for what, is_so in (("replicates", replicates), ("examples", examples)) if is_so
                )
                said = f"all {shared} of one call share their noise; draw it with shape (S, *batch_shape, ...)"
                return verdict(False, mode, said)
            if same and not (replicates and examples):
                said = "two seeds give the same noise in a call; draw from torch's generator, and never seed or cache"
                return verdict(False, mode, said)
    noisy = not same
    return verdict(True, f"{MANY} replicates of equal examples differ, and two seeds" if noisy else "it draws no noise")


def no_memory(subject: Subject, setting: Setting) -> Verdict:
    """In eval mode the same seed gives the same bits whatever was called before, and the next call gives others."""
    for plain in (False, True):
        estimator = subject.prepared(setting)
        found: dict[int, Gradients] = {}
        for seed in SEEDS:
            with seeded(seed, CPU):
                here = gradients(estimator, setting, MANY, plain=plain)
                after = gradients(estimator, setting, MANY, plain=plain)
            if not _equal(found.setdefault(seed, here), here):
                said = "in eval mode the same seed gives another gradient after other calls; keep nothing from a call"
                return verdict(False, "", said)
            varies = any(bool((g != g[:1]).any()) for g in here.values())
            if varies and _equal(here, after):
                return verdict(False, "", "two calls in succession give the same gradient; draw new noise in each")
    return verdict(True, f"{len(SEEDS)} calls under {len(set(SEEDS))} seeds")


def independent(subject: Subject, setting: Setting) -> Verdict:
    """Successive calls, calls under two seeds and neighbours in a batch are uncorrelated, and so are their sizes."""
    tests = (
        4 * (len(LAGS) + 2) * sum(leaf.numel() for each in subject.representatives for leaf in each.leaves().values())
    )
    bound, worst, where = threshold("independent calls", tests), 0.0, ""
    for training in (False, True):
        chains = []
        for seed in (23, 24):
            estimator = subject.prepared(setting).train(training)
            with seeded(seed, CPU):
                chains.append([_features(gradients(estimator, setting, COPIES, plain=training)) for _ in range(CALLS)])
        first, second = chains
        pairs = {f"calls {lag} apart": list(zip(first, first[lag:], strict=False)) for lag in LAGS}
        pairs["calls under two seeds"] = list(zip(first, second, strict=True))
        pairs["neighbours in a batch"] = [(call, call.roll(1, 0)) for call in first]
        for what, each in pairs.items():
            z = _correlation(each)
            if z > worst:
                worst, where = z, f"{what} ({'training' if training else 'eval'} mode)"
    return verdict(
        worst <= bound,
        f"max |z| = {worst:.2f}, bound {bound:.2f}, n = {COPIES:,} copies of {CALLS} calls",
        f"the gradients of {where} depend on each other (z = {worst:.1f}); draw new noise in each call, for each"
        " example, and keep none of it",
        worst / bound,
    )


def _call(estimator: Estimator, setting: Setting, seed: int, *, plain: bool) -> Gradients:
    with seeded(seed, CPU):
        return gradients(estimator, setting, MANY, plain=plain)


def _equal(first: Gradients, second: Gradients) -> bool:
    return all(torch.equal(first[group], second[group]) for group in first)


def _features(found: Gradients) -> Tensor:
    """Bounded functions of each coordinate, (copies, F), of mean zero over the copies: its side, and its size."""
    flat = torch.cat([gradient.flatten(1) for gradient in found.values()], 1)
    centred = flat - flat.mean(0)
    spread = centred.std(0)
    # What does not vary beyond rounding says nothing.
    side = torch.where(spread > 1e-9 * flat.abs().amax(0), centred / spread, 0.0).nan_to_num().tanh()
    both = torch.cat([side, side.abs()], 1)
    return both - both.mean(0)


def _correlation(pairs: list[tuple[Tensor, Tensor]]) -> float:
    """The largest |z| of the mean products of features.

    The error is the larger one of the products' own and of that of independent features, because products of rare
    events may vary too little where there are few.
    """
    products = torch.stack([first * second for first, second in pairs]).mean(0)
    independent = torch.stack([first.var(0) * second.var(0) for first, second in pairs]).mean(0) / len(pairs)
    error = (torch.maximum(products.var(0), independent) / len(products)).sqrt()
    return float(torch.where(error > 0, products.mean(0).abs() / error, 0.0).nan_to_num().max())
