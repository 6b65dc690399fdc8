"""The base class of problems, data and a model that yield an objective for each minibatch, and their registry."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.parameter import is_lazy

from estbench.datasets import DATASETS, Dataset, data_id
from estbench.errors import EstbenchError
from estbench.failures import mistakes_of
from estbench.options import BaseOptions
from estbench.problems.groups import default_groups
from estbench.problems.networks import NETWORKS
from estbench.problems.objective import Objective
from estbench.problems.parts import LIKELIHOODS, POSTERIORS, PRIORS
from estbench.registry import Registry, written
from estbench.source import ships
from estbench.variant import Variant

# Examples that lazy modules are sized by, and that show which weights q depends on.
EXAMPLES = 2


class Problem(nn.Module):
    """Base of all problems: encode observations to variational parameters, then state the objective for them.

    The two steps are apart because a probe expands the parameters by a replicate dimension in between. A problem sets
    ``data``, a ``Dataset``, and defines ``observe``, ``encode`` and ``objective``; ``groups`` are found from the names
    of its attributes. Sizes: B examples, X numbers in an observation, D latents, ``*R`` replicates in a probe.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from estbench.datasets import Dataset
    >>> from estbench.latents import NormalLatents
    >>> from estbench.problems import Objective, Problem
    >>> class Denoise(Problem):
    ...     "p(z) = N(0, 1), p(x|z) = N(x; z, 1), q(z|x) = N(a x, exp(2 s))."
    ...
    ...     def __init__(self):
    ...         super().__init__()
    ...         points = torch.linspace(-1, 1, 8)[:, None].numpy()
    ...         self.data = Dataset("points", points, points, points, shape=(1, 1))
    ...         self.a, self.s = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))
    ...
    ...     def observe(self, intensities, generator):
    ...         return intensities
    ...
    ...     def encode(self, x):
    ...         return {"loc": self.a * x, "log_scale": self.s.expand_as(x)}
    ...
    ...     def objective(self, params, x):
    ...         normal = NormalLatents(1)
    ...         return Objective(
    ...             params,
    ...             normal.family,
    ...             lambda z: torch.distributions.Normal(z, 1.0).log_prob(x).sum(-1),
    ...             lambda: normal.family({"loc": torch.zeros(1), "log_scale": torch.zeros(1)}),
    ...         )
    >>> problem = Denoise()
    >>> objective = problem(torch.from_numpy(problem.data.train[:5]))
    >>> objective.f(objective.q.sample((3,))).shape  # 3 samples of 5 examples
    torch.Size([3, 5])
    >>> {group: len(weights) for group, weights in problem.groups().items()}  # q depends on both weights
    {'encoder': 2}
    """

    Options: ClassVar[type[BaseOptions]] = BaseOptions
    name: ClassVar[str]
    summary: ClassVar[str]
    version: ClassVar[int] = 1
    latents: ClassVar[str] = "other"  # a family that q must then have ("normal", "bernoulli", ...), or any other word
    data: Dataset
    kl_weight: float = 1.0  # of the objectives of training, which sets it: pass it on to Objective

    def __repr__(self) -> str:
        """Return its name with options and its sizes; ``nn.Module.__repr__(problem)`` lists its modules."""
        data = getattr(self, "data", None)
        shape = "" if data is None else " x ".join(map(str, data.shape))
        examples = "" if data is None else f"{len(data.train):,} training examples of {shape}, "
        weights = sum(each.numel() for each in self.parameters() if not is_lazy(each))
        return f"{written(self)}: {examples}{weights:,} weights"

    @classmethod
    def latents_of(cls, options: Any) -> str:
        """Return the latents of a choice of options: a family that q must then have, or any other word."""
        return cls.latents

    @classmethod
    def latents_by_name(cls, options: Any) -> dict[str, str]:
        """Return what ``latents_of`` says by the name of each latent: several have an estimator each."""
        return {"z": cls.latents_of(options)}

    @classmethod
    def bound_of(cls, options: Any) -> str:
        """Return the objective of a choice of options: ``elbo``, or ``multi-sample`` for K > 1 importance samples."""
        return "elbo"

    @classmethod
    def observation_of(cls, options: Any) -> str | None:
        """Return a word for what the model sees of the images; None if they are binarised as the dataset says."""
        return None

    @classmethod
    def card_of(cls, options: Any) -> str:
        """Return the versioned name of what is bounded: dataset, binarisation, split, and what changes the model.

        Bounds with different cards never stand in one table: the card is part of every cell's key. If a class that does
        not ship has its own ``observe``, its name stands in place of the binarisation, because only its author knows
        what it does to the pixels. If it has its own ``objective``, its name stands at the end.
        """
        dataset = getattr(options, "dataset", None)
        of_model = [getattr(options, name) for name in ("latents", "prior", "coding") if hasattr(options, name)]
        if dataset is None:
            return "-".join(map(str, [cls.name, *of_model]))
        own = [cls.name] if not ships(cls.objective) else []
        return "-".join(
            map(
                str,
                [data_id(dataset, cls.observation_of(options) if ships(cls.observe) else cls.name), *of_model, *own],
            )
        )

    def observe(self, intensities: Tensor, generator: Generator) -> Tensor:
        """Draw what the model sees from raw data, (B, X) to (B, X); a fresh draw at each access."""
        raise NotImplementedError

    @property
    def takes_bytes(self) -> bool:
        """Whether ``observe`` also takes intensities k/255 as bytes k: it does if it has the mark ``of_bytes``."""
        return getattr(type(self).observe, "of_bytes", False)

    def encode(self, x: Tensor) -> Mapping[str, Tensor]:
        """Return the variational parameters by name for observations x, (B, X) to tensors of (B, D)."""
        raise NotImplementedError

    def objective(self, params: Mapping[str, Tensor], x: Tensor) -> Objective:
        """Return the objective for observations x, (B, X), at variational parameters of (*R, B, D)."""
        raise NotImplementedError

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the weights by part: ``encoder``, ``decoder`` and, if it is learned, ``prior``.

        By default they are found from the names of attributes: see ``estbench.problems.groups``. Override it for other
        parts; each weight belongs to one of them.
        """
        return default_groups(self, lambda: _tensors_of_q(self))

    def decode(self, z: Tensor) -> Tensor:
        """Return the mean images of latents, (N, D) to (N, X), for pictures; a problem without images leaves it out."""
        raise NotImplementedError

    def sample_prior(self, count: int) -> Tensor:
        """Draw latents for ``decode`` from p(z), (count, D); a problem without images leaves it out."""
        raise NotImplementedError

    def reconstruct(self, x: Tensor) -> Tensor:
        """Return the mean image of one draw from q(z|x) for each observation, (N, X) to (N, X), for pictures."""
        return self.decode(self(x).q.sample())

    def forward(self, x: Tensor) -> Objective:
        """Return the objective for observations x, (B, X)."""
        return self.objective(self.encode(x), x)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return next(self.parameters()).device


# The parts of a VAE by kind: all that an option of ``vae`` may name beside its dataset.
PARTS: dict[str, Registry[Any]] = {each.kind: each for each in (NETWORKS, POSTERIORS, PRIORS, LIKELIHOODS)}
PROBLEMS: Registry[type[Problem]] = Registry("problem", uses=[DATASETS, *PARTS.values()])
register = PROBLEMS.register
names = PROBLEMS.names


def create(variant: str | Variant) -> Problem:
    """Build a problem from ``name[option=value,...]``, for example ``vae[dataset=mnist5k]``.

    Its initial weights come from torch's current random state. Raises ``EstbenchError`` for an unknown name or option,
    and for lazy modules that the problem does not use.

    Examples
    --------
    >>> from estbench import problems
    >>> problem = problems.create("gaussian_toy[dimensions=3]")
    >>> problem.options.dimensions
    3
    """
    problem: Problem = PROBLEMS.create(variant)
    if _lazy(problem):
        _build(problem, variant)
    return problem


def _build(problem: Problem, variant: str | Variant) -> None:
    """Give lazy modules their weights now, so that these do not depend on what comes next."""
    training = [(module, module.training) for module in problem.modules()]
    problem.eval()  # a normalisation learns nothing from this
    with mistakes_of(f"the lazy modules of problem '{variant}' cannot be built"), torch.no_grad():
        intensities = torch.from_numpy(problem.data.train[:EXAMPLES])
        objective = problem(problem.observe(intensities, Generator().manual_seed(0)))
        objective.f(objective.q.sample((1,)))
    for module, mode in training:
        module.training = mode
    if unused := _lazy(problem):
        raise EstbenchError(
            f"problem '{variant}' has lazy modules that its objective does not use ({', '.join(unused)}); give their"
            " sizes in __init__, or remove them"
        )


def _tensors_of_q(problem: Problem) -> list[Tensor]:
    """Return the variational parameters of training examples, and the density of a draw.

    The examples have the precision of the data or, if the model does not take that, of the weights.
    """
    intensities = torch.from_numpy(problem.data.train[:EXAMPLES].copy()).to(problem.device)
    for dtype in dict.fromkeys((intensities.dtype, *(weight.dtype for weight in problem.parameters()))):
        try:
            generator = Generator(problem.device).manual_seed(0)
            objective = problem(problem.observe(intensities.to(dtype), generator))
            return [*objective.params.values(), objective.q.log_prob(objective.q.sample())]
        except RuntimeError as error:  # torch's for operands of several precisions
            failed = error
    raise failed


def _lazy(problem: Problem) -> list[str]:
    """Return the names of the weights and buffers that have no size yet."""
    return [name for name, value in (*problem.named_parameters(), *problem.named_buffers()) if is_lazy(value)]


def describe(name: str) -> dict[str, Any]:
    """Return facts, options with their defaults, and the documentation of a problem, as plain data.

    Raises ``EstbenchError`` for an unknown name.

    Examples
    --------
    >>> from estbench import problems
    >>> problems.describe("bernoulli_toy")["options"]
    {'target': 0.45, 'power': 2.0, 'bits': 1, 'theta': 0.5}
    """
    cls = PROBLEMS.get(name)
    return {
        "name": name,
        "kind": "problem",
        "summary": cls.summary,
        "latents": cls.latents,
        "version": cls.version,
        "options": cls.Options.defaults(),
        "documentation": inspect.getdoc(cls) or "",
    }


def describe_part(kind: str, name: str) -> dict[str, Any]:
    """Return the options and the documentation of a network, posterior, prior or likelihood, as plain data.

    Raises ``EstbenchError`` for an unknown name.

    Examples
    --------
    >>> from estbench import problems
    >>> problems.describe_part("network", "conv")["options"]["channels"]
    [32, 64]
    """
    entry = PARTS[kind].get(name)
    options: type[BaseOptions] | None = getattr(entry, "Options", None)
    return {
        "name": name,
        "kind": kind,
        "options": options.defaults() if options else {},
        "documentation": inspect.cleandoc(entry.__doc__ or ""),  # not that of a base class
    }
