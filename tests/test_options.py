"""Complaints about data are one line that names the place, what is wrong and the remedy."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError, field_validator

from estbench import EstbenchError
from estbench.options import LONGEST_MESSAGE, Frozen, validated
from estbench.visible import visible


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


class Listed(Frozen):
    either: Inner | Outer | None = None
    pairs: tuple[Inner, ...] = ()
    named: dict[str, Inner] = Field(default={})


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ({"pairs": [{"size": 1}, {"sise": 1}]}, "it: unknown key 'pairs.1.sise'; did you mean 'size'? known: size"),
        ({"named": {"a": {"sise": 1}}}, "it: unknown key 'named.a.sise'; did you mean 'size'? known: size"),
        ({"size": 3}, "it: unknown key 'size'; did you mean 'either.size'?"),
    ],
)
def test_a_key_inside_of_lists_and_dictionaries_is_named(data, complaint):
    with pytest.raises(EstbenchError) as caught:
        validated(Listed, data, "it")
    assert str(caught.value) == complaint


@cache  # a model of an earlier test's plugin must not go while this file's tests run
def models() -> list[type[BaseModel]]:
    """Every model of the package."""
    import importlib
    import pkgutil

    import estbench

    for module in pkgutil.walk_packages(estbench.__path__, "estbench."):
        if "__main__" not in module.name:
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:  # an extra that is not installed
                if str(error.name).partition(".")[0] not in {"dask", "dask_jobqueue", "distributed", "psutil"}:
                    raise

    def below(model: type[BaseModel]) -> list[type[BaseModel]]:
        return [each for child in model.__subclasses__() for each in (child, *below(child))]

    return [model for model in below(Frozen) if model.__module__.startswith("estbench.")]


ODD = [-(10**400), "a\ud800b", "\x1b[2J\u202e", "x" * 100_000, "", None, True, float("nan"), [], [[[{}]]], {}]
KEYS = st.sampled_from(["", "0", "x" * 10_000, "a\ud800", "name", "options", "\x00\n"]) | st.text(max_size=3)
VALUES = st.recursive(
    st.sampled_from(ODD) | st.integers() | st.floats() | st.text(max_size=5),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(KEYS, each, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=[*HealthCheck], deadline=None)
@given(data=st.data())
def test_no_data_break_the_complaint(data):
    known = models()
    model = data.draw(st.sampled_from(known))
    keys = KEYS | st.sampled_from([*model.model_fields, "Size"])
    drawn = data.draw(st.dictionaries(keys, VALUES, max_size=4))
    complaint = "it: none"
    try:
        validated(model, drawn, "it")
    except EstbenchError as error:
        complaint = str(error)
    assert complaint.startswith("it: ")
    assert len(complaint) <= LONGEST_MESSAGE
    assert visible(complaint) == complaint


@pytest.mark.parametrize(
    "data",
    [{(1, 2): 3}, {"name": object()}, {"name": 10**5000}, {"name": "a\ud800"}],
    ids=["keys", "object", "digits", "surrogate"],
)
def test_what_is_no_plain_data_is_one_line(data):
    with pytest.raises(EstbenchError, match=r"^it: ") as caught:
        validated(Inner, data, "it")
    assert visible(str(caught.value)) == str(caught.value)


def test_data_that_hold_themselves_are_refused():
    data = {"inner": {}}
    data["inner"]["inner"] = data
    with pytest.raises(EstbenchError, match=r"^it: is not plain data"):
        validated(Outer, data, "it")


def test_what_was_validated_does_not_change():
    model = validated(Outer, {"name": "a"}, "it")
    with pytest.raises(ValidationError):
        model.rate = 2.0
