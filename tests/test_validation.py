"""Complaints about data are one line that names the place, what is wrong and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, ValidationError, field_validator

from estbench import EstbenchError
from estbench.validation import Frozen, validated


class Inner(Frozen):
    size: int = Field(default=1, ge=1)


class Outer(Frozen):
    name: str
    rate: float = 0.5
    sizes: tuple[int, ...] = ()
    inner: Inner = Inner()

    @field_validator("name")
    @classmethod
    def _nice(cls, value: str) -> str:
        if value == "ugly":
            raise ValueError("wants a nicer name")
        return value


def test_plain_data_becomes_a_model():
    assert validated(Outer, {"name": "a", "rate": 1, "sizes": [1, 2], "inner": {"size": 3}}, "it") == Outer(
        name="a", rate=1.0, sizes=(1, 2), inner=Inner(size=3)
    )
    assert validated(Outer, {"name": Path("a")}, "it").name == "a"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({}, "it: name: is required"),
        ({"name": "ugly"}, "it: name: wants a nicer name"),
        ({"name": "a", "raet": 1}, "it: unknown key 'raet'; did you mean 'rate'? known: inner, name, rate, sizes"),
        ({"name": "a", "inner": {"sise": 1}}, "it: unknown key 'inner.sise'; did you mean 'size'? known: size"),
        ({"name": "a", "inner": {"size": 0}}, "it: inner.size: input should be greater than or equal to 1, got 0"),
        ({"name": "a", "inner": 3}, "it: inner: input should be an object, got 3"),
        ({"name": 3}, "it: name: input should be a valid string, got 3"),
        ({"name": "a", "rate": "0.1"}, 'it: rate: input should be a valid number, got "0.1"'),
        ({"name": "a", "rate": float("nan")}, "it: rate: input should be a finite number, got NaN"),
        ({"name": "a", "rate": float("inf")}, "it: rate: input should be a finite number, got Infinity"),
        ({"name": "a", "sizes": [1, 2.5]}, "it: sizes.1: input should be a valid integer, got 2.5"),
        ({"name": "a", "sizes": 4}, "it: sizes: input should be a valid array, got 4"),
    ],
)
def test_a_mistake_is_named(data, complaint):
    with pytest.raises(EstbenchError) as caught:
        validated(Outer, data, "it")
    assert str(caught.value) == complaint


def test_what_was_validated_does_not_change():
    model = validated(Outer, {"name": "a"}, "it")
    with pytest.raises(ValidationError):
        model.rate = 2.0
