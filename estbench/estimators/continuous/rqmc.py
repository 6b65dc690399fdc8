"""Randomised quasi-Monte Carlo: draws that fill the space of the noise more evenly than independent ones."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.quasirandom import SobolEngine

from estbench.estimators.base import register
from estbench.estimators.continuous._coupled import Coupled, CoupledOptions


@register("rqmc")
class RQMC(Coupled):
    r"""Randomised quasi-Monte Carlo (Buchholz, Wenzel and Mandt, 2018, arXiv:1807.01604) under any estimator.

        eps_n = Phi^{-1}(u_n),   u_1 ... u_N a scrambled Sobol sequence, N = 2^m

    Each point is uniform, so the mean is unbiased; together they fill the cube more evenly than independent points.
    Every example of every replicate has its own scramble: the variance is that over scrambles. The variance among the
    points of one scramble would say nothing.

    Requires normal latents, and of f what ``base`` requires.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("gaussian_toy")
    >>> objective = problem(torch.zeros(1000, 1))  # independent copies of the toy
    >>> estimators.create("rqmc[num_points=4]")(objective).mean().backward()
    >>> problem.loc.grad.round()  # the exact gradient is -1
    tensor([-1.])
    """

    summary = "mean of any estimator over a scrambled Sobol sequence"
    reference = "buchholz2018"
    supports = frozenset({"normal"})
    unbiased = True
    needs_differentiable_f = True
    variants = ("rqmc[base=reinforce]",)

    class Options(CoupledOptions):
        """Options of ``rqmc``."""

        num_points: int = Field(default=8, ge=2, description="N, the points of the sequence: a power of two")

        @field_validator("num_points")
        @classmethod
        def _power_of_two(cls, value: int) -> int:
            if value & (value - 1):
                raise ValueError(f"a Sobol sequence is even only at powers of two; take {1 << value.bit_length()}")
            return value

    def __init__(self, options: RQMC.Options | None = None) -> None:
        options = options or RQMC.Options()
        super().__init__(options, copies=options.num_points)

    def noise(self, sample_shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return the noise; the draws of one call are further dimensions of the points: S D in all."""
        copies, *batch, latents = like.shape
        samples = math.prod(sample_shape)
        noise: Tensor = torch.special.ndtri(scrambled_sobol(copies, (*batch, samples * latents), like))
        return noise.view(copies, *batch, samples, latents).movedim(-2, 0).reshape(*sample_shape, *like.shape)


def scrambled_sobol(count: int, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return the first ``count`` points of Sobol's sequence, (count, *shape), in (0, 1); ``shape`` is (*batch, D).

    Each of the batch has its own scramble: a random lower triangular matrix on the binary digits, and a random shift of
    them (Matousek, 1998).
    """
    bits = 23 if like.dtype == torch.float32 else 52  # half a step further is still a number between 0 and 1
    digits = count.bit_length() - 1
    points = _sobol(digits, shape[-1], like.device).view(count, *[1] * (len(shape) - 1), shape[-1])
    scrambled = torch.randint(1 << bits, shape, device=like.device).expand(count, *shape)
    for position in range(digits):
        unit = 1 << (bits - 1 - position)
        column = unit + torch.randint(unit, shape, device=like.device)
        scrambled = scrambled ^ ((points >> (digits - 1 - position)) & 1) * column
    return (scrambled.to(like.dtype) + 0.5) / (1 << bits)


@lru_cache(maxsize=8)
def _sobol(digits: int, dimension: int, device: torch.device) -> Tensor:
    """Return the first 2^digits points as integers of ``digits`` binary digits, (2^digits, dimension)."""
    engine = SobolEngine(dimension)  # type: ignore[no-untyped-call]
    points: Tensor = engine.draw(1 << digits, dtype=torch.float64)
    return (points * (1 << digits)).long().to(device)
