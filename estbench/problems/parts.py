"""Parts of a VAE beside its network, open to plugins: the posterior q(z|x), the prior p(z), the likelihood p(x|z).

A part is a module. If its class has ``Options``, an instance of them is its last argument, and they are written in
brackets: ``vae[posterior=flow[layers=4]]``. Its weights are trained with those of the networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Generator, Tensor, nn
from torch.distributions import Distribution, kl_divergence

from estbench.datasets import Dataset
from estbench.latents import Latents
from estbench.options import BaseOptions
from estbench.registry import Registry


class Posterior(nn.Module):
    """Base of posteriors: how q(z|x) is made from the numbers that an encoder gives.

    A posterior sets ``outputs`` and defines ``split`` and ``family``. Estimators look at the distribution itself: the
    pathwise ones need its ``rsample``, score functions its ``sample`` and ``log_prob``. Its KL is sampled, unless
    ``torch.distributions`` has a formula for it and ``closed_form_kl`` says so.

    Parameters
    ----------
    latents
        The latents that it is a distribution of; their number D is ``size``.
    options
        An instance of the class's ``Options``, if it has any.

    Examples
    --------
    >>> import torch
    >>> from torch.distributions import Independent, Laplace
    >>> from estbench import problems
    >>> @problems.register_posterior("laplace")
    ... class LaplacePosterior(problems.Posterior):
    ...     "q(z|x) = prod_d Laplace(z_d; loc_d, exp(log_scale_d))."
    ...
    ...     def __init__(self, latents):
    ...         super().__init__(latents)
    ...         self.outputs = 2 * self.size
    ...
    ...     def split(self, outputs):
    ...         loc, log_scale = outputs.chunk(2, dim=-1)
    ...         return {"loc": loc, "log_scale": log_scale}
    ...
    ...     def family(self, params):
    ...         return Independent(Laplace(params["loc"], params["log_scale"].exp()), 1)
    >>> problem = problems.create("vae[dataset=digits,hidden=[8],latent_size=2,posterior=laplace]")
    >>> problem(torch.zeros(5, 64)).q.batch_shape
    torch.Size([5])
    """

    for_latents: ClassVar[frozenset[str] | None] = frozenset({"normal"})  # of ``vae[latents=...]``; None for all
    family_name: ClassVar[str] = ""  # the name of a family of estbench.latents, if q is of one
    closed_form_kl: bool = False  # whether torch knows KL(q || p) for the priors of the latents' own family
    outputs: int  # numbers that the encoder gives for one example

    def __init__(self, latents: Latents, options: BaseOptions | None = None) -> None:
        super().__init__()
        self.size = latents.inputs
        self.options: Any = options

    def split(self, outputs: Tensor) -> dict[str, Tensor]:
        """Return the variational parameters by name, (*B, ...) each, from an encoder's (*B, outputs)."""
        raise NotImplementedError

    def family(self, params: Mapping[str, Tensor]) -> Distribution:
        """Return q with these parameters: batch shape (*B), event shape (D,)."""
        raise NotImplementedError

    def kl(self, params: Mapping[str, Tensor], prior: Any) -> Tensor:
        """Return KL(q || p) in nats, (*B), for a prior of the latents' own family; with ``closed_form_kl`` only."""
        return kl_divergence(self.family(params), prior())


class Prior(nn.Module):
    """Base of priors; ``forward`` returns the distribution p(z).

    Parameters
    ----------
    latents
        The latents that it is a distribution of; their number D is ``latents.inputs``.
    data
        The dataset, from which it may take examples to start from.
    options
        An instance of the class's ``Options``, if it has any.
    """

    def __init__(self, latents: Latents, data: Dataset, options: BaseOptions | None = None) -> None:
        super().__init__()
        self.size = latents.inputs
        self.options: Any = options

    def forward(self, posterior: Callable[[Tensor], Distribution]) -> Distribution:
        """Return p(z), of batch shape () and the event shape of q; ``posterior`` maps x, (K, X), to q(z|x)."""
        raise NotImplementedError


class Likelihood(nn.Module):
    """Base of likelihoods of pixels; ``forward`` returns log p(x|z).

    Parameters
    ----------
    data
        The dataset, from whose pixels it may take numbers to start from.
    options
        An instance of the class's ``Options``, if it has any.
    """

    channels: ClassVar[int] = 1  # numbers that the decoder gives for each pixel
    # What the model sees, as a word of the problem's card, because bounds of different words must never be compared:
    # by default the likelihood's name. None for pixels of 0 and 1.
    observation: ClassVar[str | None] = ""

    def __init__(self, data: Dataset, options: BaseOptions | None = None) -> None:
        super().__init__()
        self.options: Any = options

    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        """Draw what the model sees from intensities in [0, 1], (B, X) to (B, X); by default they stay as they are."""
        return intensities

    def forward(self, outputs: Tensor, x: Tensor) -> Tensor:
        """Return log p(x|z) in nats, from a decoder's (S, *R, B, channels X) and x of (B, X) to (S, *R, B)."""
        raise NotImplementedError

    def mean(self, outputs: Tensor) -> Tensor:
        """Return E[x|z], (N, channels X) to (N, X), for pictures."""
        raise NotImplementedError


POSTERIORS: Registry[type[Posterior]] = Registry("posterior")
PRIORS: Registry[type[Prior]] = Registry("prior")
LIKELIHOODS: Registry[type[Likelihood]] = Registry("likelihood")
register_posterior = POSTERIORS.register
register_prior = PRIORS.register
register_likelihood = LIKELIHOODS.register
