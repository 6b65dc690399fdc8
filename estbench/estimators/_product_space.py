r"""The joint values of D independent latents of C categories each: the best of C^D, or a draw without replacement.

Nothing of size C^D is ever made: a beam goes through the latents one by one. log p is (\*R, B, D, C), normalised;
indices, the categories of joint values, are (k, \*R, B, D), different from each other in each example.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from estbench.errors import EstbenchError
from estbench.estimators._noise import as_categorical_logits, from_one_hot, gumbel_noise, gumbel_perturbed
from estbench.problems import Objective


def log_probabilities(objective: Objective, values: int) -> Tensor:
    """Detached log p, (*R, B, D, C), of latents that must have so many joint values."""
    log_p = as_categorical_logits(objective).detach().log_softmax(-1)
    *_, latents, categories = log_p.shape
    if categories**latents < values:
        raise EstbenchError(
            f"{values} different values are asked of latents that have {categories**latents}: lower the option that"
            " counts them, num_samples or top"
        )
    return log_p


def decode(objective: Objective, indices: Tensor) -> Tensor:
    """Codes as values of q, (k, *R, B, *event_shape)."""
    logits = as_categorical_logits(objective)
    return from_one_hot(objective, F.one_hot(indices, logits.shape[-1]).to(logits))


def most_probable(log_p: Tensor, count: int) -> Tensor:
    """The most probable joint values, in falling order: indices.

    Exact, because log p is a sum over latents: the beginning of one of the best is among the best beginnings.
    """
    return _beam(log_p, count, perturb=False)


def sample_without_replacement(log_p: Tensor, count: int) -> Tensor:
    """Joint values drawn one after the other, each from what q leaves of its mass without the earlier ones: indices.

    The Gumbel-top-k trick, top down (stochastic beam search: Kool, van Hoof and Welling, 2019, arXiv:1903.06059).
    """
    return _beam(log_p, count, perturb=True)


def sample_excluding(log_p: Tensor, indices: Tensor) -> Tensor:
    """One joint value drawn from q given that it is none of ``indices``, in indices of its own, (1, *R, B, D).

    It is the first that is none of them in a draw without replacement: the largest perturbed log p of the rest.
    """
    draws = sample_without_replacement(log_p, len(indices) + 1)
    excluded = (draws[:, None] == indices).all(-1).any(1)
    first = excluded.long().cumprod(0).sum(0)
    return draws.gather(0, first[None, ..., None].expand(1, *draws.shape[1:]))


def _beam(log_p: Tensor, count: int, *, perturb: bool) -> Tensor:
    """Codes of the best ``count`` joint values by log p, or by log p plus Gumbel noise: W beams, (*R, B, W, D)."""
    *batch, latents, categories = log_p.shape
    indices = torch.empty(*batch, 1, 0, dtype=torch.long, device=log_p.device)
    reached = log_p.new_zeros(*batch, 1)  # log p of a beginning
    score = gumbel_noise(reached) if perturb else reached
    for latent in range(latents):
        step = log_p[..., None, latent, :].expand(*batch, score.shape[-1], categories)
        children = reached[..., None] + step
        scores = _split(score[..., None], children, step) if perturb else children
        score, place = scores.flatten(-2).topk(min(count, scores.shape[-2] * categories), -1)
        reached = children.flatten(-2).gather(-1, place)
        parents = (place // categories)[..., None].expand(*place.shape, latent)
        indices = torch.cat([indices.gather(-2, parents), (place % categories)[..., None]], -1)
    return indices.movedim(-2, 0)


def _split(largest: Tensor, children: Tensor, step: Tensor) -> Tensor:
    """Perturbed log p of the children, (*R, B, W, C), given that the largest is their parent's, (*R, B, W, 1).

    The argmax_child is drawn from q; the others are Gumbels cut at its value, as in ``gumbel_perturbed_given_argmax``.
    """
    argmax_child = F.one_hot(gumbel_perturbed(step).argmax(-1), step.shape[-1]).bool()
    others = -torch.logaddexp(-largest, torch.empty_like(step).exponential_().log() - children)
    return torch.where(argmax_child, largest, others)
