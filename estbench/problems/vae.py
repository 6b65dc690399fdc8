"""Variational autoencoders: one encoder and decoder for every family of latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Generator, Tensor, nn

from estbench.datasets import info as dataset_info
from estbench.datasets import load as load_dataset
from estbench.latents import (
    BernoulliLatents,
    BetaLatents,
    CategoricalLatents,
    DirichletLatents,
    GammaLatents,
    Latents,
    NormalLatents,
    StudentTLatents,
)
from estbench.options import BaseOptions
from estbench.problems.networks import (
    Activation,
    ImageData,
    Size,
    binarised,
    grey_log_likelihood,
    perceptron,
    pixel_log_likelihood,
)
from estbench.problems.objective import Objective
from estbench.problems.problem import Problem, register


@register("vae")
class VAE(Problem):
    r"""Variational autoencoder on images (Kingma and Welling, 2014, arXiv:1312.6114).

        p(x|z) = prod_i Bernoulli(x_i; sigmoid(g_i(z)))
        L(x) = E_q[log p(x|z)] - KL(q(z|x) || p(z))   in nats, maximised

    ``latents`` chooses the family of q(z|x) and p(z):

    * ``normal``: q = N(mu(x), diag exp(2 s(x))), from ``loc`` = mu and ``log_scale`` = s; p = N(0, I);
    * ``bernoulli``: ``latent_size`` bits, from ``logits``; p = fair coins (a sigmoid belief network, where the
      perceptrons are linear: ``hidden=[]``);
    * ``categorical``: ``latent_size`` one-hot vectors of ``categories``, from ``logits``; p is uniform;
    * ``gamma``: from ``log_concentration`` and ``log_rate``; p = Exp(1);
    * ``beta``: from ``log_alpha`` and ``log_beta``; p is uniform on (0, 1);
    * ``dirichlet``: ``latent_size`` points of the simplex with ``categories`` corners, from ``log_concentration``; p is
      uniform;
    * ``student-t``: from ``loc``, ``log_scale`` and ``log_excess_df`` = log(df - 2); p is the t with df = 3. Its KL has
      no closed form and is always sampled.

    ``prior=learned`` makes the parameters of p(z) weights, which start from these. ``coding=signed`` gives the
    decoder 2z - 1 in place of z. With ``importance_samples`` = K > 1 the objective is the multi-sample bound L_K.

    The encoder is one multilayer perceptron, g is another, mirrored. Pixels are binarised dynamically: a fresh draw
    Bernoulli(intensity) at each access.

    ``likelihood=gaussian`` takes the grey pixels as they are, intensities in [0, 1]:

        log p(x|z) = sum_i log N(x_i; g_i(z), sigma^2)
                   = sum_i [-(x_i - g_i(z))^2 / (2 sigma^2) - log sigma - log(2 pi) / 2]

    with one learned sigma for all pixels, a weight of the decoder that starts at the training pixels' standard
    deviation. A density's bound may be above zero, and has the unit of x in it: where others write pixels as 2x - 1, it
    is lower by log 2 for each pixel, 543.4 nats at 28x28.
    """

    summary = "VAE with normal, discrete or other continuous latents, on binarised or grey images"
    latents = "normal"

    class Options(BaseOptions):
        """What may be chosen; ``categories`` is for categorical and Dirichlet latents, ``coding`` for those in [0, 1].

        ``kl`` belongs to the ELBO, for a multi-sample bound has no analytic part, and to latents with a closed form.
        """

        dataset: ImageData = "mnist5k"
        likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
        latents: Literal["normal", "bernoulli", "categorical", "gamma", "beta", "dirichlet", "student-t"] = "normal"
        latent_size: Size = 20
        categories: Annotated[int, Field(ge=2)] = 10
        hidden: tuple[Size, ...] = (200, 200)
        activation: Activation = "tanh"
        prior: Literal["fixed", "learned"] = "fixed"
        coding: Literal["binary", "signed"] = "binary"
        kl: Literal["analytic", "sampled"] = "analytic"
        importance_samples: Size = 1

        @model_validator(mode="after")
        def _grey(self) -> VAE.Options:
            if self.likelihood == "gaussian" and dataset_info(self.dataset).binarisation == "static":
                raise ValueError(
                    f"option 'likelihood' cannot be gaussian: the pixels of '{self.dataset}' are binary; drop it"
                )
            return self

        @model_validator(mode="after")
        def _applicable(self) -> VAE.Options:
            latents = f"latents={self.latents}"
            idle = {
                "categories": self.latents not in {"categorical", "dirichlet"} and latents,
                "coding": self.latents in {"normal", "gamma", "student-t"} and latents,
                "kl": (self.importance_samples > 1 and f"importance_samples={self.importance_samples}")
                or (self.latents == "student-t" and latents),
            }
            for option, reason in idle.items():
                if reason and getattr(self, option) != type(self).model_fields[option].default:
                    raise ValueError(f"option '{option}' has no effect with {reason}; drop it")
            return self

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or VAE.Options()
        self.data = load_dataset(self.options.dataset)
        self.family: Latents = _latents(self.options)
        hidden, activation = self.options.hidden, self.options.activation
        self.encoder = perceptron([self.data.size, *hidden, self.family.outputs], activation)
        self.decoder = perceptron([self.family.inputs, *reversed(hidden), self.data.size], activation)
        learned = self.options.prior == "learned"
        self.learned_prior = nn.Parameter(torch.zeros(self.family.outputs)) if learned else None
        grey = self.options.likelihood == "gaussian"
        self.log_sigma = nn.Parameter(torch.tensor([math.log(self.data.train.std())])) if grey else None

    @classmethod
    def latents_of(cls, options: Any) -> str:
        return str(options.latents)

    @classmethod
    def bound_of(cls, options: Any) -> str:
        return "elbo" if options.importance_samples == 1 else "multi-sample"

    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        """Draw pixels Bernoulli(intensity), or with a Gaussian likelihood leave them grey, (B, X) to (B, X)."""
        return intensities if self.options.likelihood == "gaussian" else binarised(intensities, generator)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """The parameters of q(z|x) by name, each (B, D), or (B, D, C)."""
        return self.family.split(self.encoder(x))

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        """L for observations x, (B, X), at variational parameters of (*R, B, D)."""
        prior = self.prior_parameters()
        analytic = self.options.kl == "analytic" and self.family.closed_form_kl

        def log_likelihood(z: Tensor) -> Tensor:
            inputs = self.family.flat(z)
            outputs = self.decoder(2 * inputs - 1 if self.options.coding == "signed" else inputs)
            if self.log_sigma is not None:
                return grey_log_likelihood(outputs, self.log_sigma, x)
            return pixel_log_likelihood(outputs, x)

        return Objective(
            params,
            self.family.family,
            log_likelihood,
            lambda: self.family.family(prior),
            x,
            (lambda: self.family.kl(params, prior)) if analytic else None,
            self.options.importance_samples,
        )

    def prior_parameters(self) -> dict[str, Tensor]:
        """The parameters of p(z) by name, each (D,), or (D, C)."""
        if self.learned_prior is not None:
            return self.family.split(self.learned_prior)
        weight = next(self.decoder.parameters())  # which may be lazy still, and then has no new_zeros
        outputs = torch.zeros(self.family.outputs, dtype=weight.dtype, device=weight.device)
        return self.family.split(outputs)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Weights of the encoder, of the decoder and, where it is learned, of the prior."""
        groups = {"encoder": list(self.encoder.parameters()), "decoder": list(self.decoder.parameters())}
        if self.log_sigma is not None:
            groups["decoder"].append(self.log_sigma)
        return groups if self.learned_prior is None else {**groups, "prior": [self.learned_prior]}


def _latents(options: VAE.Options) -> Latents:
    match options.latents:
        case "normal":
            return NormalLatents(options.latent_size)
        case "bernoulli":
            return BernoulliLatents(options.latent_size)
        case "categorical":
            return CategoricalLatents(options.latent_size, options.categories)
        case "gamma":
            return GammaLatents(options.latent_size)
        case "beta":
            return BetaLatents(options.latent_size)
        case "dirichlet":
            return DirichletLatents(options.latent_size, options.categories)
        case "student-t":
            return StudentTLatents(options.latent_size)
