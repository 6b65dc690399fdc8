"""The settings of training, and quantities that change along it."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, SerializerFunctionWrapHandler, Tag, model_serializer, model_validator

from estbench.options import Frozen

# Upper limit of steps, examples and draws, which a 64-bit counter holds.
MOST = 10**12
Count = Annotated[int, Field(ge=1, le=MOST)]


class Schedule(Frozen):
    """A number that goes from ``start`` to ``end`` in so many steps, and then stays there.

    >>> warm_up = Schedule(start=0.0, end=1.0, steps=100)
    >>> warm_up.at(0), warm_up.at(25), warm_up.at(1000)
    (0.0, 0.25, 1.0)
    """

    start: float = Field(ge=0, description="the number at step 0")
    end: float = Field(ge=0, description="the number from step ``steps`` on")
    steps: Count = Field(description="training steps from start to end")
    shape: Literal["linear", "exponential"] = Field(
        default="linear", description="equal differences between steps (linear), or equal ratios (exponential)"
    )

    @model_validator(mode="after")
    def _has_ratios(self) -> Schedule:
        if self.shape == "exponential" and min(self.start, self.end) == 0:
            raise ValueError("an exponential schedule starts and ends above zero; take a linear one")
        return self

    def at(self, step: int) -> float:
        """Return the number at step 0, 1, ..."""
        share = min(step / self.steps, 1.0)
        if self.shape == "exponential":
            return math.exp((1 - share) * math.log(self.start) + share * math.log(self.end)) if share < 1 else self.end
        return (1 - share) * self.start + share * self.end


def _kind(value: Any) -> str:
    return "schedule" if isinstance(value, dict | Schedule) else "number"


NumberOrSchedule = Annotated[
    Annotated[float, Tag("number")] | Annotated[Schedule, Tag("schedule")], Discriminator(_kind)
]


class Training(Frozen):
    """The training of every cell: on minibatches, for a fixed number of steps."""

    steps: Count = Field(default=2000, description="training steps of every run")
    batch_size: Count = Field(default=100, description="examples in a minibatch")
    learning_rate: float = Field(default=1e-3, gt=0, description="of the model's optimizer")
    estimator_learning_rate: float | None = Field(
        default=None, gt=0, description="for the learned parts of an estimator; if absent, that of the model"
    )
    optimizer: Literal["adam", "adamw", "sgd"] = Field(
        default="adam", description="of the model; learned parts of an estimator always use Adam"
    )
    schedule: Literal["constant", "cosine"] = Field(
        default="constant",
        description="of the learning rates; cosine falls to zero along a quarter of its period",
    )
    weight_decay: float = Field(
        default=0.01, ge=0, description="of adamw: how fast weights shrink; it acts on all estimators alike"
    )
    warmup_steps: int = Field(
        default=0,
        ge=0,
        le=MOST,
        description="steps in which the learning rates rise from zero; it helps noisy estimators most",
    )
    clip_norm: float | None = Field(
        default=None,
        gt=0,
        description="largest norm of the model's gradient, which is scaled down to it; it acts most on noisy"
        " estimators, and makes an unbiased one biased",
    )
    kl_weight: NumberOrSchedule = Field(
        default=1.0, description="weight of the KL in what training ascends: a number, or a schedule (warm-up)"
    )
    temperature: Schedule | None = Field(
        default=None, description="schedule that replaces the option temperature of gumbel-softmax and its kin"
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Training:
        if self.optimizer != "adamw" and self.weight_decay != type(self).model_fields["weight_decay"].default:
            raise ValueError(f"weight_decay has no effect with optimizer = {self.optimizer}; take adamw, or drop it")
        if not isinstance(self.kl_weight, Schedule) and self.kl_weight < 0:
            raise ValueError(f"kl_weight must be at least 0, got {self.kl_weight}")
        if self.temperature is not None and min(self.temperature.start, self.temperature.end) == 0:
            raise ValueError("a temperature is above zero")
        return self

    @model_serializer(mode="wrap")
    def _without_idle_settings(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out settings without effect, so that no key of a cell depends on them."""
        data: dict[str, Any] = dump(self)
        added = ("warmup_steps", "clip_norm", "kl_weight", "temperature")
        idle = [name for name in added if data[name] == type(self).model_fields[name].default]
        if self.optimizer != "adamw":
            idle.append("weight_decay")
        return {name: value for name, value in data.items() if name not in idle}

    @property
    def changes_rates(self) -> bool:
        """Whether the learning rates depend on the step."""
        return self.schedule != "constant" or self.warmup_steps > 0

    def rate_at(self, step: int) -> float:
        """Return the factor of the learning rates at step 0, 1, ..."""
        rate = math.cos(math.pi / 2 * step / self.steps) if self.schedule == "cosine" else 1.0
        return rate * min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else rate

    @property
    def weights_kl(self) -> bool:
        """Whether training ascends another objective than the bound, because the KL has a weight."""
        return self.kl_weight != 1

    def kl_weight_at(self, step: int) -> float:
        """Return the weight of the KL at step 0, 1, ..."""
        return self.kl_weight.at(step) if isinstance(self.kl_weight, Schedule) else self.kl_weight
