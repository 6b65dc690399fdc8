"""The base class of estimators, and their registry."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from estbench.errors import EstbenchError
from estbench.estimators import requirements
from estbench.options import BaseOptions
from estbench.problems import Objective
from estbench.references import BIBTEX, read_entry
from estbench.registry import Registry, written
from estbench.variant import Variant


class Estimator(nn.Module):
    """Turns an objective into a per-example surrogate whose autograd gradient estimates grad L.

    Three rules make an estimator work both in training and in a probe.

    * Samples come first, then *any* batch dimensions: the probe adds a replicate dimension.
    * The surrogate of an example depends only on the noise of that example; what pools over the batch (a moving
      average) is state from before the step.
    * State lives in buffers and changes only in training mode. Learned parts are parameters of the estimator; a second
      optimiser ascends the same surrogate. ``eval()`` freezes both.

    Parameters
    ----------
    options
        An instance of the class's ``Options``; None for the defaults.

    Raises
    ------
    EstbenchError
        When it is called on an objective whose q, or whose bound, it is not for.

    Examples
    --------
    >>> import torch
    >>> from estbench import problems
    >>> from estbench.estimators import Estimator
    >>> class ScoreFunction(Estimator):
    ...     "grad E_q[f] = E_q[f(z) grad log q(z)]."
    ...
    ...     summary = "score function, no baseline"
    ...     supports = {"any"}
    ...     unbiased = True
    ...     needs_differentiable_f = False
    ...     evaluations = 1
    ...
    ...     def forward(self, objective):
    ...         z = objective.q.sample((1,))
    ...         f = objective.f(z, objective.frozen_q())
    ...         return (f + f.detach() * objective.q.log_prob(z)).mean(0) - objective.kl()
    >>> ScoreFunction()(problems.create("gaussian_toy")(torch.zeros(5, 1))).shape  # one number for each example
    torch.Size([5])
    """

    Options: ClassVar[type[BaseOptions]] = BaseOptions
    name: ClassVar[str]
    summary: ClassVar[str]
    reference: ClassVar[str | None] = None  # the BibTeX key of its paper: in references.bib, or that of `bibtex`
    bibtex: ClassVar[str | None] = None  # a BibTeX entry, for a paper that is not in references.bib
    # The requirement on q: "any" (samples and their density), "reparameterized" (also a differentiable sample), or
    # families whose structure the formula uses ("normal", "bernoulli", ...). q itself is checked, not its name.
    supports: ClassVar[AbstractSet[str]]
    bounds: ClassVar[AbstractSet[str]] = frozenset({"elbo"})  # objectives: "elbo", "multi-sample"
    unbiased: bool  # this and the next may depend on the options: then __init__ sets them
    needs_differentiable_f: bool
    version: ClassVar[int] = 1  # raised when the estimate changes: older cells are then recomputed
    evaluations: int | str  # of f, per example and step; a formula such as "2D" if the problem decides
    scheduled: ClassVar[AbstractSet[str]] = frozenset()  # options that a schedule may change along training
    variants: ClassVar[tuple[str, ...]] = ()  # further choices of options that have a certificate of their own
    _seen: Any = None  # the kind of objective that was checked last

    def __init__(self, options: BaseOptions | None = None) -> None:
        super().__init__()
        self.options: Any = options or type(self).Options()

    def __repr__(self) -> str:
        """Return its name with options; ``nn.Module.__repr__(estimator)`` lists its modules."""
        return written(self)

    @classmethod
    def for_latents(cls, latents: Collection[str], options: BaseOptions | None) -> dict[str, type[Estimator]]:
        """Return the class that estimates the gradient of each of a problem's latents; with these ``options``."""
        return dict.fromkeys(latents, cls)

    @property
    def parts(self) -> tuple[Estimator, ...]:
        """The estimators of the single latents, in their order; itself for all of them."""
        return (self,)

    def prepare(self, objective: Objective) -> None:
        """Build learned parts, whose sizes the problem decides; call it once, before the first step."""

    def count_evaluations(self, objective: Objective) -> int:
        """Return the calls of f per example and step; if ``evaluations`` is a formula, its value for this objective."""
        if isinstance(self.evaluations, str):
            raise EstbenchError(
                f"estimator '{self.name}' declares evaluations = '{self.evaluations}';"
                " define count_evaluations(objective), which gives its value"
            )
        return self.evaluations

    def __call__(self, objective: Objective) -> Any:
        """Return the surrogate, (*batch_shape); a new kind of objective is checked first."""
        kind = requirements.kind_of(objective)
        if kind == self._seen:
            return super().__call__(objective)
        requirements.look(self, objective)
        surrogate = super().__call__(objective)
        self._seen = kind  # one that was refused is checked again
        return surrogate

    def forward(self, objective: Objective) -> Tensor:
        """Return the per-example surrogate, (*batch_shape): its gradient is the estimate of grad L (ascent)."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Return the declared facts as plain data: all that a report needs to describe and cite the estimator."""
        own = None if self.bibtex is None else read_entry(self.bibtex)
        return {
            "summary": self.summary,
            "reference": self.reference if own is None else own[0],
            **({} if own is None else {"bibtex": own[1]}),
            "supports": sorted(self.supports),
            "bounds": sorted(self.bounds),
            "unbiased": self.unbiased,
            "needs_differentiable_f": self.needs_differentiable_f,
            "evaluations": self.evaluations,
        }


E = TypeVar("E", bound=Estimator)


def make_ready(estimator: E, objective: Objective) -> E:
    """Move an estimator to the device of an objective, build its learned parts there, and return it.

    It is moved first, because an estimator may try out what it has in ``prepare``.

    Examples
    --------
    >>> from estbench import estimators, problems
    >>> problem = problems.create("vae[dataset=digits,hidden=[4],latent_size=2]")
    >>> x = problem.observe(torch.from_numpy(problem.data.train[:3]), torch.Generator())
    >>> estimator = estimators.make_ready(estimators.create("reinforce[baseline=nvil]"), problem(x))
    >>> len(list(estimator.parameters()))  # of the baseline's network
    4
    """
    estimator.to(objective.device)
    with torch.no_grad():
        estimator.prepare(objective)
    return estimator.to(objective.device)


def surrogate_of(estimator: Estimator, objective: Objective) -> Tensor:
    """Return the estimator's surrogate, (*batch_shape); ``EstbenchError`` for anything else that it returns.

    Examples
    --------
    >>> import torch
    >>> from estbench import estimators, problems
    >>> objective = problems.create("gaussian_toy")(torch.zeros(5, 1))
    >>> estimators.surrogate_of(estimators.create("reparam"), objective).shape
    torch.Size([5])
    """
    surrogate: Any = estimator(objective)
    if not isinstance(surrogate, Tensor):
        given = f"a {type(surrogate).__name__}"
    elif surrogate.shape != objective.batch_shape:
        given = f"shape {tuple(surrogate.shape)}"
    elif not surrogate.is_floating_point():
        given = f"numbers of type {str(surrogate.dtype).removeprefix('torch.')}"
    else:
        return surrogate
    raise EstbenchError(
        f"estimator '{getattr(estimator, 'name', type(estimator).__name__)}' returned {given}; return one real number"
        f" per example, a tensor of shape {tuple(objective.batch_shape)}"
    )


ESTIMATORS: Registry[type[Estimator]] = Registry("estimator")
names = ESTIMATORS.names
FACTS = ("summary", "supports", "unbiased", "needs_differentiable_f")


def register(name: str) -> Callable[[type[E]], type[E]]:
    """Register a class of estimators as ``name``; ``EstbenchError`` if it does not declare its facts.

    Examples
    --------
    >>> from estbench.estimators import Estimator, register
    >>> @register("mine")
    ... class Mine(Estimator):
    ...     "A class without its facts."
    Traceback (most recent call last):
    estbench.errors.EstbenchError: estimator 'mine' does not declare summary, supports, unbiased, ...
    """

    def decorator(cls: type[E]) -> type[E]:
        missing = [fact for fact in FACTS if not hasattr(cls, fact)]
        if missing:
            raise EstbenchError(f"estimator '{name}' does not declare {', '.join(missing)}; set it on the class")
        if isinstance(cls.supports, str):  # type: ignore[unreachable]
            raise EstbenchError(
                f"estimator '{name}' declares supports = '{cls.supports}', a text; write a set: {{'{cls.supports}'}}"
            )
        known = {requirements.ANY, requirements.REPARAMETERIZED, requirements.LAYERS, *requirements.FAMILIES}
        if not cls.supports or not set(cls.supports) <= known:
            raise EstbenchError(
                f"estimator '{name}' declares supports = {sorted(cls.supports)}; take of {', '.join(sorted(known))}"
            )
        required = [option for option, field in cls.Options.model_fields.items() if field.is_required()]
        if required:
            raise EstbenchError(f"estimator '{name}': option {', '.join(required)} has no default; give it one")
        _check_bibtex(name, cls)
        return ESTIMATORS.register(name)(cls)

    return decorator


def _check_bibtex(name: str, cls: type[Estimator]) -> None:
    """Refuse an entry that could not be cited: damaged, of another key than the reference, or of a key in use."""
    if cls.bibtex is None:
        return
    try:
        key, entry = read_entry(cls.bibtex)
    except ValueError as error:
        raise EstbenchError(f"estimator '{name}': its bibtex cannot be read: {error}") from None
    if cls.reference not in {None, key}:
        raise EstbenchError(
            f"estimator '{name}': its reference is '{cls.reference}' and the key of its bibtex is '{key}';"
            " make them equal, or leave the reference out"
        )
    if BIBTEX.get(key, entry) != entry:
        raise EstbenchError(
            f"estimator '{name}': references.bib has another entry of the key '{key}'; choose another key"
        )


def create(variant: str | Variant) -> Estimator:
    """Build an estimator from ``name[option=value,...]``, for example ``rloo[num_samples=4]``.

    Raises ``EstbenchError`` for an unknown name or option, or a value that an option cannot have.

    Examples
    --------
    >>> from estbench import estimators
    >>> estimator = estimators.create("rloo[num_samples=4]")
    >>> estimator.evaluations, estimator.unbiased
    (4, True)
    """
    estimator: Estimator = ESTIMATORS.create(variant)
    if not hasattr(estimator, "options"):
        raise EstbenchError(
            f"estimator '{estimator.name}' has no options: begin its __init__(self, options=None) with"
            " super().__init__(options)"
        )
    if not hasattr(estimator, "evaluations"):
        raise EstbenchError(
            f"estimator '{estimator.name}' does not declare evaluations; set it on the class or in __init__:"
            " calls of f per example and step"
        )
    return estimator


def requires(variant: str | Variant) -> str:
    """Return in words what an estimator requires of an objective.

    Examples
    --------
    >>> from estbench import estimators
    >>> estimators.requires("disarm")
    'of q: bernoulli latents (from logits); of f: its values; the bound: elbo'
    >>> estimators.requires("dreg")
    'of q: a differentiable sample (rsample); of f: its derivative in z; the bound: multi-sample'
    """
    facts = create(variant).facts()
    f = "its derivative in z" if facts["needs_differentiable_f"] else "its values"
    bounds = " or ".join(facts["bounds"])
    return f"of q: {requirements.in_words(set(facts['supports']))}; of f: {f}; the bound: {bounds}"


def describe(name: str) -> dict[str, Any]:
    """Return facts, options with their defaults, and the documentation of an estimator, as plain data.

    Raises ``EstbenchError`` for an unknown name.

    Examples
    --------
    >>> from estbench import estimators
    >>> estimators.describe("rloo")["options"]
    {'num_samples': 2}
    """
    cls = ESTIMATORS.get(name)
    return {
        "name": name,
        "kind": "estimator",
        **create(name).facts(),
        "version": cls.version,
        "options": cls.Options.defaults(),
        "documentation": inspect.getdoc(cls) or "",
    }
