"""The base of coupled estimators: any estimator of normal latents, averaged over draws that depend on each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field, field_validator
from torch import Tensor
from torch.distributions import Independent, Normal

from estbench.errors import EstbenchError
from estbench.estimators.base import ESTIMATORS, Estimator, create
from estbench.estimators.requirements import families
from estbench.options import BaseOptions
from estbench.problems import Objective


class CoupledOptions(BaseOptions):
    """Options of a coupled estimator."""

    base: str = Field(default="reparam", description="an estimator of normal latents that draws from q, as a variant")

    @field_validator("base")
    @classmethod
    def _normal(cls, value: str) -> str:
        resolved = ESTIMATORS.resolve(value)
        base = ESTIMATORS.get(resolved.name)
        if "normal" not in families(base.supports) or "elbo" not in base.bounds:
            raise ValueError(f"'{value}' does not estimate the ELBO of normal latents; choose another base")
        return resolved.label


class Coupled(Estimator):
    """The mean of a base estimator over copies of the objective whose draws depend on each other.

    The copies are one more batch dimension in front, (copies, *R, B), which every estimator allows. The base updates
    its state (a moving average) once for each step, after all copies have used the state from before.

    Raises ``EstbenchError`` if the base does not draw from q, because then there is nothing to couple.
    """

    def __init__(self, options: CoupledOptions | None, copies: int) -> None:
        super().__init__(options)
        self.copies = copies
        self.base = create(self.options.base)
        below = self.base.evaluations
        self.evaluations = f"{copies} ({below})" if isinstance(below, str) else copies * below
        self.unbiased = self.base.unbiased
        self.needs_differentiable_f = self.base.needs_differentiable_f

    def noise(self, sample_shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return standard normal noise, (*sample_shape, *like.shape), where ``like`` is (copies, *batch, D)."""
        raise NotImplementedError

    def prepare(self, objective: Objective) -> None:
        self.base.prepare(objective)

    def count_evaluations(self, objective: Objective) -> int:
        return self.copies * self.base.count_evaluations(objective)

    def forward(self, objective: Objective) -> Tensor:
        params = {name: value.expand(self.copies, *value.shape) for name, value in objective.params.items()}
        normal = CoupledNormal(params["loc"], params["log_scale"].exp(), self)
        twin = objective.with_q(params, Independent(normal, 1, validate_args=False))
        surrogate: Tensor = self.base(twin).mean(0)
        if not normal.drawn:
            raise EstbenchError(
                f"base={self.options.base} makes its own noise: no draw from q to couple; choose another"
            )
        objective.evaluations = twin.evaluations
        return surrogate


class CoupledNormal(Normal):
    """Normals in copies, (copies, *batch, D), whose draws are made from an estimator's noise."""

    def __init__(self, loc: Tensor, scale: Tensor, estimator: Coupled) -> None:
        super().__init__(loc, scale, validate_args=False)
        self.estimator = estimator
        self.drawn = False

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        self.drawn = True
        return self.loc + self.scale * self.estimator.noise(tuple(sample_shape), self.loc)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            return self.rsample(sample_shape)
