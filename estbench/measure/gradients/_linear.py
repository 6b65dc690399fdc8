r"""Inner products of per-example weight gradients, without the gradients.

The gradient of one example b in replicate r with respect to a linear layer is a sum of outer products over the T rows
that went through it (samples, or places of a convolution), delta_t a_t^T, with a_t the layer's input, a 1 appended for
the bias, and delta_t the gradient at its output. Inner products of two such gradients need the vectors alone:

    <g, g'> = sum_{t t'} (delta_t . delta'_t') (a_t . a'_t' + 1)

Where the input does not change with the replicate (an encoder) this is (|a|^2 + 1) delta . delta'. Where T is so large
that the outer product is smaller than its factors (a convolution), the gradient itself is formed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from estbench.measure.gradients.moments import Examples, half_differences

Layer = nn.Linear | nn.Conv2d
LAYERS = (nn.Linear, nn.Conv2d)
# Below this share of the squared norms, differences are taken in double precision.
CANCELLING = 1e-3


class NotPerExampleError(Exception):
    """Why the gradients of single examples cannot be read off the layers."""


def is_understood(module: nn.Module) -> bool:
    """Whether a module is a linear or convolutional layer as torch has it: no other forward, no parametrization."""
    return (
        any(isinstance(module, kind) and type(module).forward is kind.forward for kind in LAYERS)
        and "weight" in module._parameters  # noqa: SLF001
        and {name for name, _ in module.named_parameters()} <= {"weight", "bias"}
    )


@dataclass(frozen=True)
class Call:
    """One use of a layer: what went in, how many dimensions came out, and where the gradient of that is."""

    layer: Layer
    input: Tensor
    dims: int
    output: GradientEdge  # of the output as it was then: an activation may overwrite the tensor


@contextlib.contextmanager
def recorded(layers: list[Layer]) -> Iterator[list[Call]]:
    """Note every call of the layers that a gradient can come back through."""
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
    """A layer's inputs and output gradients: (T, n, B, inputs), n = 1 where they do not vary, and (T, n, B, outputs).

    ``places`` is 1, or the number of positions of a convolution, which are part of T.
    """

    inputs: Tensor
    deltas: Tensor
    bias: bool

    @property
    def fixed(self) -> bool:
        """Whether the input is the same in all replicates."""
        return self.inputs.shape[1] == 1 and self.inputs.shape[0] == 1

    @property
    def explicit(self) -> bool:
        """Whether the gradient itself is smaller than its factors."""
        rows, inputs, outputs = self.inputs.shape[0], self.inputs.shape[-1], self.deltas.shape[-1]
        return rows * (inputs + outputs) > inputs * outputs

    @property
    def examples(self) -> int:
        """B."""
        return self.deltas.shape[2]

    @property
    def numbers(self) -> int:
        """Size of all gradients, were they formed."""
        return self.inputs.shape[-1] * self.deltas[0].numel()

    def gradients(self, replicates: slice = slice(None)) -> Tensor:
        """The gradients themselves, (n, B, P)."""
        deltas = self.deltas[:, replicates]
        inputs = self.inputs.expand(-1, self.deltas.shape[1], -1, -1)[:, replicates]
        found = torch.einsum("tnbo,tnbi->nboi", deltas, inputs).flatten(2)
        return torch.cat([found, deltas.sum(0)], -1) if self.bias else found

    def weighted(self, chosen: Tensor) -> Factors:
        """Every gradient times a number of its own, (n, B)."""
        return Factors(self.inputs, self.deltas * chosen[..., None], self.bias)

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
            # As a product: a sum over rows takes torch several times as long on a CPU.
            total[shape[0] * shape[1] :].addmv_(deltas.T, deltas.new_ones(len(deltas)), alpha=scale)

    def spread(self, *, across: bool) -> tuple[Tensor, Examples]:
        """Half the squared differences of the examples' own gradients, (n // 2, B), and what examples share."""
        if self.explicit:
            return spread_of(self.gradients(), across=across)
        if self.fixed:
            return self._fixed_spread()
        noise, raw = self._pairs(self.inputs.dtype)
        if float(noise.sum()) < CANCELLING * float(raw.sum()):
            noise, raw = self._pairs(torch.float64)
        return noise, _examples(noise, raw, self._across() if across else None)

    def _fixed_spread(self) -> tuple[Tensor, Examples]:
        deltas, inputs = self.deltas[0], self.inputs[0, 0].double()
        gram = inputs @ inputs.T + int(self.bias)
        scale = gram.diagonal()
        noise = scale * half_differences(deltas)
        raw = scale * torch.linalg.vector_norm(deltas, dim=-1).square()
        mean = deltas.mean(0).double()
        return noise, _examples(noise, raw, gram * (mean @ mean.T))

    def _pairs(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Half the squared differences, (n // 2, B), and the squared norms, (n, B), from inner products."""
        deltas = self.deltas.to(dtype)
        inputs = self.inputs.to(dtype).expand(-1, deltas.shape[1], -1, -1)
        even = deltas.shape[1] // 2 * 2
        first, second = slice(0, even, 2), slice(1, even, 2)
        raw = self._products(inputs, inputs, deltas, deltas)
        cross = self._products(inputs[:, first], inputs[:, second], deltas[:, first], deltas[:, second])
        return ((raw[first] + raw[second]) / 2 - cross).clamp(min=0), raw

    def _products(self, inputs: Tensor, others: Tensor, deltas: Tensor, other_deltas: Tensor) -> Tensor:
        """Inner products of the gradients of two sets of replicates, one by one: (m, B)."""
        return ((_products(inputs, others) + int(self.bias)) * _products(deltas, other_deltas)).sum((-2, -1))

    def _across(self) -> Tensor:
        """Inner products of different examples in the first replicate, (B, B)."""
        if self.inputs.shape[0] > 1:
            gradients = self.gradients(slice(0, 1))[0].double()
            return gradients @ gradients.T
        inputs, deltas = self.inputs[0, 0].double(), self.deltas[0, 0].double()
        return (inputs @ inputs.T + int(self.bias)) * (deltas @ deltas.T)


def spread_of(gradients: Tensor, *, across: bool) -> tuple[Tensor, Examples]:
    """The same for gradients at hand, (n, B, P)."""
    noise = half_differences(gradients)
    raw = torch.linalg.vector_norm(gradients, dim=-1).square()
    mean = gradients.mean(0).double()
    return noise, _examples(noise, raw, mean @ mean.T if across else None)


def _examples(noise: Tensor, raw: Tensor, across: Tensor | None) -> Examples:
    within = noise.mean(0, dtype=torch.float64)
    return Examples(within, raw.mean(0, dtype=torch.float64) - within, across)


def _products(first: Tensor, second: Tensor) -> Tensor:
    """Inner products of the rows of each replicate and example: (T, m, B, P) twice to (m, B, T, T)."""
    if len(first) == 1:
        return (first * second).sum(-1)[0, ..., None, None]
    return first.movedim(0, 2) @ second.movedim(0, 2).transpose(-2, -1)


def factors_of(calls: list[tuple[Call, Tensor]], replicates: int, examples: int) -> Factors:
    """Factors from all calls of one layer, each with the gradient at its output.

    An output of an encoder is (B, ...) and its gradient (n, B, ...); one of a decoder is (S, n, B, ...), or has these
    dimensions as one.
    """
    parts = [_rows(call, delta, replicates, examples) for call, delta in calls]
    inputs, deltas = ([part[side] for part in parts] for side in (0, 1))
    if len({part.shape[1] for part in inputs}) > 1:
        raise NotPerExampleError("a layer is used both before and after the replicates part")
    if len(parts) == 1:  # cat would copy
        return Factors(inputs[0], deltas[0], calls[0][0].layer.bias is not None)
    return Factors(torch.cat(inputs), torch.cat(deltas), calls[0][0].layer.bias is not None)


def _rows(call: Call, delta: Tensor, replicates: int, examples: int) -> tuple[Tensor, Tensor]:
    layer, inputs = call.layer, call.input
    before = delta.dim() == call.dims + 1  # the gradient alone has replicates
    lead = (1, examples) if before else (replicates, examples)
    if isinstance(layer, nn.Conv2d):
        if layer.groups != 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str) or inputs.dim() != 4:
            raise NotPerExampleError("a convolution is grouped, or pads in an unusual way")
        columns = F.unfold(inputs, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        a = _lead(columns.transpose(1, 2), lead, 2).movedim(-2, 0).flatten(0, 1)
        d = _lead(delta.flatten(-2).transpose(-1, -2), (replicates, examples), 2).movedim(-2, 0).flatten(0, 1)
        return a, d
    return _lead(inputs, lead, 1), _lead(delta, (replicates, examples), 1)


def _lead(rows: Tensor, lead: tuple[int, int], own: int) -> Tensor:
    """Leading dimensions of (T, *lead), whether they were flattened or not; the ``own`` last ones stay."""
    count = rows.shape[: rows.dim() - own].numel()
    if count % (lead[0] * lead[1]):
        raise NotPerExampleError("a layer's rows are not samples x replicates x examples")
    return rows.reshape(-1, *lead, *rows.shape[rows.dim() - own :])
