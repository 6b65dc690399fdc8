"""Small problems of finite latents in double precision, and gradients on them without sampling error.

All that an estimator can draw from q is laid along a replicate dimension, in place of the draws, and each replicate is
weighted by its probability. So the mean of an estimate is a sum, as the exact gradient is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution

from estbench import EstbenchError, estimators
from estbench.latents import Latents, states
from estbench.problems import Objective, Problem
from estbench.randomness import seeded

LogLikelihood = Callable[[Tensor, Tensor], Tensor]  # samples (S, *R, B, D) and data (B, P) to (S, *R, B)
Family = Callable[[Mapping[str, Tensor]], Distribution]
EXAMPLES = 2
MOST_TUPLES = 10_000  # of values of the latents
ROUNDING = 1e-9  # of the probabilities of all tuples together


class SmallProblem(Problem):
    """A few examples of a few latents, each with parameters of q of its own; p is the family at parameters of zero.

    ``params`` are the variational parameters, (B, D) or (B, D, C) each; ``x`` the data of the examples, (B, P), which
    ``log_likelihood`` takes beside the flat samples. The KL is analytic or sampled; ``importance_samples`` is K.
    """

    name = "small problem"

    def __init__(
        self,
        family: Latents,
        params: dict[str, Tensor],
        x: Tensor,
        log_likelihood: LogLikelihood,
        *,
        analytic_kl: bool = False,
        importance_samples: int = 1,
    ) -> None:
        super().__init__()
        self.family = family
        self.params = params
        self.x = x
        self.log_likelihood = log_likelihood
        self.analytic_kl = analytic_kl
        self.importance_samples = importance_samples

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Return the parameters of all examples."""
        return self.params

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        """Return the objective at parameters of (*R, B, ...)."""
        return self.objective_of(params, self.family.family)

    def objective_of(self, params: Mapping[str, Tensor], family: Family) -> Objective:
        """Return the objective with a q that another function makes: one that draws given values, for example."""
        zeros = {name: torch.zeros_like(value) for name, value in params.items()}
        return Objective(
            params,
            family,
            lambda z: self.log_likelihood(self.family.flat(z), self.x),
            lambda: self.family.family(zeros),
            self.x,
            (lambda: self.family.kl(params, zeros)) if self.analytic_kl else None,
            self.importance_samples,
        )

    def leaves(self, *replicates: int) -> dict[str, Tensor]:
        """Return copies of the parameters that gradients are taken of, (*replicates, B, ...) each."""
        return {
            name: value.expand(*replicates, *value.shape).clone().requires_grad_()
            for name, value in self.params.items()
        }

    def exact_gradient(self) -> dict[str, Tensor]:
        """Return every example's own exact gradient, (B, ...) for each parameter."""
        leaves = self.leaves()
        return _gradient(self.objective(leaves, self.x).exact(), leaves)


def random_problem(
    family: Latents, log_likelihood: LogLikelihood, seed: int, *, analytic_kl: bool = False, importance_samples: int = 1
) -> SmallProblem:
    """Return a problem of moderate random parameters, whose f has mean zero over the examples.

    The mean is a constant, which changes no gradient.
    """
    generator = torch.Generator().manual_seed(seed)
    outputs, x = (
        2 * torch.rand(EXAMPLES, size, generator=generator, dtype=torch.float64) - 1
        for size in (family.outputs, family.inputs)
    )
    problem = SmallProblem(
        family,
        family.split(0.8 * outputs),
        x + 0.3,
        log_likelihood,
        analytic_kl=analytic_kl,
        importance_samples=importance_samples,
    )
    with torch.no_grad():
        objective = problem.objective(problem.params, problem.x)
        mean = float((objective.exact() + objective.kl()).mean())
    problem.log_likelihood = lambda z, x: log_likelihood(z, x) - mean
    return problem


def mean_gradient(variant: str, problem: SmallProblem) -> dict[str, Tensor]:
    """Return the mean of an estimator's gradient over all that it can draw, (B, ...) for each parameter.

    Raises ``EstbenchError`` if the estimator draws other noise than values of q, or if these have too many tuples.
    """
    estimator = estimators.create(variant).eval()
    count = _count_samples(estimator, problem)
    values = states(problem.family.family(problem.params))
    if not count or values is None or len(values) ** count > MOST_TUPLES:
        raise _not_enumerable(variant)
    index = torch.cartesian_prod(*[torch.arange(len(values))] * count).view(-1, count)
    tuples = values[index.T][:, :, None]  # (S, T, 1, ...)
    shape = (len(index), len(problem.x))
    probability = torch.ones(len(index), 1, dtype=torch.float64)
    drawn = 0

    def replay(params: Mapping[str, Tensor]) -> Distribution:
        q = problem.family.family(params)

        def sample(sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
            nonlocal drawn, probability
            chosen = tuples[drawn : drawn + sample_shape[0]]
            drawn += sample_shape[0]
            if q.batch_shape != shape or len(chosen) != sample_shape[0]:
                raise _not_enumerable(variant)
            z = chosen.expand(len(chosen), *shape, *q.event_shape)
            # By the law that is drawn from, which need not be that of the objective's q.
            probability = probability * q.log_prob(z).detach().sum(0).exp()
            return z

        q.sample = sample  # type: ignore[method-assign,assignment]
        return q

    leaves = problem.leaves(len(index))
    gradients = _gradient(estimator(problem.objective_of(leaves, replay)), leaves)
    total = probability.sum(0)
    if drawn != count or not torch.allclose(total, torch.ones_like(total), rtol=0, atol=ROUNDING):
        raise _not_enumerable(variant)
    return {
        name: (probability.view(*probability.shape, *[1] * (gradient.dim() - 2)) * gradient).sum(0)
        for name, gradient in gradients.items()
    }


def quadratic(z: Tensor, x: Tensor) -> Tensor:
    """Return a coupled quadratic: -1/2 sum_i (z_i - x_i)^2 + z_1 z_D / 2."""
    return -0.5 * (z - x).square().sum(-1) + 0.5 * z[..., 0] * z[..., -1]


def exponential(z: Tensor, x: Tensor) -> Tensor:
    """Return exp(x . z / 2), which is no polynomial of low degree."""
    return (0.5 * (x * z).sum(-1)).exp()


def decoder(z: Tensor, x: Tensor) -> Tensor:
    """Return the log-likelihood of three pixels, 1, 0 and 1, with logits linear in z, less that of fair pixels."""
    logits = x[..., :1] + (x * z).sum(-1, keepdim=True) * z.new_tensor([1.0, -0.5, 2.0])
    pixels = z.new_tensor([1.0, 0.0, 1.0])
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, pixels.expand_as(logits), reduction="none"
    )
    return (math.log(2) - cross_entropy).sum(-1)


def _count_samples(estimator: estimators.Estimator, problem: SmallProblem) -> int:
    """Return how many samples the estimator draws from q in one call; 0 if it draws any other noise."""
    shapes: list[tuple[int, ...]] = []

    def count(params: Mapping[str, Tensor]) -> Distribution:
        q = problem.family.family(params)
        original = q.sample

        def sample(sample_shape: torch.Size | tuple[int, ...] = ()) -> Tensor:
            shapes.append(tuple(sample_shape))
            state = torch.get_rng_state()
            z = original(torch.Size(sample_shape))
            torch.set_rng_state(state)
            return z

        q.sample = sample  # type: ignore[method-assign,assignment]
        return q

    with seeded(0, torch.device("cpu")):
        before = torch.get_rng_state()
        estimator(problem.objective_of(problem.leaves(1), count))
        other_noise = not torch.equal(before, torch.get_rng_state())
    if other_noise or any(len(shape) != 1 for shape in shapes):
        return 0
    return sum(shape[0] for shape in shapes)


def _gradient(values: Tensor, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    gradients = torch.autograd.grad(values.sum(), list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, gradients, strict=True))


def _not_enumerable(variant: str) -> EstbenchError:
    return EstbenchError(
        f"the noise of '{variant}' cannot be enumerated; take fewer samples, or an estimator that draws from q only"
    )
