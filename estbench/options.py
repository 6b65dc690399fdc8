"""Checked data in: pydantic models whose complaints are one readable line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from estbench.errors import EstbenchError, did_you_mean
from estbench.visible import visible

# Of a complaint, and of a key or a value in it: data of others may be of any size.
LONGEST_MESSAGE = 1000
LONGEST_VALUE = 100


class Frozen(BaseModel):
    """A frozen model that accepts only its own fields, each of its own type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class BaseOptions(Frozen):
    """Base of the options of one estimator or problem: only the fields that it accepts, with real defaults."""


def refuse_without_effect(options: BaseOptions, reasons: Mapping[str, str]) -> None:
    """Raise ``ValueError`` for an option that was changed from its default and has no effect; call it in a validator.

    ``reasons`` holds the options that may have none, each with the choice that leaves it without effect
    (``latents=normal``), or an empty text if it has one.
    """
    for option, reason in reasons.items():
        if reason and getattr(options, option) != type(options).model_fields[option].default:
            raise ValueError(f"option '{option}' has no effect with {reason}; drop it")


Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], data: dict[str, Any], what: str) -> Model:
    """Build ``model`` from ``data``; raise ``EstbenchError`` that names ``what``, the field and the remedy.

    The data takes the road through JSON, because pydantic's strict mode then reads an array as a tuple and
    an integer as a float, and still refuses "4" or 4.5 for an integer.
    """
    try:
        return model.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        message = _explain(model, error)
    except EstbenchError as error:  # of a validator that asked a registry, say
        message = str(error)
    except (RecursionError, TypeError, ValueError) as error:  # nested too deep, keys of other types, 5,000 digits
        message = f"is no plain data: {error}"
    raise EstbenchError(shortened(visible(f"{what}: {message}"), LONGEST_MESSAGE))


def shortened(text: str, longest: int) -> str:
    """A text cut at ``longest`` characters, with a sign that it goes on."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    """The first complaint in words; whatever the data hold, this raises nothing."""
    first = error.errors(include_url=False)[0]
    path = [shortened(str(part), LONGEST_VALUE) for part in first["loc"]]
    where = ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"unknown key '{where}'; {_near(model, path)}"
    if first["type"] == "value_error":
        message = str(first["ctx"]["error"])
    elif first["type"] == "missing":
        message = "is required"
    else:
        message = f"{first['msg'][0].lower()}{first['msg'][1:]}"
        if first["type"] != "json_invalid":  # the input is all of the text then
            message += f", got {_written(first['input'])}"
    return f"{where}: {message}" if path else message


def _near(model: type[BaseModel], path: list[str]) -> str:
    """Say which known key is nearest to the last of a path: one beside it, or one of the same name further inside."""
    *parents, last = path
    owners = _owners(model, parents)
    inside = [
        f"{name}.{last}"
        for owner in owners
        for name, field in owner.model_fields.items()
        if any(last in each.model_fields for each in _models(field.annotation))
    ]
    if inside:
        return f"did you mean '{'.'.join([*parents, inside[0]])}'?"
    return did_you_mean(last, {name for owner in owners for name in owner.model_fields})


def _owners(model: type[BaseModel], path: list[str]) -> list[type[BaseModel]]:
    """The models that a path may lead to; places in a list and keys of a dictionary lead to what is in there."""
    owners = [model]
    for part in path:
        fields = [owner.model_fields[part] for owner in owners if part in owner.model_fields]
        owners = [each for field in fields for each in _models(field.annotation)] or owners
    return owners


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models that an annotation names: itself, or inside of unions, tuples, lists and dictionaries."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _written(value: Any) -> str:
    try:
        return shortened(json.dumps(value, default=str, ensure_ascii=False), LONGEST_VALUE)
    except (RecursionError, TypeError, ValueError):  # it came through JSON, and may still be too long for it
        return f"a value of type {type(value).__name__}"
