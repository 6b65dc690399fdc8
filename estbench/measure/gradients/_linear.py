r"""Inner products of per-example weight gradients, without the gradients.

The gradient of one example b in replicate r with respect to a linear layer is a sum of outer products over the T rows
that went through it (samples, or places of a convolution), delta_t a_t^T, with a_t the layer's input, a 1 appended for
the bias, and delta_t the gradient at its output. Inner products of two such gradients need only the vectors:

    <g, g'> = sum_{t t'} (delta_t . delta'_t') (a_t . a'_t' + 1)

If the input does not change with the replicate (an encoder) this is (|a|^2 + 1) delta . delta'. If T is so large that
the outer product is smaller than its factors (a convolution), the gradient itself is formed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from estbench.measure.gradients.moments import ExampleMoments, half_differences

Layer = nn.Linear | nn.Conv2d
LAYERS = (nn.Linear, nn.Conv2d)
# Below this share of the squared norms, differences are taken in double precision.
CANCELLING = 1e-3


class NotPerExampleError(Exception):
    """The gradients of single examples cannot be computed from the layers; the message says why."""


def is_understood(module: nn.Module) -> bool:
    """Return whether a module is torch's linear or convolutional layer: no other forward, no parametrization."""
    return (
        any(isinstance(module, kind) and type(module).forward is kind.forward for kind in LAYERS)
        and "weight" in module._parameters  # noqa: SLF001
        and {name for name, _ in module.named_parameters()} <= {"weight", "bias"}
    )


@dataclass(frozen=True)
class Call:
    """One call of a layer: its input, the number of dimensions of its output, and where the gradient of that is."""

    layer: Layer
    input: Tensor
    dims: int
    output: GradientEdge  # of the output as it was then: an activation may overwrite the tensor

    @cached_property
    def gram(self) -> Tensor:
        """The inner products of the inputs of a linear layer, (B, B), in double precision, for all chunks."""
        return gram_of(self.input.flatten(0, -2))


@contextlib.contextmanager
def recorded(layers: list[Layer]) -> Iterator[list[Call]]:
    """Record every call of the layers through which a gradient can come back."""
    calls: list[Call] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if output.requires_grad:
            calls.append(Call(layer, inputs[0].detach(), output.dim(), get_gradient_edge(output)))  # type: ignore[arg-type]

    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class Factors:
    """A layer's inputs, (T, n, B, inputs), n = 1 if they do not vary, and its output gradients, (T, n, B, outputs)."""

    inputs: Tensor
    deltas: Tensor
    bias: bool
    gram: Tensor | None = None  # of fixed inputs, if it is known: ``Call.gram``

    @property
    def fixed(self) -> bool:
        """Whether the input is the same in all replicates."""
        return self.inputs.shape[1] == 1 and self.inputs.shape[0] == 1

    @property
    def materialise(self) -> bool:
        """Whether to form the gradient itself, because it is smaller than its factors."""
        rows, inputs, outputs = self.inputs.shape[0], self.inputs.shape[-1], self.deltas.shape[-1]
        return rows * (inputs + outputs) > inputs * outputs

    @property
    def examples(self) -> int:
        """The number of examples, B."""
        return self.deltas.shape[2]

    @property
    def gradient_size(self) -> int:
        """The size that all gradients together would have, n B P numbers."""
        return self.inputs.shape[-1] * self.deltas[0].numel()

    def gradients(self, replicates: slice = slice(None)) -> Tensor:
        """Return the gradients themselves, (n, B, P)."""
        deltas = self.deltas[:, replicates]
        inputs = self.inputs.expand(-1, self.deltas.shape[1], -1, -1)[:, replicates]
        products = torch.einsum("tnbo,tnbi->nboi", deltas, inputs).flatten(2)
        return torch.cat([products, deltas.sum(0)], -1) if self.bias else products

    def scaled(self, factors: Tensor) -> Factors:
        """Return the factors of each gradient times a number, (n, B)."""
        return Factors(self.inputs, self.deltas * factors[..., None], self.bias)

    def add_to(self, total: Tensor) -> None:
        """Add the gradients of the minibatch mean, summed over replicates, to a vector of (P,)."""
        if self.fixed:
            deltas, inputs = self.deltas[0].sum(0), self.inputs[0, 0]
        else:
            deltas = self.deltas.flatten(0, 2)
            inputs = self.inputs.expand(-1, self.deltas.shape[1], -1, -1).flatten(0, 2)
        shape = (deltas.shape[1], inputs.shape[1])
        scale = 1 / self.deltas.shape[2]
        total[: shape[0] * shape[1]].view(shape).addmm_(deltas.T, inputs, alpha=scale)
        if self.bias:
            # As a product, because torch takes several times as long for a sum over rows on a CPU.
            total[shape[0] * shape[1] :].addmv_(deltas.T, deltas.new_ones(len(deltas)), alpha=scale)

    def cancels(self) -> bool:
        """Return whether replicates are so alike that their differences take double precision; waits for the device."""
        if self.materialise or self.fixed:
            return False
        half_squares, squared_norms = self._pairs(self.inputs.dtype)
        return float(half_squares.sum() / squared_norms.sum()) < CANCELLING

    def squared_deviations(self, *, cross: bool, precise: bool = False) -> tuple[Tensor, ExampleMoments]:
        """Return half the squared differences of pairs of replicates, (n // 2, B), and moments of the examples.

        ``cross`` asks for the inner products of different examples, ``precise`` for differences in double precision.
        """
        if self.materialise:
            return squared_deviations_of(self.gradients(), cross=cross)
        if self.fixed:
            return self._fixed_squared_deviations()
        half_squares, squared_norms = self._pairs(torch.float64 if precise else self.inputs.dtype)
        return half_squares, _examples(half_squares, squared_norms, self._cross_products() if cross else None)

    def _fixed_squared_deviations(self) -> tuple[Tensor, ExampleMoments]:
        deltas = self.deltas[0]
        gram = (gram_of(self.inputs[0, 0]) if self.gram is None else self.gram) + int(self.bias)
        scale = gram.diagonal()
        half_squares = scale * half_differences(deltas)
        squared_norms = scale * torch.linalg.vector_norm(deltas, dim=-1).square()
        mean = deltas.mean(0).double()
        return half_squares, _examples(half_squares, squared_norms, gram * (mean @ mean.T))

    def _pairs(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return half the squared differences, (n // 2, B), and the squared norms, (n, B), from inner products."""
        deltas = self.deltas.to(dtype)
        inputs = self.inputs.to(dtype).expand(-1, deltas.shape[1], -1, -1)
        even = deltas.shape[1] // 2 * 2
        first, second = slice(0, even, 2), slice(1, even, 2)
        squared_norms = self._products(inputs, inputs, deltas, deltas)
        cross = self._products(inputs[:, first], inputs[:, second], deltas[:, first], deltas[:, second])
        return ((squared_norms[first] + squared_norms[second]) / 2 - cross).clamp(min=0), squared_norms

    def _products(self, inputs: Tensor, others: Tensor, deltas: Tensor, other_deltas: Tensor) -> Tensor:
        """Return inner products of the gradients of two sets of replicates, one by one: (m, B)."""
        return ((_products(inputs, others) + int(self.bias)) * _products(deltas, other_deltas)).sum((-2, -1))

    def _cross_products(self) -> Tensor:
        """Return inner products of different examples in the first replicate, (B, B)."""
        if self.inputs.shape[0] > 1:
            gradients = self.gradients(slice(0, 1))[0].double()
            return gradients @ gradients.T
        inputs, deltas = self.inputs[0, 0].double(), self.deltas[0, 0].double()
        return (inputs @ inputs.T + int(self.bias)) * (deltas @ deltas.T)


def squared_deviations_of(gradients: Tensor, *, cross: bool) -> tuple[Tensor, ExampleMoments]:
    """Return the same for gradients that were formed, (n, B, P)."""
    half_squares = half_differences(gradients)
    squared_norms = torch.linalg.vector_norm(gradients, dim=-1).square()
    mean = gradients.mean(0).double()
    return half_squares, _examples(half_squares, squared_norms, mean @ mean.T if cross else None)


def _examples(half_squares: Tensor, squared_norms: Tensor, cross_products: Tensor | None) -> ExampleMoments:
    within = half_squares.mean(0, dtype=torch.float64)
    return ExampleMoments(within, squared_norms.mean(0, dtype=torch.float64) - within, cross_products)


def gram_of(rows: Tensor) -> Tensor:
    """Return the inner products of the rows of a matrix in double precision."""
    rows = rows.double()
    return rows @ rows.T


def _products(first: Tensor, second: Tensor) -> Tensor:
    """Return inner products of the rows of each replicate and example: (T, m, B, P) twice to (m, B, T, T)."""
    if len(first) == 1:
        products = torch.linalg.vector_norm(first, dim=-1).square() if first is second else (first * second).sum(-1)
        return products[0, ..., None, None]
    return first.movedim(0, 2) @ second.movedim(0, 2).transpose(-2, -1)


def factors_of(calls: list[tuple[Call, Tensor]], replicates: int, examples: int) -> Factors:
    """Return the factors from all calls of one layer, each with the gradient at its output.

    An output of an encoder is (B, ...) and its gradient (n, B, ...); one of a decoder is (S, n, B, ...), or has these
    dimensions as one.
    """
    parts = [_to_factor_rows(call, delta, replicates, examples) for call, delta in calls]
    inputs, deltas = ([part[side] for part in parts] for side in (0, 1))
    if len({part.shape[1] for part in inputs}) > 1:
        raise NotPerExampleError("a layer is used both before and after the replicates part")
    call, bias = calls[0][0], calls[0][0].layer.bias is not None
    if len(parts) > 1:
        return Factors(torch.cat(inputs), torch.cat(deltas), bias)
    factors = Factors(inputs[0], deltas[0], bias)  # cat would copy
    return replace(factors, gram=call.gram) if factors.fixed and isinstance(call.layer, nn.Linear) else factors


def _to_factor_rows(call: Call, delta: Tensor, replicates: int, examples: int) -> tuple[Tensor, Tensor]:
    layer, inputs = call.layer, call.input
    before = delta.dim() == call.dims + 1  # only the gradient has replicates
    lead = (1, examples) if before else (replicates, examples)
    if isinstance(layer, nn.Conv2d):
        if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str) or inputs.dim() != 4:
            raise NotPerExampleError("a convolution is grouped, or pads in an unusual way")
        columns = F.unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        a = _split_leading_dims(columns.transpose(1, 2), lead, 2).movedim(-2, 0).flatten(0, 1)
        d = (
            _split_leading_dims(delta.flatten(-2).transpose(-1, -2), (replicates, examples), 2)
            .movedim(-2, 0)
            .flatten(0, 1)
        )
        return a, d
    return _split_leading_dims(inputs, lead, 1), _split_leading_dims(delta, (replicates, examples), 1)


def _split_leading_dims(rows: Tensor, lead: tuple[int, int], own: int) -> Tensor:
    """Return rows with leading dimensions (T, *lead), which may be flattened; the ``own`` last dimensions stay."""
    count = rows.shape[: rows.dim() - own].numel()
    if count % (lead[0] * lead[1]):
        raise NotPerExampleError("a layer's rows are not samples x replicates x examples")
    return rows.reshape(-1, *lead, *rows.shape[rows.dim() - own :])
