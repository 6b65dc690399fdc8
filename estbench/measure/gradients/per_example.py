"""The fast path: all replicates in one forward and one backward call, and no weight gradient of any of them.

The variational parameters are expanded to (n, B, D) and the estimator is called once for a chunk of n replicates. The
decoder's layers are watched on the way; the encoder, which ran once, has the gradients of all replicates pulled back
through it together. Before use, the result is compared with autograd's on a few examples.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from estbench.estimators import Estimator, surrogate_of
from estbench.measure.gradients._linear import (
    Call,
    Factors,
    Layer,
    NotPerExampleError,
    factors_of,
    is_understood,
    recorded,
    spread_of,
)
from estbench.measure.gradients.differentiation import gradients
from estbench.measure.gradients.moments import Examples, Tally
from estbench.problems import Problem
from estbench.randomness import seeded

Groups = Mapping[str, list[nn.Parameter]]
Place = tuple[nn.Module, str]
# Numbers in the gradients of one chunk, where they are formed.
LARGEST = 2**25
# Examples of a rehearsal.
REHEARSED = 8


class Plan:
    """Which layers and which other weights each group consists of; ``NotPerExampleError`` for what is not understood.

    Understood are linear layers, convolutions, and weights that belong to a module of the user or to the problem.
    """

    def __init__(self, problem: Problem, groups: Groups) -> None:
        places = [
            (parameter, (module, name))
            for module in problem.modules()
            for name, parameter in module.named_parameters(recurse=False)
        ]
        owners = dict(places)
        uses = Counter(parameter for parameter, _ in places)
        members = Counter(parameter for parameters in groups.values() for parameter in parameters)
        self.layers: dict[str, list[Layer]] = {}
        self.loose: dict[str, list[Place]] = {}
        for group, parameters in groups.items():
            if not set(parameters) <= owners.keys():
                raise NotPerExampleError(f"group '{group}' has weights that no module owns")
            if any(uses[parameter] > 1 or members[parameter] > 1 for parameter in parameters):
                raise NotPerExampleError(f"group '{group}' has weights that several modules or groups share")
            modules = dict.fromkeys(owners[parameter][0] for parameter in parameters)
            layers = [module for module in modules if is_understood(module)]
            if not {parameter for layer in layers for parameter in layer.parameters()} <= set(parameters):
                raise NotPerExampleError(f"group '{group}' has only a part of a layer's weights")
            for module in modules:
                if module not in layers and _is_torchs_own(module):
                    raise NotPerExampleError(f"group '{group}' has a layer of another kind: {type(module).__name__}")
            self.layers[group] = layers  # type: ignore[assignment]
            self.loose[group] = [owners[parameter] for parameter in parameters if owners[parameter][0] not in layers]

    def weights(self, group: str) -> list[nn.Parameter]:
        """A group's weights in the order of its gradients here: layer by layer, and then the others."""
        return [
            *(weight for layer in self.layers[group] for weight in layer.parameters()),
            *(getattr(*place) for place in self.loose[group]),
        ]


@dataclass(frozen=True)
class Drawn:
    """A chunk of replicates: per-example gradients at the variational parameters, and what the weights' need."""

    count: int  # n
    params: dict[str, Tensor]  # (n, B, ...)
    factors: dict[Layer, Factors]
    loose: dict[Place, Tensor]  # (n, B, ...)


class FastPath:
    """Draws chunks of replicates; the encoder runs once, when it is made. Needs gradients to be on."""

    def __init__(self, problem: Problem, estimator: Estimator, batch: Tensor, groups: Groups) -> None:
        self.problem, self.estimator, self.batch, self.groups = problem, estimator, batch, groups
        self.plan = Plan(problem, groups)
        self.copied = sum(_numel([getattr(*place)]) for places in self.plan.loose.values() for place in places)
        if 2 * len(batch) * self.copied > LARGEST:
            raise NotPerExampleError("a copy of its weights for each example would take too much memory")
        self.watched = [layer for layers in self.plan.layers.values() for layer in layers]
        with recorded(self.watched) as self.before:
            self.params = dict(problem.encode(batch))

    def draw(self, count: int) -> Drawn:
        """``count`` replicates, with torch's current random state."""
        expanded = {
            name: value.detach().expand(count, *value.shape).clone().requires_grad_()
            for name, value in self.params.items()
        }
        places = [place for group in self.plan.loose.values() for place in group]
        copies = [self._copies(place, count) for place in places]
        with recorded(self.watched) as after, _replaced(places, copies):
            surrogate = surrogate_of(self.estimator, self.problem.objective(expanded, self.batch))
        sources: list[Any] = [*expanded.values(), *copies, *(call.output for call in after)]
        found: list[Tensor | None] = [None] * len(sources)
        if surrogate.requires_grad:
            found = [*torch.autograd.grad(surrogate.sum(), sources, allow_unused=True)]
        leaves = [*expanded.values(), *copies]
        own = [torch.zeros_like(leaf) if row is None else row for leaf, row in zip(leaves, found, strict=False)]
        params = dict(zip(expanded, own, strict=False))
        loose = dict(zip(places, own[len(expanded) :], strict=True))
        calls = [*_used(after, found[len(leaves) :]), *self._pulled_back(params)]
        by_layer: dict[Layer, list[tuple[Call, Tensor]]] = {}
        for call, delta in calls:
            by_layer.setdefault(call.layer, []).append((call, delta))
        factors = {layer: factors_of(own, count, len(self.batch)) for layer, own in by_layer.items()}
        return Drawn(count, params, factors, loose)

    def _pulled_back(self, params: Mapping[str, Tensor]) -> list[tuple[Call, Tensor]]:
        """Gradients at the outputs of the encoder's layers, of all replicates together: (n, B, ...) each."""
        ends = [(value, params[name]) for name, value in self.params.items() if value.requires_grad]
        if not ends or not self.before:
            return []
        found = torch.autograd.grad(
            [end for end, _ in ends],
            [call.output for call in self.before],
            [gradient for _, gradient in ends],
            retain_graph=True,
            is_grads_batched=True,
            allow_unused=True,
        )
        return _used(self.before, found)

    def _copies(self, place: Place, count: int) -> Tensor:
        weight: Tensor = getattr(*place).detach()
        return weight.expand(count, len(self.batch), *weight.shape).clone().requires_grad_()

    def tallies(self) -> dict[tuple[str, str], Tally]:
        """An empty tally of each variational parameter and of each group."""
        like = next(iter(self.params.values())).detach()
        sizes = {("params", name): value.numel() for name, value in self.params.items()}
        sizes |= {("weights", group): _numel(self.plan.weights(group)) for group in self.plan.layers}
        examples = len(self.batch)
        return {
            place: Tally(size, like, examples=examples, pooled=place[0] == "weights") for place, size in sizes.items()
        }

    def tally(self, drawn: Drawn, tallies: Mapping[tuple[str, str], Tally]) -> None:
        """Take a chunk into the tallies by space and group."""
        examples = len(self.batch)
        for name, gradient in drawn.params.items():
            add_params(tallies["params", name], gradient)
        for group in self.plan.layers:
            tally = tallies["weights", group]
            noise, shared = self._of_group(drawn, group, tally.slot, across=tally.wants_across)
            tally.add(drawn.count, noise.sum(1, dtype=torch.float64) / examples**2, shared)

    def _of_group(self, drawn: Drawn, group: str, total: Tensor, *, across: bool) -> tuple[Tensor, Examples]:
        """Half differences, (n // 2, B), and what examples share, over a group's parts; its sum goes to ``total``."""
        spreads = []
        for part, segment in self.segments(group, total):
            if isinstance(part, nn.Module):
                if part in drawn.factors:
                    drawn.factors[part].add_to(segment)
                    spreads.append(drawn.factors[part].spread(across=across))
            else:
                gradient = drawn.loose[part].flatten(2)
                segment.add_(gradient.mean(1).sum(0))
                spreads.append(spread_of(gradient, across=across))
        if not spreads:  # nothing depends on the group
            params = next(iter(drawn.params.values()))
            spreads.append(spread_of(params.new_zeros(*params.shape[:2], 1), across=across))
        noise, shared = spreads[0]
        for more, examples in spreads[1:]:
            noise, shared = noise + more, shared + examples
        return noise, shared

    def segments(self, group: str, total: Tensor) -> Iterator[tuple[Layer | Place, Tensor]]:
        """A group's layers and other weights, each with its part of a vector of (P,)."""
        parts = [*self.plan.layers[group], *self.plan.loose[group]]
        sizes = [_numel(part.parameters()) if isinstance(part, nn.Module) else getattr(*part).numel() for part in parts]
        yield from zip(parts, torch.split(total, sizes), strict=True)


def add_params(tally: Tally, gradient: Tensor, *, across: bool = True) -> None:
    """Take in a chunk of the examples' own gradients at one variational parameter, (n, B, ...).

    Without ``across`` nothing is kept for the data's variance, because the examples' gradients are not their own.
    """
    gradient = gradient.flatten(2)
    examples = gradient.shape[1]
    tally.slot.add_(gradient.sum(0).flatten(), alpha=1 / examples)
    noise, shared = spread_of(gradient, across=across)
    tally.add(len(gradient), noise.sum(1, dtype=torch.float64) / examples**2, shared)


def _used(calls: Sequence[Call], deltas: Sequence[Tensor | None]) -> list[tuple[Call, Tensor]]:
    """The calls that the surrogate depends on, each with the gradient at its output."""
    return [(call, delta) for call, delta in zip(calls, deltas, strict=True) if delta is not None]


def _numel(weights: Iterable[Tensor]) -> int:
    return sum(weight.numel() for weight in weights)


def _is_torchs_own(module: nn.Module) -> bool:
    """Whether a module with weights is one of torch's layers, or of a parametrization, and checks their shapes."""
    return type(module).__module__.startswith("torch.") and not isinstance(module, nn.ParameterList | nn.ParameterDict)


def rehearse(path: FastPath, seed: int) -> int:
    """The largest chunk; ``NotPerExampleError`` unless the layers give the gradient that autograd gives.

    Two replicates of a few examples, and a random weight for each surrogate: the weighted sum of the per-example
    gradients must be the gradient of the weighted sum. That fails where a weight acts outside of its layer, and where
    an example's surrogate depends on another example or replicate.
    """
    problem, batch, count = path.problem, path.batch[:REHEARSED], 2
    full, path = len(path.batch), FastPath(problem, path.estimator, batch, path.groups)
    with seeded(seed, problem.device):
        drawn = path.draw(count)
    with seeded(seed, problem.device):
        expanded = {name: value.expand(count, *value.shape) for name, value in problem.encode(batch).items()}
        surrogate = surrogate_of(path.estimator, problem.objective(expanded, batch))
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(surrogate.shape, generator=generator, dtype=torch.float64).to(surrogate)
    weights = {group: path.plan.weights(group) for group in path.plan.layers}
    expected = gradients((surrogate * chosen).sum(), [weight for own in weights.values() for weight in own])
    finfo = torch.finfo(surrogate.dtype)
    # What cancels within a group is rounding, and that is of the size of the whole.
    rounding = 100 * finfo.eps * float(torch.stack([part.norm() for part in expected]).norm())
    parts = iter(expected)
    for group, own in weights.items():
        wanted = torch.cat([next(parts).flatten() for _ in own])
        found = torch.zeros_like(wanted)
        for part, segment in path.segments(group, found):
            if not isinstance(part, nn.Module):
                segment.copy_(torch.einsum("nb,nb...->...", chosen, drawn.loose[part]).flatten())
            elif part in drawn.factors:
                drawn.factors[part].weighted(chosen * chosen.shape[1]).add_to(segment)
        tolerance = finfo.eps**0.5 * float(wanted.norm()) + rounding
        if not float((wanted - found).norm()) <= tolerance:
            raise NotPerExampleError(
                f"group '{group}' mixes examples, has noise of its own, or uses a weight outside of its layer"
            )
    explicit = [factors.numbers // factors.examples // count for factors in drawn.factors.values() if factors.explicit]
    largest = LARGEST // max(1, max(explicit, default=0) * full, path.copied * full)
    if largest < count:
        raise NotPerExampleError("the examples' own gradients of a layer would take too much memory")
    return largest


@contextlib.contextmanager
def _replaced(places: list[Place], values: list[Tensor]) -> Iterator[None]:
    """Let modules see other tensors in place of their weights; the order of their weights stays as it is."""
    kept = [module._parameters[name] for module, name in places]  # noqa: SLF001  (setattr would refuse a plain tensor)
    try:
        for (module, name), value in zip(places, values, strict=True):
            module._parameters[name] = value  # type: ignore[assignment]  # noqa: SLF001
        yield
    finally:
        for (module, name), weight in zip(places, kept, strict=True):
            module._parameters[name] = weight  # noqa: SLF001
