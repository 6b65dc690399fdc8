"""Variational autoencoders: one encoder and decoder for every family of latents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from torch import Generator, Tensor, nn
from torch.distributions import Distribution

from estbench.datasets import info as dataset_info
from estbench.datasets import load as load_dataset
from estbench.latents import Latents, make_latents
from estbench.options import BaseOptions, refuse_without_effect
from estbench.problems.networks import (
    NETWORKS,
    Activation,
    ImageData,
    Size,
    Sizes,
    build_network,
    mlp,
)
from estbench.problems.objective import Objective
from estbench.problems.parts import LIKELIHOODS, POSTERIORS, PRIORS, Likelihood, Posterior, Prior
from estbench.problems.priors import FamilyPrior
from estbench.problems.problem import Problem, register

COLOUR = 3  # dimensions of an image with channels
UNBOUNDED = {"normal", "gamma", "student-t", "poisson", "weibull"}  # families of numbers that may be larger than 1
# Parts by name, with their options in brackets, written in one way only.
NetworkName = Annotated[str, AfterValidator(NETWORKS.label)]
PosteriorName = Annotated[str, AfterValidator(POSTERIORS.label)]
PriorName = Annotated[str, AfterValidator(PRIORS.label)]
LikelihoodName = Annotated[str, AfterValidator(LIKELIHOODS.label)]


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
      no closed form and is always sampled;
    * ``poisson``: ``latent_size`` counts, from ``log_rate``; p has the mean 1 (a Poisson VAE: Vafaii, Galor and Yates,
      2024, arXiv:2405.14473);
    * ``weibull``: from ``log_concentration`` and ``log_scale``; p = Exp(1).

    ``prior=learned`` makes the parameters of p(z) weights, which start from these. ``coding=signed`` gives the
    decoder 2z - 1 in place of z. With ``importance_samples`` = K > 1 the objective is the multi-sample bound L_K.

    ``network`` chooses the encoder and the decoder g: ``mlp``, two mirrored multilayer perceptrons; ``linear``; or
    ``conv``, for example ``network=conv[channels=[32,64],norm=batch]``. Pixels are binarised dynamically: a fresh draw
    Bernoulli(intensity) at each access.

    ``likelihood=gaussian`` takes the grey pixels as they are, intensities in [0, 1]:

        log p(x|z) = sum_i log N(x_i; g_i(z), sigma^2)
                   = sum_i [-(x_i - g_i(z))^2 / (2 sigma^2) - log sigma - log(2 pi) / 2]

    with one learned sigma for all pixels, a weight of the decoder that starts at the training pixels' standard
    deviation. A density's bound may be above zero, and has the unit of x in it: where others write pixels as 2x - 1, it
    is lower by log 2 for each pixel, 543.4 nats at 28x28.

    ``posterior=full`` gives normal latents a full covariance, q = N(mu(x), L(x) L(x)^T). Networks, posteriors, priors
    and likelihoods of your own are registered by ``register_network`` and its kin, and are named in the same way.

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

        dataset: ImageData = Field(default="mnist5k", description="the images, by name or as file:PATH")
        likelihood: LikelihoodName = Field(
            default="bernoulli", description="p(x|z): of binarised pixels (bernoulli), or of grey ones (gaussian)"
        )
        latents: Literal[
            "normal", "bernoulli", "categorical", "gamma", "beta", "dirichlet", "student-t", "poisson", "weibull"
        ] = Field(default="normal", description="the family of q(z|x) and p(z)")
        latent_size: Size = Field(default=20, description="D, the number of latents")
        categories: int = Field(default=10, ge=2, description="C, for latents=categorical and latents=dirichlet")
        hidden: tuple[Size, ...] = Field(
            default=(200, 200),
            description="units of the hidden layers of network=mlp; the decoder's are mirrored; [] for none",
        )
        activation: Activation = Field(default="tanh", description="the activation of the hidden layers")
        prior: PriorName = Field(default="fixed", description="p(z): of the latents' family, fixed or learned")
        coding: Literal["binary", "signed"] = Field(
            default="binary", description="what the decoder sees of latents in [0, 1]: z (binary), or 2z - 1 (signed)"
        )
        kl: Literal["analytic", "sampled"] = Field(
            default="analytic", description="whether the KL of the ELBO is in closed form or sampled"
        )
        importance_samples: Size = Field(default=1, description="K; 1 for the ELBO, more for the bound L_K")
        network: NetworkName = Field(default="mlp", description="the encoder and the decoder: mlp, linear, conv, ...")
        posterior: PosteriorName = Field(
            default="diagonal", description="q(z|x): independent latents (diagonal), a full covariance (full), ..."
        )
        added = frozenset({"network", "posterior"})

        @model_validator(mode="after")
        def _grey(self) -> VAE.Options:
            grey = LIKELIHOODS.entry(self.likelihood).observation is not None
            if grey and dataset_info(self.dataset).binarisation == "static":
                raise ValueError(
                    f"option 'likelihood' cannot be {self.likelihood}:"
                    f" the pixels of '{self.dataset}' are binary; drop it"
                )
            return self

        @model_validator(mode="after")
        def _fitting(self) -> VAE.Options:
            wanted = POSTERIORS.entry(self.posterior).for_latents
            if wanted is not None and self.latents not in wanted:
                raise ValueError(
                    f"option 'posterior' cannot be {self.posterior} with latents={self.latents};"
                    f" it is for {' or '.join(sorted(wanted))} latents"
                )
            return self

        @model_validator(mode="after")
        def _applicable(self) -> VAE.Options:
            latents, count = f"latents={self.latents}", self.importance_samples
            network = "" if self.network == "mlp" else f"network={self.network}"
            reasons = {
                "categories": latents if self.latents not in {"categorical", "dirichlet"} else "",
                "coding": latents if self.latents in UNBOUNDED else "",
                "kl": latents if self.latents == "student-t" else "",
                "hidden": network,
                "activation": network,
            }
            if self.posterior != "diagonal" and not POSTERIORS.entry(self.posterior).closed_form_kl:
                reasons["kl"] = f"posterior={self.posterior}"
            if not _is_of_family(PRIORS.entry(self.prior)):
                reasons["kl"] = f"prior={self.prior}"
            if count > 1:  # a multi-sample bound has no analytic part
                reasons["kl"] = f"importance_samples={count}"
            refuse_without_effect(self, reasons)
            return self

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or VAE.Options()
        self.data = load_dataset(self.options.dataset)
        self.family: Latents = make_latents(self.options.latents, self.options.latent_size, self.options.categories)
        self.posterior: Posterior = POSTERIORS.build(self.options.posterior, self.family)
        likelihood: Likelihood = LIKELIHOODS.build(self.options.likelihood, self.data)
        self.encoder, self.decoder = self._networks(likelihood.channels)
        self.prior: Prior = PRIORS.build(self.options.prior, self.family, self.data)
        self.likelihood = likelihood
        self.analytic = (
            self.options.kl == "analytic" and self.posterior.closed_form_kl and isinstance(self.prior, FamilyPrior)
        )

    def _networks(self, channels: int) -> tuple[nn.Module, nn.Module]:
        """Return the encoder and the decoder; ``channels`` are the numbers that the decoder gives for each pixel."""
        options, shape = self.options, self.data.shape
        image = (shape[0], shape[1], shape[2]) if len(shape) == COLOUR else (1, shape[0], shape[1])
        outputs = (channels * image[0], *image[1:])
        sizes = Sizes(image, self.posterior.outputs, self.family.inputs, outputs)
        if options.network == "mlp":
            return mlp(sizes, options.hidden, options.activation)
        return build_network(options.network, sizes)

    @classmethod
    def latents_of(cls, options: Any) -> str:
        if options.posterior == "diagonal":
            return str(options.latents)
        return POSTERIORS.entry(options.posterior).family_name or f"{options.latents} ({options.posterior})"

    @classmethod
    def bound_of(cls, options: Any) -> str:
        return "elbo" if options.importance_samples == 1 else "multi-sample"

    @classmethod
    def observation_of(cls, options: Any) -> str | None:
        observation: str | None = LIKELIHOODS.entry(options.likelihood).observation
        return str(options.likelihood) if observation == "" else observation

    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        """Draw what the likelihood is of: pixels Bernoulli(intensity), or grey ones; (B, X) to (B, X)."""
        return self.likelihood.observe(intensities, generator)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Return the parameters of q(z|x) by name, each (B, D), or (B, D, C)."""
        return self.posterior.split(self.encoder(x))

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        """Return L for observations x, (B, X), at variational parameters of (*R, B, D)."""
        return Objective(
            params,
            self.posterior.family,
            lambda z: self.likelihood(self._outputs(z), x),
            lambda: self.prior(self._q),
            x,
            (lambda: self.posterior.kl(params, self.prior)) if self.analytic else None,
            self.options.importance_samples,
            kl_weight=self.kl_weight,
        )

    def decode(self, z: Tensor) -> Tensor:
        """Return E[x|z], (N, D) to (N, X)."""
        return self.likelihood.mean(self._outputs(z))

    def sample_prior(self, count: int) -> Tensor:
        """Draw latents from p(z), (count, D), or (count, D, C)."""
        return self.prior(self._q).sample((count,))  # type: ignore[no-any-return]

    def _q(self, x: Tensor) -> Distribution:
        return self.posterior.family(self.encode(x))

    def _outputs(self, z: Tensor) -> Tensor:
        """Return what the decoder makes of latents, (*B, D) to (*B, X): logits of pixels, or grey pixels."""
        inputs = self.family.flat(z)
        return self.decoder(2 * inputs - 1 if self.options.coding == "signed" else inputs)  # type: ignore[no-any-return]


def _is_of_family(prior: Any) -> bool:
    return isinstance(prior, type) and issubclass(prior, FamilyPrior)
