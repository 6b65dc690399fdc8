"""Antithetic pairs: every draw of the noise together with its negative."""

from __future__ import annotations

import torch
from torch import Tensor

from estbench.estimators.base import register
from estbench.estimators.continuous._coupled import Coupled, CoupledOptions


@register("antithetic")
class Antithetic(Coupled):
    r"""Antithetic pairs (Hammersley and Morton, 1956) under any estimator of normal latents.

        (g(eps) + g(-eps)) / 2,   eps ~ N(0, I)

    The part of g that is odd in eps cancels. For a pathwise ``base`` that is all the noise of d/dmu of a quadratic.
    The score for mu is odd, so under a score function the *even* part of f cancels there, and any constant with it. The
    score for log sigma is even, so a constant stays, and a baseline is needed as before.

    Requires normal latents, and of f what ``base`` requires.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("gaussian_toy")
    >>> objective = problem(torch.zeros(1, 1))
    >>> estimators.create("antithetic")(objective).mean().backward()
    >>> problem.loc.grad.round(decimals=4)  # one pair is exact for a quadratic
    tensor([-1.])
    """

    summary = "mean of any estimator over the noise and its negative"
    reference = "hammersley1956"
    supports = frozenset({"normal"})
    unbiased = True
    needs_differentiable_f = True
    variants = ("antithetic[base=reinforce]", "antithetic[base=rloo]")

    class Options(CoupledOptions):
        """Options of ``antithetic``."""

    def __init__(self, options: Options | None = None) -> None:
        super().__init__(options, copies=2)

    def noise(self, sample_shape: tuple[int, ...], like: Tensor) -> Tensor:
        half = torch.randn(*sample_shape, 1, *like.shape[1:], dtype=like.dtype, device=like.device)
        return torch.cat([half, -half], len(sample_shape))
