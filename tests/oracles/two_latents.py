"""The bound of two latents by a sum or by quadrature over both, written out from torch's distributions."""

from __future__ import annotations

import numpy as np
import torch
from torch.distributions import Bernoulli, Independent, Normal, OneHotCategorical

from estbench.latents import states

NODES = 128  # of Gauss-Hermite quadrature, for one normal latent: 64 give the same gradients to 1e-3


def distribution(family, outputs, shape):
    """A distribution from an encoder's numbers: of bits, one-hot vectors or normal latents."""
    if family == "normal":
        loc, log_scale = outputs.chunk(2, dim=-1)
        return Independent(Normal(loc, log_scale.exp()), 1)
    if family == "bernoulli":
        return Independent(Bernoulli(logits=outputs), 1)
    return Independent(OneHotCategorical(logits=outputs.view(*outputs.shape[:-1], *shape)), 1)


def nodes(q):
    """Values of a latent, (N, *B, D), and their masses, (N, *B), which sum to one."""
    if isinstance(q.base_dist, Normal):
        assert q.event_shape == (1,)
        abscissae, masses = np.polynomial.hermite_e.hermegauss(NODES)
        ones = [1] * (len(q.batch_shape) + 1)
        z = q.mean + q.stddev * torch.tensor(abscissae).view(-1, *ones)
        return z, torch.tensor(masses / masses.sum()).view(-1, *ones[1:]).expand(z.shape[:-1])
    values = states(q)
    z = values.view(-1, *[1] * len(q.batch_shape), *q.event_shape).expand(-1, *q.batch_shape, *q.event_shape)
    return z, q.log_prob(z).exp()


def flat(z, q, coding="binary"):
    inputs = z.flatten(-2) if len(q.event_shape) == 2 else z
    return 2 * inputs - 1 if coding == "signed" else inputs


def log_pixels(logits, x):
    return Independent(Bernoulli(logits=logits), 1).log_prob(x.expand_as(logits))


def hierarchical_bound(problem, x, kl_weight):
    """E_q[log p(x|z1)] - w KL of both layers, (B,), of a ``hierarchical_vae``."""
    family, size = problem.options.latents, problem.options.latent_size
    shape, coding = (size, problem.options.categories), problem.options.coding
    q1 = distribution(family, problem.encoder(x), shape)
    z1, mass1 = nodes(q1)
    q2 = distribution(family, problem.second_encoder(flat(z1, q1, coding)), shape)
    z2, mass2 = nodes(q2)
    prior = distribution(family, problem.prior.outputs, shape)
    within = distribution(family, problem.second_decoder(flat(z2, q2, coding)), shape)
    ratio = prior.log_prob(z2) + within.log_prob(z1.expand(len(z2), *z1.shape)) - q2.log_prob(z2)
    kl = q1.log_prob(z1) - (mass2 * ratio).sum(0)
    return (mass1 * (log_pixels(problem.decoder(flat(z1, q1, coding)), x) - kl_weight * kl)).sum(0)


def mixed_bound(problem, x, kl_weight):
    """E_q[log p(x|y,z)] - w KL of both latents, (B,), of a ``mixed_vae``."""
    options = problem.options
    shape = (options.discrete_size, options.categories)
    q1 = distribution(options.discrete, problem.encoder(x), shape)
    y, mass1 = nodes(q1)
    code = flat(y, q1)
    q2 = distribution("normal", problem.second_encoder(torch.cat([x.expand(len(y), -1, -1), code], -1)), ())
    z, mass2 = nodes(q2)
    logits = problem.decoder(torch.cat([code.expand(len(z), *code.shape), z], -1))
    p1 = distribution(options.discrete, problem.prior.outputs, shape)
    p2 = distribution("normal", problem.second_prior.outputs, ())
    inner = log_pixels(logits, x) + kl_weight * (p2.log_prob(z) - q2.log_prob(z))
    return (mass1 * ((mass2 * inner).sum(0) + kl_weight * (p1.log_prob(y) - q1.log_prob(y)))).sum(0)


def bound(problem, x, kl_weight=1.0):
    """The bound of either problem, (B,), differentiable in all weights."""
    of = mixed_bound if problem.name == "mixed_vae" else hierarchical_bound
    return of(problem, x, kl_weight)
