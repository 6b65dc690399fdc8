r"""The joint values of D independent latents of C categories each: the best of C^D, or a draw without replacement.

Nothing of size C^D is ever made: a beam search goes through the latents one by one. log p is (\*R, B, D, C) and
normalised. k joint values are given by the indices of their categories, (k, \*R, B, D); they differ from each other.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from estbench.errors import EstbenchError
from estbench.estimators._noise import as_categorical_logits, from_one_hot, gumbel_noise, gumbel_perturbed
from estbench.problems import Objective


def log_probabilities(objective: Objective, values: int) -> Tensor:
    """Return detached log p, (*R, B, D, C); raise ``EstbenchError`` if there are fewer joint values than ``values``."""
    log_p = as_categorical_logits(objective).detach().log_softmax(-1)
    *_, latents, categories = log_p.shape
    if categories**latents < values:
        raise EstbenchError(
            f"{values} different values are asked of latents that have {categories**latents}: lower the option that"
            " counts them, num_samples or top"
        )
    return log_p


def decode(objective: Objective, indices: Tensor) -> Tensor:
    """Return the values of q with these indices, (k, *R, B, *event_shape)."""
    logits = as_categorical_logits(objective)
    return from_one_hot(objective, F.one_hot(indices, logits.shape[-1]).to(logits))


def most_probable(log_p: Tensor, count: int) -> Tensor:
    """Return the indices of the most probable joint values, in falling order.

    Exact, because log p is a sum over latents: the first categories of a best value are among the best beginnings.
    """
    return _beam(log_p, count, perturb=False)


def sample_without_replacement(log_p: Tensor, count: int) -> Tensor:
    """Draw joint values one after the other, each from q without the earlier ones; return their indices.

    The Gumbel-top-k trick, top down (stochastic beam search: Kool, van Hoof and Welling, 2019, arXiv:1903.06059).
    """
    return _beam(log_p, count, perturb=True)


def sample_excluding(log_p: Tensor, indices: Tensor) -> Tensor:
    """Draw one joint value from q given that it is none of those with ``indices``; return its own, (1, *R, B, D).

    It is the first such value in a draw without replacement: the one with the largest perturbed log p of the rest.
    """
    draws = sample_without_replacement(log_p, len(indices) + 1)
    excluded = (draws[:, None] == indices).all(-1).any(1)
    first = excluded.long().cumprod(0).sum(0)
    return draws.gather(0, first[None, ..., None].expand(1, *draws.shape[1:]))


def _beam(log_p: Tensor, count: int, *, perturb: bool) -> Tensor:
    """Return the ``count`` best joint values by log p, or by log p plus Gumbel noise, from W beams, (*R, B, W, D)."""
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
    """Return perturbed log p of the children, (*R, B, W, C), given that the largest is their parent's, (*R, B, W, 1).

    The child with the largest is drawn from q. The others are Gumbels truncated at its value, as in
    ``gumbel_perturbed_given_argmax``.
    """
    argmax_child = F.one_hot(gumbel_perturbed(step).argmax(-1), step.shape[-1]).bool()
    others = -torch.logaddexp(-largest, torch.empty_like(step).exponential_().log() - children)
    return torch.where(argmax_child, largest, others)
