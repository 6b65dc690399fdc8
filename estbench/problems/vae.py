"""Variational autoencoders: one encoder and decoder for every family of latents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

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
from estbench.options import BaseOptions, refuse_without_effect
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

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("vae[dataset=digits,hidden=[8],latent_size=2]")
    >>> intensities = torch.from_numpy(problem.data.train[:5])  # 5 images of 64 pixels
    >>> x = problem.observe(intensities, torch.Generator().manual_seed(0))
    >>> objective = problem(x)
    >>> objective.batch_shape, objective.q.event_shape
    (torch.Size([5]), torch.Size([2]))
    >>> estimators.create("reparam")(objective).shape  # in nats, one for each image
    torch.Size([5])
    """

    summary = "VAE with normal, discrete or other continuous latents, on binarised or grey images"
    latents = "normal"

    class Options(BaseOptions):
        """Options of ``vae``."""

        dataset: ImageData = Field(default="mnist5k", description="the images, by name")
        likelihood: Literal["bernoulli", "gaussian"] = Field(
            default="bernoulli", description="p(x|z): of binarised pixels (bernoulli), or of grey ones (gaussian)"
        )
        latents: Literal["normal", "bernoulli", "categorical", "gamma", "beta", "dirichlet", "student-t"] = Field(
            default="normal", description="the family of q(z|x) and p(z)"
        )
        latent_size: Size = Field(default=20, description="D, the number of latents")
        categories: int = Field(default=10, ge=2, description="C, for latents=categorical and latents=dirichlet")
        hidden: tuple[Size, ...] = Field(
            default=(200, 200),
            description="units of the encoder's hidden layers; the decoder's are mirrored; [] for none",
        )
        activation: Activation = Field(default="tanh", description="the activation of hidden layers")
        prior: Literal["fixed", "learned"] = Field(
            default="fixed", description="whether the parameters of p(z) are learned"
        )
        coding: Literal["binary", "signed"] = Field(
            default="binary", description="what the decoder sees of latents in [0, 1]: z (binary), or 2z - 1 (signed)"
        )
        kl: Literal["analytic", "sampled"] = Field(
            default="analytic", description="whether the KL of the ELBO is in closed form or sampled"
        )
        importance_samples: Size = Field(default=1, description="K; 1 for the ELBO, more for the bound L_K")

        @model_validator(mode="after")
        def _grey(self) -> VAE.Options:
            if self.likelihood == "gaussian" and dataset_info(self.dataset).binarisation == "static":
                raise ValueError(
                    f"option 'likelihood' cannot be gaussian: the pixels of '{self.dataset}' are binary; drop it"
                )
            return self

        @model_validator(mode="after")
        def _applicable(self) -> VAE.Options:
            latents, count = f"latents={self.latents}", self.importance_samples
            reasons = {
                "categories": latents if self.latents not in {"categorical", "dirichlet"} else "",
                "coding": latents if self.latents in {"normal", "gamma", "student-t"} else "",
                "kl": latents if self.latents == "student-t" else "",
            }
            if count > 1:  # a multi-sample bound has no analytic part
                reasons["kl"] = f"importance_samples={count}"
            refuse_without_effect(self, reasons)
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
        """Return the parameters of q(z|x) by name, each (B, D), or (B, D, C)."""
        return self.family.split(self.encoder(x))

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        """Return L for observations x, (B, X), at variational parameters of (*R, B, D)."""
        prior = self.prior_parameters()
        analytic = self.options.kl == "analytic" and self.family.closed_form_kl

        def log_likelihood(z: Tensor) -> Tensor:
            outputs = self._outputs(z)
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

    def decode(self, z: Tensor) -> Tensor:
        """Return E[x|z], (N, D) to (N, X)."""
        outputs = self._outputs(z)
        return outputs if self.log_sigma is not None else outputs.sigmoid()

    def sample_prior(self, count: int) -> Tensor:
        """Draw latents from p(z), (count, D), or (count, D, C)."""
        return self.family.family(self.prior_parameters()).sample((count,))

    def _outputs(self, z: Tensor) -> Tensor:
        """Return what the decoder makes of latents, (*B, D) to (*B, X): logits of pixels, or grey pixels."""
        inputs = self.family.flat(z)
        return self.decoder(2 * inputs - 1 if self.options.coding == "signed" else inputs)  # type: ignore[no-any-return]

    def prior_parameters(self) -> dict[str, Tensor]:
        """Return the parameters of p(z) by name, each (D,), or (D, C)."""
        if self.learned_prior is not None:
            return self.family.split(self.learned_prior)
        weight = next(self.decoder.parameters())  # which may be lazy still, and then has no new_zeros
        outputs = torch.zeros(self.family.outputs, dtype=weight.dtype, device=weight.device)
        return self.family.split(outputs)


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
