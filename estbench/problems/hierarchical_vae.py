"""Variational autoencoders with two layers of latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Generator, Tensor
from torch.distributions import Distribution

from estbench.datasets import data_id
from estbench.datasets import load as load_dataset
from estbench.latents import TwoNormalLayers, make_latents
from estbench.options import BaseOptions, refuse_without_effect
from estbench.problems.networks import Activation, ImageData, Size, perceptron
from estbench.problems.objective import Objective
from estbench.problems.parts import PRIORS
from estbench.problems.pixels import binarised, of_bytes, pixel_log_likelihood
from estbench.problems.priors import FamilyPrior
from estbench.problems.problem import Problem, register
from estbench.problems.two_layers import TwoLayerObjective


@register("hierarchical_vae")
class HierarchicalVAE(Problem):
    r"""Two stochastic layers of latents, on binarised images (Tucker et al., 2017, arXiv:1703.07370).

        p(x, z1, z2) = p(z2) p(z1|z2) p(x|z1),   q(z1, z2|x) = q(z1|x) q(z2|z1)
        L(x) = E_q[log p(x, z1, z2) - log q(z1, z2|x)]   in nats, maximised

    ``latents`` is the family of all four conditionals: bits, one-hot vectors, or normal latents as in a ladder of VAEs
    (Sonderby et al., 2016, arXiv:1602.02282). Each is a perceptron, from its condition to parameters: linear where
    ``hidden=[]`` (with bits, a sigmoid belief network), with deterministic layers of these sizes in between otherwise,
    in reversed order for p. Both layers have ``latent_size`` latents; ``coding=signed`` gives the perceptrons 2z - 1 in
    place of z. p(z2) is the standard one of the family; ``prior=learned`` makes its parameters weights, which start
    from there.

    Gradients are estimated layer by layer, by an instance of the estimator for each, or by an estimator for each:
    ``per_latent[z1=disarm,z2=rloo]``; see ``TwoLayerObjective``. The entropy of q(z1|x) and KL(q(z2|z1) || p(z2)) are
    analytic; a learned baseline of the second layer sees z1. A probe's parameter space is that of q(z1|x).

    With ``importance_samples`` = K > 1, for normal layers, the objective is the multi-sample bound of the joint
    variable z = (z1, z2), with w = p(x, z1, z2) / q(z1, z2|x). One estimator then works on both layers at once, and the
    path of a sample goes through z1 into z2: ``iwae``, ``dreg`` (with ``prior=reparameterized`` also along
    p(z2) p(z1|z2)), ``vimco`` and the others of that bound.

    Estimators that differentiate f do so in one layer at a time. The control variates of ``rebar``, ``relax`` and
    ``muprop`` relax only z1, or only z2. In their papers one pass goes through both layers and relaxes z2 with z1. The
    gradient of their temperatures lacks a part of the second layer's curvature, because an estimate of that layer's
    gradient does not have it. Neither is a bias.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("hierarchical_vae[dataset=digits,hidden=[],latent_size=3]")
    >>> estimator = estimators.create_for("disarm", problem)  # an instance for each layer
    >>> x = torch.zeros(5, 64)
    >>> estimator(problem(x)).shape
    torch.Size([5])
    """

    summary = "VAE with two layers of Bernoulli, categorical or normal latents, on dynamically binarised images"
    latents = "bernoulli"

    class Options(BaseOptions):
        """Options of ``hierarchical_vae``; sizes are those of both layers."""

        dataset: ImageData = Field(default="mnist5k", description="the images, by name or as file:PATH")
        latent_size: Size = Field(default=20, description="D, the number of bits in each layer")
        hidden: tuple[Size, ...] = Field(default=(200,), description="units of each hidden layer; [] for linear maps")
        activation: Activation = Field(default="tanh", description="the activation of hidden layers")
        prior: Literal["fixed", "learned"] = Field(
            default="fixed", description="whether the parameters of p(z2) are learned"
        )
        coding: Literal["binary", "signed"] = Field(
            default="binary", description="what perceptrons see of bits and one-hot vectors z: z, or 2z - 1 (signed)"
        )
        latents: Literal["bernoulli", "categorical", "normal"] = Field(
            default="bernoulli", description="the family of both layers"
        )
        categories: int = Field(default=10, ge=2, description="C, for latents=categorical")
        importance_samples: Size = Field(
            default=1, description="K; 1 for the ELBO, more for the bound L_K of both layers (latents=normal)"
        )
        added = frozenset({"latents", "categories", "importance_samples"})

        @model_validator(mode="after")
        def _applicable(self) -> HierarchicalVAE.Options:
            latents = f"latents={self.latents}"
            reasons = {
                "coding": latents if self.latents == "normal" else "",
                "categories": latents if self.latents != "categorical" else "",
                "importance_samples": latents if self.latents != "normal" else "",
            }
            refuse_without_effect(self, reasons)
            return self

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or HierarchicalVAE.Options()
        self.data = load_dataset(self.options.dataset)
        hidden, activation = self.options.hidden, self.options.activation
        self.family = make_latents(self.options.latents, self.options.latent_size, self.options.categories)
        params, size = self.family.outputs, self.family.inputs
        self.encoder = perceptron([self.data.size, *hidden, params], activation)  # q(z1|x)
        self.second_encoder = perceptron([size, *hidden, params], activation)  # q(z2|z1)
        self.second_decoder = perceptron([size, *reversed(hidden), params], activation)  # p(z1|z2)
        self.decoder = perceptron([size, *reversed(hidden), self.data.size], activation)  # p(x|z1)
        self.prior: FamilyPrior = PRIORS.build(self.options.prior, self.family, self.data)

    @classmethod
    def latents_by_name(cls, options: Any) -> dict[str, str]:
        if options.importance_samples > 1:
            return {"z": cls.latents_of(options)}
        return {"z1": options.latents, "z2": options.latents}

    @classmethod
    def latents_of(cls, options: Any) -> str:
        return str(options.latents) if options.importance_samples == 1 else f"two layers ({options.latents})"

    @classmethod
    def bound_of(cls, options: Any) -> str:
        return "elbo" if options.importance_samples == 1 else "multi-sample"

    @classmethod
    def card_of(cls, options: Any) -> str:
        layers = f"{options.latents}-{options.latents}"
        return f"{data_id(options.dataset)}-{layers}-{options.prior}-{options.coding}"

    @of_bytes
    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        """Draw pixels Bernoulli(intensity), (B, X) to (B, X)."""
        return binarised(intensities, generator)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Return the parameters of q(z1|x), (B, D) or (B, D, C) each, for observations x, (B, X)."""
        return self.family.split(self.encoder(x))

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        """Return L for observations x, (B, X), at parameters of q(z1|x) of (*R, B, D)."""

        def log_likelihood(z: Tensor) -> Tensor:
            return pixel_log_likelihood(self.decoder(self._coded(z)), x)

        if self.options.importance_samples > 1:
            return Objective(
                params,
                self._both,
                lambda z: log_likelihood(self._first(z)),
                lambda: self._layers(self.prior(), self._first_given, first_is_root=False),
                x,
                importance_samples=self.options.importance_samples,
                kl_weight=self.kl_weight,
            )
        return TwoLayerObjective(
            params,
            self.family.family,
            log_likelihood,
            self._second_objective,
            self.family,
            x,
            kl_weight=self.kl_weight,
        )

    def decode(self, z: Tensor) -> Tensor:
        """Return E[x|z1], (N, D) to (N, X)."""
        return self.decoder(self._coded(z)).sigmoid()  # type: ignore[no-any-return]

    def sample_prior(self, count: int) -> Tensor:
        """Draw z1 from p(z2) p(z1|z2), (count, D) or (count, D, C)."""
        return self._first_given(self.prior().sample((count,))).sample()

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the mean image of one draw of z1 from q(z1|x) for each observation, (N, X) to (N, X)."""
        return self.decode(self.family.family(self.encode(x)).sample())

    def _both(self, params: Mapping[str, Tensor]) -> Distribution:
        """Return q(z1, z2|x), from the parameters of q(z1|x)."""
        return self._layers(self.family.family(params), self._second_given, first_is_root=True)

    def _layers(
        self, root: Distribution, leaf: Callable[[Tensor], Distribution], *, first_is_root: bool
    ) -> TwoNormalLayers:
        size = self.options.latent_size
        return TwoNormalLayers(root, leaf, (size, size), first_is_root=first_is_root)

    def _first(self, z: Tensor) -> Tensor:
        """Return z1 of both layers, (..., 2 D) to (..., D)."""
        return z[..., : self.options.latent_size]

    def _second_given(self, first: Tensor) -> Distribution:
        """Return q(z2|z1)."""
        return self.family.family(self.family.split(self.second_encoder(self._coded(first))))

    def _first_given(self, second: Tensor) -> Distribution:
        """Return p(z1|z2)."""
        return self.family.family(self.family.split(self.second_decoder(self._coded(second))))

    def _second_objective(self, first: Tensor) -> Objective:
        """Return E_{q(z2|z1)}[log p(z1|z2)] - KL(q(z2|z1) || p(z2)) at z1, (S, *R, B, D), relaxed or not."""
        params = self.family.split(self.second_encoder(self._coded(first)))
        return Objective(
            params,
            self.family.family,
            lambda second: self._first_given(second).log_prob(first),
            self.prior,
            self.family.flat(first).detach(),
            lambda: self.family.kl(params, self.prior.params),
        )

    def _coded(self, z: Tensor) -> Tensor:
        inputs = self.family.flat(z)
        return 2 * inputs - 1 if self.options.coding == "signed" else inputs
