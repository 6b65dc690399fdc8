"""Networks of VAEs: an encoder and a decoder for images of any size, by name, open to plugins."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from pydantic import AfterValidator, Field
from torch import Tensor, nn

from estbench.datasets import info as dataset_info
from estbench.errors import EstbenchError
from estbench.options import BaseOptions
from estbench.registry import Registry

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
}
Activation = Literal["tanh", "relu", "leaky_relu", "elu"]
Size = Annotated[int, Field(ge=1, le=10**6)]


def _known(dataset: str) -> str:
    dataset_info(dataset)
    return dataset


ImageData = Annotated[str, AfterValidator(_known)]  # the name of a dataset, or file:PATH


class Sizes(NamedTuple):
    """The sizes that a network must have."""

    image: tuple[int, int, int]  # channels, height and width of the images that the encoder takes
    params: int  # numbers that the encoder gives for an image: the variational parameters
    latents: int  # numbers that the decoder takes for a sample
    outputs: tuple[int, int, int]  # channels, height and width of what the decoder gives for a sample


Network = Callable[..., tuple[nn.Module, nn.Module]]
N = TypeVar("N", bound=Network)
NETWORKS: Registry[Network] = Registry("network")


def register_network(name: str, options: type[BaseOptions] | None = None, *, flat: bool = False) -> Callable[[N], N]:
    """Return a decorator that registers a function as the network ``name``: ``vae[network=name]``.

    The function takes ``Sizes`` and returns an encoder, (N, C, H, W) to (N, params), and a decoder, (N, latents) to
    N times the numbers of ``outputs``, in any shape. Any modules will do. Samples and replicates come to them as
    further rows, so N is not always the size of a minibatch.

    Parameters
    ----------
    name
        Short and lower-case.
    options
        A model of the network's options, whose instance is then a second argument: ``vae[network=name[width=8]]``.
    flat
        Whether both modules take vectors with any leading dimensions, (*B, X), in place of (N, C, H, W).

    Examples
    --------
    >>> from torch import nn
    >>> from estbench import problems
    >>> @problems.register_network("halves")
    ... def halves(sizes):
    ...     channels, height, width = sizes.image
    ...     small = (4, height // 2, width // 2)
    ...     count = 4 * (height // 2) * (width // 2)
    ...     encoder = nn.Sequential(
    ...         nn.Conv2d(channels, 4, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(count, sizes.params)
    ...     )
    ...     decoder = nn.Sequential(
    ...         nn.Linear(sizes.latents, count),
    ...         nn.Unflatten(1, small),
    ...         nn.ReLU(),
    ...         nn.ConvTranspose2d(4, sizes.outputs[0], 2, stride=2),
    ...     )
    ...     return encoder, decoder
    >>> problems.create("vae[dataset=digits,network=halves]")
    vae[dataset=digits,network=halves]: 1,397 training examples of 8 x 8, 3,981 weights
    """
    attributes: dict[str, Any] = {"flat": flat, **({} if options is None else {"Options": options})}
    return NETWORKS.register(name, **attributes)


def build_network(variant: str, sizes: Sizes) -> tuple[nn.Module, nn.Module]:
    """Return the encoder, (*B, X) to (*B, params), and the decoder, (*B, latents) to (*B, outputs), of a network.

    Raises ``EstbenchError`` for an unknown name or option, or a function that does not return two modules.
    """
    modules: Any = NETWORKS.build(variant, sizes)
    if not (isinstance(modules, tuple) and len(modules) == 2 and all(isinstance(each, nn.Module) for each in modules)):
        raise EstbenchError(f"network '{variant}' must return two modules, an encoder and a decoder; got {modules!r}")
    encoder, decoder = modules
    if getattr(NETWORKS.named([variant.partition("[")[0]])[0], "flat", False):
        return encoder, decoder
    return Rows(encoder, sizes.image, sizes.params), Rows(decoder, (sizes.latents,), math.prod(sizes.outputs))


class Rows(nn.Module):
    """Gives a module its inputs as rows, (N, *shape), whatever their leading dimensions: (*B, X) to (*B, size)."""

    def __init__(self, module: nn.Module, shape: tuple[int, ...], size: int) -> None:
        super().__init__()
        self.module, self.shape, self.size = module, shape, size

    def forward(self, x: Tensor) -> Tensor:
        lead = x.shape[:-1]
        rows: Tensor = self.module(x.reshape(-1, *self.shape))
        if rows.numel() != lead.numel() * self.size:
            raise EstbenchError(
                f"a network gives {tuple(rows.shape)} for {lead.numel()} rows of {tuple(self.shape)}, and"
                f" {self.size} numbers are wanted for each; see sizes.params and sizes.outputs"
            )
        return rows.reshape(*lead, self.size)


def perceptron(sizes: list[int], activation: str) -> nn.Sequential:
    """Return linear layers between these sizes, with the activation between them and none at the end.

    Examples
    --------
    >>> from estbench.problems.networks import perceptron
    >>> perceptron([64, 8, 2], "relu")
    Sequential(
      (0): Linear(in_features=64, out_features=8, bias=True)
      (1): ReLU()
      (2): Linear(in_features=8, out_features=2, bias=True)
    )
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


@register_network("mlp", flat=True)
def mlp(sizes: Sizes, hidden: tuple[int, ...] = (200, 200), activation: str = "tanh") -> tuple[nn.Module, nn.Module]:
    """Two perceptrons, the decoder mirrored; their sizes are options of the problem: ``vae[hidden=[400]]``."""
    encoder = perceptron([math.prod(sizes.image), *hidden, sizes.params], activation)
    decoder = perceptron([sizes.latents, *reversed(hidden), math.prod(sizes.outputs)], activation)
    return encoder, decoder


@register_network("linear", flat=True)
def linear(sizes: Sizes) -> tuple[nn.Module, nn.Module]:
    """One linear layer each, as in a sigmoid belief network or probabilistic PCA."""
    return mlp(sizes, hidden=())


class ConvOptions(BaseOptions):
    """Options of ``conv``."""

    channels: tuple[Size, ...] = Field(
        default=(32, 64), min_length=1, description="channels after each convolution, which halves height and width"
    )
    hidden: tuple[Size, ...] = Field(default=(256,), description="units of the linear layers between")
    norm: Literal["none", "batch", "group"] = Field(default="none", description="normalisation after each convolution")
    activation: Activation = Field(default="relu", description="the activation")


@register_network("conv", ConvOptions)
def conv(sizes: Sizes, options: ConvOptions) -> tuple[nn.Module, nn.Module]:
    """Strided convolutions and their transposes, with linear layers at the narrow end.

    Each convolution has a kernel of 4 x 4, a stride of 2 and a padding of 1, as in the DCGAN (Radford, Metz and
    Chintala, 2016, arXiv:1511.06434).
    """
    places = [sizes.image[1:]]
    for _ in options.channels:
        places.append((places[-1][0] // 2, places[-1][1] // 2))
    if 0 in places[-1]:
        raise EstbenchError(
            f"network 'conv' halves height and width {len(options.channels)} times, and images of"
            f" {sizes.image[1]} x {sizes.image[2]} are too small for that; give fewer channels"
        )
    flat = options.channels[-1] * math.prod(places[-1])
    activation = ACTIVATIONS[options.activation]
    down: list[nn.Module] = []
    for before, after in pairwise([sizes.image[0], *options.channels]):
        down += [nn.Conv2d(before, after, 4, stride=2, padding=1), *_norm(options.norm, after), activation()]
    encoder = nn.Sequential(*down, nn.Flatten(), *perceptron([flat, *options.hidden, sizes.params], options.activation))
    up: list[nn.Module] = []
    ends = [*reversed(options.channels[1:]), None]
    widths = pairwise([*reversed(options.channels), sizes.outputs[0]])
    for (before, after), (small, large), inner in zip(widths, pairwise(reversed(places)), ends, strict=True):
        odd = (large[0] - 2 * small[0], large[1] - 2 * small[1])
        up += [activation(), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, output_padding=odd)]
        up += [] if inner is None else _norm(options.norm, after)  # pixels are not normalised
    decoder = nn.Sequential(
        *perceptron([sizes.latents, *reversed(options.hidden), flat], options.activation),
        nn.Unflatten(1, (options.channels[-1], *places[-1])),
        *up,
    )
    return encoder, decoder


def _norm(norm: str, channels: int) -> list[nn.Module]:
    match norm:
        case "batch":
            return [nn.BatchNorm2d(channels)]
        case "group":  # of up to 8 channels each
            return [nn.GroupNorm(max(1, channels // 8) if channels % 8 == 0 else 1, channels)]
        case _:
            return []
