"""Unbiased gradient variance clipping: DisARM, and one flipped bit where a bit is nearly certain."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from estbench.estimators._surrogates import gradient_surrogate
from estbench.estimators.base import Estimator, register
from estbench.estimators.discrete.arm import antithetic_bits
from estbench.problems import Objective


@register("ugc")
class UGC(Estimator):
    r"""Unbiased gradient variance clipping (Kunes, Yin, Land, Haviv, Pe'er and Tavare, 2023, arXiv:2208.06124).

        (b, b') an antithetic pair, j uniform among the D bits, m_i = min(theta_i, 1 - theta_i)
        grad_i ~ D 1[i = j] theta_i (1 - theta_i) (f(b with b_i = 1) - f(b with b_i = 0))    where m_i < 1 / (2D)
                 (1/2) (f(b) - f(b')) (b_i - b'_i) sigmoid(|logit_i|), which is DisARM       elsewhere

    The first line is bitflip-1, ``local-expectation[flipped=1]``. The choice depends on theta alone, so the mean is
    exact. Where one change of f in b_i is about as large as that of the whole pair, the second moments have the ratio
    2 D m_i: the rule takes the smaller one. For an f that hardly differs within a pair DisARM may still be the better
    one. The gradients are those of logits; with respect to theta, DisARM's noise grows as 1 / m_i towards certainty,
    and that of the flip does not grow. f is called three times: the flipped b is a value that q did not draw, and does
    not train the decoder.

    Requires bits, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy[target=0,theta=0.8]")
    >>> objective = problem(torch.zeros(1, 1))
    >>> estimators.create("ugc")(objective).mean().backward()
    >>> problem.logits.grad.round(decimals=4)  # exact for one bit
    tensor([-0.1600])
    """

    summary = "disarm, and one flipped bit for the bits that are nearly certain"
    reference = "kunes2023"
    supports = frozenset({"bernoulli"})
    unbiased = True
    needs_differentiable_f = False
    evaluations = 3

    def forward(self, objective: Objective) -> Tensor:
        logits, frozen = objective.params["logits"].detach(), objective.frozen_q()
        theta, latents = logits.sigmoid(), logits.shape[-1]
        _, bits = antithetic_bits(logits, 1)
        bits = bits[:, 0]  # (2, *R, B, D)
        chosen = F.one_hot(torch.randint(latents, objective.batch_shape, device=logits.device), latents).bool()
        f = objective.f(bits, frozen)
        first, second = f.detach()
        with torch.no_grad():
            flipped = objective.f(torch.where(chosen, 1 - bits[0], bits[0])[None], frozen)[0]
        by_pair = 0.5 * (first - second)[..., None] * (bits[0] - bits[1]) * logits.abs().sigmoid()
        change = (flipped - first)[..., None] * (1 - 2 * bits[0])
        by_flip = torch.where(chosen, latents * theta * (1 - theta) * change, 0.0)
        nearly_certain = (-logits.abs()).sigmoid() < 0.5 / latents
        return gradient_surrogate(objective, f, torch.where(nearly_certain, by_flip, by_pair))
