"""Estimators: their base class, and the registry of those known."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from estbench.errors import EstbenchError
from estbench.estimators import requirements
from estbench.options import BaseOptions
from estbench.problems import Objective
from estbench.references import BIBTEX, read_entry
from estbench.registry import Registry
from estbench.variant import Variant


class Estimator(nn.Module):
    """Turns an objective into a per-example surrogate whose autograd gradient estimates grad L.

    Three rules make an estimator work in training and in a probe alike.

    * Samples come first, then *any* batch dimensions: the probe adds a replicate dimension.
    * The surrogate of an example depends on the noise of that example alone; what pools over the batch (a moving
      average) is state from before the step.
    * State lives in buffers and changes in training mode alone. Learned parts are parameters of the estimator; their
      own optimiser ascends the same surrogate. ``eval()`` freezes both.
    """

    Options: ClassVar[type[BaseOptions]] = BaseOptions
    name: ClassVar[str]
    summary: ClassVar[str]
    reference: ClassVar[str | None] = None  # the BibTeX key of its paper: in references.bib, or that of `bibtex`
    bibtex: ClassVar[str | None] = None  # a BibTeX entry, for a paper that is not in references.bib
    # What is required of q: "any" (samples and their density), "reparameterized" (also a differentiable sample), or
    # families whose structure the formula uses ("normal", "bernoulli", ...). q itself is looked at, not its name.
    supports: ClassVar[AbstractSet[str]]
    bounds: ClassVar[AbstractSet[str]] = frozenset({"elbo"})  # objectives: "elbo", "multi-sample"
    unbiased: bool  # this and the next may depend on the options: then __init__ sets them
    needs_differentiable_f: bool
    version: ClassVar[int] = 1  # raised when the estimate changes: older cells are then recomputed
    evaluations: int | str  # of f, per example and step; a formula such as "2D" where the problem decides
    variants: ClassVar[tuple[str, ...]] = ()  # further choices of options that have a certificate of their own
    _seen: Any = None  # the kind of objective that was checked last

    def __init__(self, options: BaseOptions | None = None) -> None:
        super().__init__()
        self.options: Any = options or type(self).Options()

    def prepare(self, objective: Objective) -> None:
        """Build learned parts, whose sizes the problem decides; called once, before the first step."""

    def count_evaluations(self, objective: Objective) -> int:
        """Calls of f per example and step, as a number: where ``evaluations`` is a formula, its value here."""
        if isinstance(self.evaluations, str):
            raise EstbenchError(
                f"estimator '{self.name}' declares evaluations = '{self.evaluations}';"
                " define count_evaluations(objective), which gives its value"
            )
        return self.evaluations

    def __call__(self, objective: Objective) -> Any:
        """The surrogate; an objective of a kind that was not seen before is checked first."""
        kind = requirements.kind_of(objective)
        if kind == self._seen:
            return super().__call__(objective)
        requirements.look(self, objective)
        surrogate = super().__call__(objective)
        self._seen = kind  # one that was refused is looked at again
        return surrogate

    def forward(self, objective: Objective) -> Tensor:
        """Per-example surrogate, (*batch_shape): its gradient is the estimate of grad L (ascent)."""
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


def surrogate_of(estimator: Estimator, objective: Objective) -> Tensor:
    """The estimator's surrogate, (*batch_shape); ``EstbenchError`` for anything else that it returns."""
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


E = TypeVar("E", bound=Estimator)
ESTIMATORS: Registry[type[Estimator]] = Registry("estimator")
names = ESTIMATORS.names
FACTS = ("summary", "supports", "unbiased", "needs_differentiable_f")


def register(name: str) -> Callable[[type[E]], type[E]]:
    """Class decorator: make an estimator known as ``name``, once it declares what everybody relies on."""

    def decorator(cls: type[E]) -> type[E]:
        missing = [fact for fact in FACTS if not hasattr(cls, fact)]
        if missing:
            raise EstbenchError(f"estimator '{name}' does not declare {', '.join(missing)}; set it on the class")
        known = {requirements.ANY, requirements.REPARAMETERIZED, *requirements.FAMILIES}
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
    """Build an estimator from ``name[option=value,...]``, for example ``rloo[num_samples=4]``."""
    estimator: Estimator = ESTIMATORS.create(variant)
    if not hasattr(estimator, "evaluations"):
        raise EstbenchError(
            f"estimator '{estimator.name}' does not declare evaluations; set it on the class or in __init__:"
            " calls of f per example and step"
        )
    return estimator


def describe(name: str) -> dict[str, Any]:
    """Facts, options with their defaults, and the documentation of an estimator."""
    cls = ESTIMATORS.get(name)
    return {
        "name": name,
        "kind": "estimator",
        **create(name).facts(),
        "version": cls.version,
        "options": cls.Options().model_dump(mode="json"),
        "documentation": inspect.getdoc(cls) or "",
    }
