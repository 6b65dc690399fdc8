"""Families of latent variables: how q is made from what an encoder emits, its KL, its samples."""

from estbench.latents.base import Latents
from estbench.latents.bernoulli import BernoulliLatents
from estbench.latents.categorical import CategoricalLatents, OneHot
from estbench.latents.densities import closed_form_kl, frozen, log_densities, without_stale_caches
from estbench.latents.families import FAMILY_NAMES, make_latents
from estbench.latents.finite import is_finite, states
from estbench.latents.full_normal import FullNormalLatents
from estbench.latents.implicit import IMPLICIT, BetaLatents, DirichletLatents, GammaLatents, StudentTLatents
from estbench.latents.layers import TwoNormalLayers
from estbench.latents.normal import NormalLatents
from estbench.latents.paths import at_own_noise
from estbench.latents.poisson import PoissonLatents
from estbench.latents.weibull import WeibullLatents

__all__ = [
    "FAMILY_NAMES",
    "IMPLICIT",
    "BernoulliLatents",
    "BetaLatents",
    "CategoricalLatents",
    "DirichletLatents",
    "FullNormalLatents",
    "GammaLatents",
    "Latents",
    "NormalLatents",
    "OneHot",
    "PoissonLatents",
    "StudentTLatents",
    "TwoNormalLayers",
    "WeibullLatents",
    "at_own_noise",
    "closed_form_kl",
    "frozen",
    "is_finite",
    "log_densities",
    "make_latents",
    "states",
    "without_stale_caches",
]
