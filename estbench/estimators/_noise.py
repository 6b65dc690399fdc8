"""Noise of discrete latents: logistic and Gumbel draws, also given the sample, and one-hot vectors.

Sizes: D latents of C categories, C = 2 for bits; ``*B`` are any batch dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, OneHotCategorical

from estbench.problems import Objective

LEAST = -(2**63)  # of 64-bit integers


def is_categorical(q: Distribution) -> bool:
    """Return whether q draws one-hot vectors, and not bits."""
    return isinstance(q.base_dist if isinstance(q, Independent) else q, OneHotCategorical)


def noise_pair(objective: Objective, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return a sample of q, its noise before rounding, and a second draw of that noise given the sample.

    All are (*B, *event). Both noises are live in ``logits``, which q is made from. The sample is one-hot at the largest
    of the perturbed log-probabilities, or the sign of the logistic variable.
    """
    if is_categorical(objective.q):
        log_p = logits.log_softmax(-1)  # the scale of gumbel_perturbed_given_argmax
        noise = gumbel_perturbed(log_p)
        sample = torch.zeros_like(noise).scatter(-1, noise.argmax(-1, keepdim=True), 1.0)
        return sample, noise, gumbel_perturbed_given_argmax(log_p, sample)
    noise = logistic_perturbed(logits)
    sample = (noise > 0).to(noise)
    return sample, noise, logistic_perturbed_given_bit(logits, sample)


def gumbel_perturbed(logits: Tensor, sample_shape: tuple[int, ...] = ()) -> Tensor:
    """Return logits plus Gumbel noise, (*sample_shape, *B, C): their argmax is a categorical sample (Gumbel, 1954)."""
    return logits + gumbel_noise(logits.new_empty(*sample_shape, *logits.shape))


def gumbel_perturbed_given_argmax(logits: Tensor, one_hot: Tensor) -> Tensor:
    r"""Draw the perturbed logits given their argmax, both (..., C); live in the logits.

    With normalised log p, the largest is T ~ Gumbel(0), whatever its place k; the others are Gumbels truncated at T
    (Maddison, Tarlow and Minka, 2014, arXiv:1411.0030):

        z_k = T,   z_i = -log(exp(-T) + E_i / p_i),   E_i ~ Exp(1)
    """
    log_p = logits.log_softmax(-1)
    largest = gumbel_noise(torch.empty_like(one_hot[..., :1]))
    exponential = torch.empty_like(one_hot).exponential_()
    others = -torch.logaddexp(-largest, exponential.log() - log_p)
    return torch.where(one_hot.bool(), largest, others)


def logistic_perturbed(logits: Tensor, sample_shape: tuple[int, ...] = ()) -> Tensor:
    """Return logits plus logistic noise, (*sample_shape, *B, D): positive with probability sigmoid(logits)."""
    return logits + open_uniform(logits.new_empty(*sample_shape, *logits.shape)).logit()


def logistic_perturbed_given_bit(logits: Tensor, bits: Tensor) -> Tensor:
    r"""Draw the logistic variable given its sign, both (..., D); live in the logits (Tucker et al., 2017).

        z = logit theta + logit v',   v' = v (1 - theta) where b = 0,   1 - v' = v theta where b = 1

    with v uniform. v' must stay differentiable in theta: held fixed, it biases every estimator that uses it. Each case
    is computed from its own tail, because that is accurate also where theta is close to 0 or 1.
    """
    positive = bits.bool()
    tail = open_uniform(torch.empty_like(bits)) * torch.where(positive, logits, -logits).sigmoid()
    noise = tail.clamp(min=torch.finfo(tail.dtype).tiny).logit()
    return logits + torch.where(positive, -noise, noise)


def gumbel_noise(like: Tensor) -> Tensor:
    """Return standard Gumbel noise, -log(-log u) for u uniform, of the shape, precision and device of ``like``."""
    if like.dtype != torch.float32:
        return -torch.empty_like(like).exponential_().clamp(min=torch.finfo(like.dtype).tiny).log()
    # In single precision u has 31 random bits, two of them from one number: four times as fast on a CPU. Where u is or
    # rounds to 0 or 1, u and -log u are half of their least other value.
    numbers = _random_numbers((like.numel() + 1) // 2, like.device)
    u = numbers.view(torch.int32)[: like.numel()].view(like.shape).to(like.dtype).abs_().mul_(2.0**-31)
    return u.clamp_(min=2.0**-32).log_().neg_().clamp_(min=2.0**-25).log_().neg_()


def _random_numbers(count: int, device: torch.device) -> Tensor:
    """Return independent 64-bit integers of all values, in torch's current random state."""
    if torch.compiler.is_compiling():  # which knows no ``random_``; the same numbers, but for one value in 2^64
        return torch.randint(LEAST, -(LEAST + 1), (count,), dtype=torch.int64, device=device) ^ LEAST
    return torch.empty(count, dtype=torch.int64, device=device).random_(LEAST, None)


def open_uniform(like: Tensor) -> Tensor:
    """Return uniform noise on the open interval (0, 1), like ``like``: its logit is finite."""
    eps = torch.finfo(like.dtype).eps
    return torch.rand_like(like).clamp(eps, 1 - eps)


def as_categorical_logits(objective: Objective) -> Tensor:
    """Return the logits of q as those of categories, (*R, B, D, C), live; C = 2 for bits."""
    logits = objective.params["logits"]
    return torch.stack([torch.zeros_like(logits), logits], -1) if _has_bits(objective) else logits


def to_one_hot(objective: Objective, z: Tensor) -> Tensor:
    """Return values of q as one-hot vectors, (S, *R, B, D, C)."""
    return torch.stack([1 - z, z], -1) if _has_bits(objective) else z


def from_one_hot(objective: Objective, vectors: Tensor) -> Tensor:
    """Return vectors over categories, (S, *R, B, D, C), one-hot or relaxed, as values of q: inverts ``to_one_hot``."""
    return vectors[..., 1] if _has_bits(objective) else vectors


def _has_bits(objective: Objective) -> bool:
    return len(objective.q.event_shape) == 1
