"""The exact sum over all values of finite latents, without sampling."""

from __future__ import annotations

from torch import Tensor

from estbench.errors import EstbenchError
from estbench.estimators.base import Estimator, register
from estbench.latents import states
from estbench.problems import Objective
from estbench.problems.objective import ENUMERABLE


@register("enumeration")
class Enumeration(Estimator):
    r"""The exact objective and its exact gradient, of the encoder and of the decoder alike.

        L = sum_z q(z) f(z) - KL

    over the 2^D values of D bits, or the C^D of D categoricals: the reference for all others, for up to 4096 values
    (12 bits). There is no noise, so its variance is zero. Raises ``EstbenchError`` for more values.

    Requires bits or categories, and only values of f.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> problem = problems.create("bernoulli_toy")
    >>> objective = problem(torch.zeros(1, 1))
    >>> estimators.create("enumeration")(objective).mean().backward()
    >>> problem.logits.grad  # exact
    tensor([-0.0250])
    """

    summary = "exact gradient, by a sum over all values of the latents"
    reference = None
    supports = frozenset({"bernoulli", "categorical"})
    bounds = frozenset({"elbo", "multi-sample"})
    unbiased = True
    needs_differentiable_f = False
    evaluations = "C^D"  # bits have C = 2

    def prepare(self, objective: Objective) -> None:
        self.count_evaluations(objective)  # raises for too many values before anything is computed

    def count_evaluations(self, objective: Objective) -> int:
        values = states(objective.q, ENUMERABLE)
        if values is None or len(values) ** objective.importance_samples > ENUMERABLE:
            raise EstbenchError(
                f"estimator 'enumeration' sums over at most {ENUMERABLE} values, and latents of shape"
                f" {tuple(objective.q.event_shape)} have more; take fewer latents (12 bits, say) or another estimator"
            )
        return len(values)

    def forward(self, objective: Objective) -> Tensor:
        return objective.exact()
