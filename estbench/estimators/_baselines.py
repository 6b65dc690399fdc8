"""Baselines of score-function gradients: composed with an estimator, never part of one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from estbench.errors import EstbenchError
from estbench.problems import Objective


class Baseline(nn.Module):
    """Base of baselines, which are subtracted from f: one may depend on the input and the past, never on the sample."""

    evaluations = 0  # of f, per example and step

    def prepare(self, objective: Objective) -> None:
        """Build learned parts, whose sizes the objective decides."""

    def forward(self, objective: Objective) -> Tensor:
        """Return the baseline, broadcastable against f of (S, *R, B); live in the baseline's own parameters."""
        raise NotImplementedError

    def update(self, f: Tensor) -> None:
        """Take in the values of f of a step, (S, *R, B), after they were used."""


class Zero(Baseline):
    """No baseline."""

    def forward(self, objective: Objective) -> Tensor:
        return next(iter(objective.params.values())).new_zeros(())


class ExponentialMovingAverage(Baseline):
    r"""c_t = m_t / (1 - a^t) with m_t = a m_{t-1} + (1 - a) mean f_t; step t subtracts c_{t-1}.

    The division removes the bias towards zero, where m starts.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.mean: Tensor
        self.weight: Tensor
        # In double precision, whatever the precision of the model is; (1,), because a compiled step of torch 2.13 loses
        # what is written into a buffer of () in double precision.
        self.register_buffer("mean", torch.zeros(1, dtype=torch.float64))
        self.register_buffer("weight", torch.zeros(1, dtype=torch.float64))

    def forward(self, objective: Objective) -> Tensor:
        dtype = next(iter(objective.params.values())).dtype
        average: Tensor = self.mean / self.weight.clamp(min=torch.finfo(torch.float64).tiny)
        return average.to(dtype)

    @torch.no_grad()
    def update(self, f: Tensor) -> None:
        self.mean.mul_(self.decay).add_(f.mean(), alpha=1 - self.decay)
        self.weight.mul_(self.decay).add_(1 - self.decay)


class InputDependent(Baseline):
    r"""c_{t-1} + b_psi(x): the moving average plus a tanh network of the input (Mnih and Gregor, 2014).

    Raises ``EstbenchError`` for an objective without ``context``, and if it is used before ``prepare``.
    """

    def __init__(self, decay: float, hidden: int) -> None:
        super().__init__()
        self.average = ExponentialMovingAverage(decay)
        self.hidden = hidden

    def prepare(self, objective: Objective) -> None:
        if objective.context is None:
            raise EstbenchError(
                "baseline=nvil learns from the input, and this problem has none; choose another baseline"
            )
        x = objective.context
        self.network = nn.Sequential(nn.Linear(x.shape[-1], self.hidden), nn.Tanh(), nn.Linear(self.hidden, 1)).to(x)

    def forward(self, objective: Objective) -> Tensor:
        if not hasattr(self, "network"):
            raise EstbenchError("baseline=nvil has no network yet; call estimator.prepare(problem(x)) once, before use")
        learned: Tensor = self.network(objective.context).squeeze(-1)
        average: Tensor = self.average(objective)
        return learned + average

    def update(self, f: Tensor) -> None:
        self.average.update(f)


class Optimal(Baseline):
    r"""b = E[f |s|^2] / E[|s|^2] with the score s = grad log q, estimated from separate draws of each example.

    Among all scalars it leaves the least variance, summed over the variational parameters (Greensmith, Bartlett and
    Baxter, 2004). Its draws are separate, so b is independent of the samples that it is subtracted from.
    """

    def __init__(self, draws: int) -> None:
        super().__init__()
        self.evaluations = draws

    def forward(self, objective: Objective) -> Tensor:
        z = objective.q.sample((self.evaluations,))
        with torch.no_grad():
            f = objective.f(z, objective.frozen_q())
        weight = squared_score(objective, z)
        return (weight * f).sum(0) / weight.sum(0)


def squared_score(objective: Objective, z: Tensor) -> Tensor:
    """Return |grad log q(z)|^2 over all variational parameters, (S, *batch, ...) to (S, *batch)."""
    # Each sample has a copy of the parameters, so that the scores of samples are not summed.
    params = {
        name: value.detach().expand(len(z), *value.shape).requires_grad_() for name, value in objective.params.items()
    }
    scores = torch.autograd.grad(objective.build_q(params).log_prob(z).sum(), list(params.values()))
    kept = z.shape[: 1 + len(objective.batch_shape)]
    return torch.stack([score.square().reshape(*kept, -1).sum(-1) for score in scores]).sum(0)
