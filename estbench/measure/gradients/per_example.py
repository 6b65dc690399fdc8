"""The fast path: all replicates in one forward and one backward call, and no weight gradient of any of them.

The variational parameters are expanded to (n, B, D) and the estimator is called once for a chunk of n replicates, while
the calls of the decoder's layers are recorded. The encoder runs once, and the gradients of all replicates go back
through it together. Before use, the per-layer gradients are checked against autograd on 8 examples.
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
    squared_deviations_of,
)
from estbench.measure.gradients.differentiation import gradients
from estbench.measure.gradients.moments import ExampleMoments, MomentAccumulator
from estbench.problems import Problem
from estbench.randomness import seeded

Groups = Mapping[str, list[nn.Parameter]]
ParameterRef = tuple[nn.Module, str]
# The most numbers in the gradients of one chunk, if these are formed.
MOST_NUMBERS = 2**25
# Examples of the check against autograd.
CHECK_EXAMPLES = 8


class LayerMap:
    """The layers and the other weights of each group; ``NotPerExampleError`` for a weight that is not understood.

    Linear layers and convolutions are understood, and weights that belong to a module of the user or to the problem.
    """

    def __init__(self, problem: Problem, groups: Groups) -> None:
        refs = [
            (parameter, (module, name))
            for module in problem.modules()
            for name, parameter in module.named_parameters(recurse=False)
        ]
        owners = dict(refs)
        uses = Counter(parameter for parameter, _ in refs)
        members = Counter(parameter for parameters in groups.values() for parameter in parameters)
        self.layers: dict[str, list[Layer]] = {}
        self.other_parameters: dict[str, list[ParameterRef]] = {}
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
            self.other_parameters[group] = [
                owners[parameter] for parameter in parameters if owners[parameter][0] not in layers
            ]

    def weights(self, group: str) -> list[nn.Parameter]:
        """Return a group's weights in the order of its gradients here: layer by layer, and then the others."""
        return [
            *(weight for layer in self.layers[group] for weight in layer.parameters()),
            *(getattr(*ref) for ref in self.other_parameters[group]),
        ]


@dataclass(frozen=True)
class ReplicateChunk:
    """A chunk of replicates: per-example gradients at the variational parameters, at layers and at other weights."""

    count: int  # n
    params: dict[str, Tensor]  # (n, B, ...)
    factors: dict[Layer, Factors]
    other_parameters: dict[ParameterRef, Tensor]  # (n, B, ...)


class FastPath:
    """Draws chunks of replicates; the encoder runs once, in the constructor. Gradients must be on."""

    def __init__(self, problem: Problem, estimator: Estimator, batch: Tensor, groups: Groups) -> None:
        self.problem, self.estimator, self.batch, self.groups = problem, estimator, batch, groups
        self.layer_map = LayerMap(problem, groups)
        self.cancelling: set[Layer] = set()  # layers whose replicates are so much alike that float32 is not enough
        self.copied = sum(_numel([getattr(*ref)]) for refs in self.layer_map.other_parameters.values() for ref in refs)
        if 2 * len(batch) * self.copied > MOST_NUMBERS:
            raise NotPerExampleError("a copy of its weights for each example would take too much memory")
        self.layers = [layer for layers in self.layer_map.layers.values() for layer in layers]
        with recorded(self.layers) as self.encoder_calls:
            self.params = dict(problem.encode(batch))

    def draw_chunk(self, count: int) -> ReplicateChunk:
        """Draw ``count`` replicates, with torch's current random state."""
        expanded = {
            name: value.detach().expand(count, *value.shape).clone().requires_grad_()
            for name, value in self.params.items()
        }
        refs = [ref for group in self.layer_map.other_parameters.values() for ref in group]
        copies = [self._copies(ref, count) for ref in refs]
        with recorded(self.layers) as decoder_calls, _replaced(refs, copies):
            surrogate = surrogate_of(self.estimator, self.problem.objective(expanded, self.batch))
        sources: list[Any] = [*expanded.values(), *copies, *(call.output for call in decoder_calls)]
        derivatives: list[Tensor | None] = [None] * len(sources)
        if surrogate.requires_grad:
            derivatives = [*torch.autograd.grad(surrogate.sum(), sources, allow_unused=True)]
        leaves = [*expanded.values(), *copies]
        at_leaves = [
            torch.zeros_like(leaf) if row is None else row for leaf, row in zip(leaves, derivatives, strict=False)
        ]
        params = dict(zip(expanded, at_leaves, strict=False))
        other_parameters = dict(zip(refs, at_leaves[len(expanded) :], strict=True))
        calls = [*_used(decoder_calls, derivatives[len(leaves) :]), *self._pull_back(params)]
        by_layer: dict[Layer, list[tuple[Call, Tensor]]] = {}
        for call, delta in calls:
            by_layer.setdefault(call.layer, []).append((call, delta))
        factors = {layer: factors_of(own, count, len(self.batch)) for layer, own in by_layer.items()}
        return ReplicateChunk(count, params, factors, other_parameters)

    def _pull_back(self, params: Mapping[str, Tensor]) -> list[tuple[Call, Tensor]]:
        """Return the gradients at the outputs of the encoder's layers, of all replicates together: (n, B, ...) each."""
        ends = [(value, params[name]) for name, value in self.params.items() if value.requires_grad]
        if not ends or not self.encoder_calls:
            return []
        derivatives = torch.autograd.grad(
            [end for end, _ in ends],
            [call.output for call in self.encoder_calls],
            [gradient for _, gradient in ends],
            retain_graph=True,
            is_grads_batched=True,
            allow_unused=True,
        )
        return _used(self.encoder_calls, derivatives)

    def _copies(self, ref: ParameterRef, count: int) -> Tensor:
        weight: Tensor = getattr(*ref).detach()
        return weight.expand(count, len(self.batch), *weight.shape).clone().requires_grad_()

    def new_accumulators(self) -> dict[tuple[str, str], MomentAccumulator]:
        """Return an empty accumulator for each variational parameter and for each group."""
        like = next(iter(self.params.values())).detach()
        sizes = {("params", name): value.numel() for name, value in self.params.items()}
        sizes |= {("weights", group): _numel(self.layer_map.weights(group)) for group in self.layer_map.layers}
        examples = len(self.batch)
        return {
            place: MomentAccumulator(size, like, examples=examples, pooled=place[0] == "weights")
            for place, size in sizes.items()
        }

    def accumulate(self, chunk: ReplicateChunk, accumulators: Mapping[tuple[str, str], MomentAccumulator]) -> None:
        """Take a chunk into the accumulators by space and group."""
        examples = len(self.batch)
        for name, gradient in chunk.params.items():
            add_params_chunk(accumulators["params", name], gradient)
        for group in self.layer_map.layers:
            accumulator = accumulators["weights", group]
            noise, shared = self._of_group(chunk, group, accumulator.next_sum, cross=accumulator.needs_cross_products)
            accumulator.add(chunk.count, noise.sum(1, dtype=torch.float64) / examples**2, shared)

    def _of_group(
        self, chunk: ReplicateChunk, group: str, total: Tensor, *, cross: bool
    ) -> tuple[Tensor, ExampleMoments]:
        """Return half differences, (n // 2, B), and example moments over a group's parts; add its sum to ``total``."""
        moments = []
        for part, segment in self.segments(group, total):
            if isinstance(part, nn.Module):
                if part in chunk.factors:
                    chunk.factors[part].add_to(segment)
                    precise = part in self.cancelling
                    moments.append(chunk.factors[part].squared_deviations(cross=cross, precise=precise))
            else:
                gradient = chunk.other_parameters[part].flatten(2)
                segment.add_(gradient.mean(1).sum(0))
                moments.append(squared_deviations_of(gradient, cross=cross))
        if not moments:  # nothing depends on the group
            params = next(iter(chunk.params.values()))
            moments.append(squared_deviations_of(params.new_zeros(*params.shape[:2], 1), cross=cross))
        noise, shared = moments[0]
        for more, examples in moments[1:]:
            noise, shared = noise + more, shared + examples
        return noise, shared

    def segments(self, group: str, total: Tensor) -> Iterator[tuple[Layer | ParameterRef, Tensor]]:
        """Yield a group's layers and other weights, each with its part of a vector of (P,)."""
        parts = [*self.layer_map.layers[group], *self.layer_map.other_parameters[group]]
        sizes = [_numel(part.parameters()) if isinstance(part, nn.Module) else getattr(*part).numel() for part in parts]
        yield from zip(parts, torch.split(total, sizes), strict=True)


def add_params_chunk(accumulator: MomentAccumulator, gradient: Tensor, *, cross: bool = True) -> None:
    """Take in a chunk of the gradients of single examples at one variational parameter, (n, B, ...).

    Without ``cross`` nothing is kept for the data's variance, because a module mixes the examples.
    """
    gradient = gradient.flatten(2)
    examples = gradient.shape[1]
    accumulator.next_sum.add_(gradient.sum(0).flatten(), alpha=1 / examples)
    noise, shared = squared_deviations_of(gradient, cross=cross)
    accumulator.add(len(gradient), noise.sum(1, dtype=torch.float64) / examples**2, shared)


def _used(calls: Sequence[Call], deltas: Sequence[Tensor | None]) -> list[tuple[Call, Tensor]]:
    """Return the calls that the surrogate depends on, each with the gradient at its output."""
    return [(call, delta) for call, delta in zip(calls, deltas, strict=True) if delta is not None]


def _numel(weights: Iterable[Tensor]) -> int:
    return sum(weight.numel() for weight in weights)


def _is_torchs_own(module: nn.Module) -> bool:
    """Return whether a module is one of torch's layers, or of a parametrization, which checks the shapes of weights."""
    return type(module).__module__.startswith("torch.") and not isinstance(module, nn.ParameterList | nn.ParameterDict)


def verify_against_autograd(path: FastPath, seed: int) -> int:
    """Raise ``NotPerExampleError`` unless the layers give autograd's gradient; return the size of the largest chunk.

    With two replicates of a few examples, and a random factor for each surrogate, the weighted sum of the per-example
    gradients must be the gradient of the weighted sum. It is not if a weight acts outside of its layer, or if an
    example's surrogate depends on another example or replicate.
    """
    problem, batch, count, whole = path.problem, path.batch[:CHECK_EXAMPLES], 2, path
    full, path = len(path.batch), FastPath(problem, path.estimator, batch, path.groups)
    with seeded(seed, problem.device):
        chunk = path.draw_chunk(count)
    with seeded(seed, problem.device):
        expanded = {name: value.expand(count, *value.shape) for name, value in problem.encode(batch).items()}
        surrogate = surrogate_of(path.estimator, problem.objective(expanded, batch))
    whole.cancelling = {layer for layer, factors in chunk.factors.items() if factors.cancels()}
    generator = torch.Generator().manual_seed(0)
    chosen = torch.rand(surrogate.shape, generator=generator, dtype=torch.float64).to(surrogate)
    weights = {group: path.layer_map.weights(group) for group in path.layer_map.layers}
    expected = gradients((surrogate * chosen).sum(), [weight for own in weights.values() for weight in own])
    finfo = torch.finfo(surrogate.dtype)
    # Gradients that cancel within a group leave a rounding error of the size of the whole.
    rounding = 100 * finfo.eps * float(torch.stack([part.norm() for part in expected]).norm())
    parts = iter(expected)
    for group, own in weights.items():
        by_autograd = torch.cat([next(parts).flatten() for _ in own])
        by_layer = torch.zeros_like(by_autograd)
        for part, segment in path.segments(group, by_layer):
            if not isinstance(part, nn.Module):
                segment.copy_(torch.einsum("nb,nb...->...", chosen, chunk.other_parameters[part]).flatten())
            elif part in chunk.factors:
                chunk.factors[part].scaled(chosen * chosen.shape[1]).add_to(segment)
        tolerance = finfo.eps**0.5 * float(by_autograd.norm()) + rounding
        if not float((by_autograd - by_layer).norm()) <= tolerance:
            raise NotPerExampleError(
                f"group '{group}' mixes examples, has noise of its own, or uses a weight outside of its layer"
            )
    explicit = [
        factors.gradient_size // factors.examples // count for factors in chunk.factors.values() if factors.materialise
    ]
    largest = MOST_NUMBERS // max(1, max(explicit, default=0) * full, path.copied * full)
    if largest < count:
        raise NotPerExampleError("the examples' own gradients of a layer would take too much memory")
    return largest


@contextlib.contextmanager
def _replaced(refs: list[ParameterRef], values: list[Tensor]) -> Iterator[None]:
    """Let modules use other tensors in place of their weights; the order of their weights does not change."""
    kept = [module._parameters[name] for module, name in refs]  # noqa: SLF001  (setattr would refuse a plain tensor)
    try:
        for (module, name), value in zip(refs, values, strict=True):
            module._parameters[name] = value  # type: ignore[assignment]  # noqa: SLF001
        yield
    finally:
        for (module, name), weight in zip(refs, kept, strict=True):
            module._parameters[name] = weight  # noqa: SLF001
