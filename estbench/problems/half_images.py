"""Conditional prediction: the lower half of an image from its upper half, through a layer of discrete units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Generator, Tensor

from estbench.datasets import Dataset
from estbench.datasets import load as load_dataset
from estbench.errors import EstbenchError
from estbench.latents import Latents, make_latents
from estbench.options import BaseOptions, refuse_without_effect
from estbench.problems.networks import Activation, ImageData, Size, perceptron
from estbench.problems.objective import Objective
from estbench.problems.pixels import binarised, of_bytes, pixel_log_likelihood
from estbench.problems.problem import Problem, register


@register("half_images")
class HalfImages(Problem):
    r"""Prediction of half images by a stochastic feedforward network (Raiko et al., 2015, arXiv:1406.2989).

        p(y|x) = E_{p(h|x)}[p(y|h)],   p(y|h) = prod_i Bernoulli(y_i; sigmoid(g_i(h)))

    x is the upper half of a binarised image and y the lower one, of one row more if the height is odd. Each h is drawn
    from the network itself: no inference network sees y. So q(h|x) is p(h|x), and the ELBO with that q is

        L(x, y) = E_{p(h|x)}[log p(y|h)] <= log p(y|x),   f(h) = log p(y|h),   KL(q || p) = 0

    which is what score-function methods train on this task (Gu et al., 2016, arXiv:1511.05176). With
    ``importance_samples`` = K > 1 it is the multi-sample bound, log (1/K) sum_k p(y|h_k) in place of log p(y|h): all
    importance weights are p(y|h_k). It grows with K towards log p(y|x). Given g, L itself is largest where h is not
    random, so only K > 1 gives a reason to be unsure. The reported ``iwae`` is that bound with the draws of the
    evaluation.

    The prior in the objective is q, with the same live parameters: the gradients of log p(h|x) and of log q(h|x) cancel
    in the weights. Estimators that pass ``frozen_q()`` and restore the gradient of -log q by their own term stay right.
    ``rws``, which is biased anyway, gives the network below h its update twice: for q and for the prior.

    ``latents`` are ``bernoulli`` bits or one-hot vectors of ``categorical`` ones, from ``logits`` that a perceptron
    with the layers ``hidden`` makes of x; g is mirrored. ``coding=signed`` gives g 2h - 1 in place of h. There are no
    normal latents: estimators that drop the score of q from the path (DReG, STL) assume a prior that does not move.

    Learned baselines see the whole image: they may depend on all but h.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("half_images[dataset=digits,latent_size=4,hidden=[]]")
    >>> intensities = torch.from_numpy(problem.data.train[:5])  # 5 images of 8 x 8 pixels
    >>> x = problem.observe(intensities, torch.Generator().manual_seed(0))
    >>> problem(x).exact().shape  # a sum over the 16 values of h, in nats for each lower half
    torch.Size([5])
    >>> estimators.create("disarm")(problem(x)).shape
    torch.Size([5])
    """

    summary = "the lower half of an image from its upper half, through Bernoulli or categorical units"
    latents = "bernoulli"

    class Options(BaseOptions):
        """Options of ``half_images``."""

        dataset: ImageData = Field(default="mnist5k", description="the images, by name or as file:PATH")
        latents: Literal["bernoulli", "categorical"] = Field(default="bernoulli", description="the family of h")
        latent_size: Size = Field(default=200, description="D, the number of bits or of one-hot vectors")
        categories: int = Field(default=10, ge=2, description="C, for latents=categorical")
        hidden: tuple[Size, ...] = Field(
            default=(200,), description="units of the layers that are not random, before h and, mirrored, after it"
        )
        activation: Activation = Field(default="tanh", description="the activation of these layers")
        coding: Literal["binary", "signed"] = Field(
            default="signed", description="what the upper layers see of h: h (binary), or 2h - 1 (signed)"
        )
        importance_samples: Size = Field(default=1, description="K; 1 for E[log p(y|h)], more for the bound L_K")

        @model_validator(mode="after")
        def _applicable(self) -> HalfImages.Options:
            refuse_without_effect(
                self,
                {
                    "categories": "latents=bernoulli" if self.latents == "bernoulli" else "",
                    "activation": "hidden=[]" if not self.hidden else "",
                },
            )
            return self

    def __init__(self, options: Options | None = None) -> None:
        super().__init__()
        self.options = options or HalfImages.Options()
        self.data: Dataset = load_dataset(self.options.dataset)
        *channels, height, width = self.data.shape
        if height < 2:
            raise EstbenchError(f"images of '{self.options.dataset}' have one row; a half of it needs two or more")
        self.image = (math.prod(channels), height, width)
        self.family: Latents = make_latents(self.options.latents, self.options.latent_size, self.options.categories)
        seen = self.image[0] * (height // 2) * width
        hidden, activation = self.options.hidden, self.options.activation
        self.encoder = perceptron([seen, *hidden, self.family.outputs], activation)
        predicted = math.prod(self.image) - seen
        self.decoder = perceptron([self.family.inputs, *reversed(hidden), predicted], activation)

    @classmethod
    def latents_of(cls, options: Any) -> str:
        return str(options.latents)

    @classmethod
    def bound_of(cls, options: Any) -> str:
        return "elbo" if options.importance_samples == 1 else "multi-sample"

    @classmethod
    def card_of(cls, options: Any) -> str:
        return f"{super().card_of(options)}-lower_half"

    @of_bytes
    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        """Draw the pixels of whole images, (B, X) to (B, X)."""
        return binarised(intensities, generator)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Return the parameters of p(h|x) from the upper halves of images, (B, X) to (B, D), or (B, D, C)."""
        return self.family.split(self.encoder(self._halves(x)[0]))

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        """Return L for images x, (B, X), at variational parameters of (*R, B, D)."""
        y = self._halves(x)[1]
        return Objective(
            params,
            self.family.family,
            lambda h: pixel_log_likelihood(self._outputs(h), y),
            lambda: self.family.family(params),
            x,
            None if self.options.importance_samples > 1 else lambda: _zero_kl(params, self.family),
            self.options.importance_samples,
            kl_weight=self.kl_weight,
        )

    def _halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pixels of the upper and of the lower halves, (B, X) to (B, X1) and (B, X - X1)."""
        rows = x.reshape(*x.shape[:-1], *self.image)
        at = self.image[1] // 2
        return rows[..., :at, :].flatten(-3), rows[..., at:, :].flatten(-3)

    def _outputs(self, h: Tensor) -> Tensor:
        inputs = self.family.flat(h)
        return self.decoder(2 * inputs - 1 if self.options.coding == "signed" else inputs)  # type: ignore[no-any-return]


def _zero_kl(params: Mapping[str, Tensor], family: Latents) -> Tensor:
    """Return KL(p(h|x) || p(h|x)), (*R, B)."""
    return next(iter(params.values())).new_zeros(family.family(params).batch_shape)
