"""Checks of data by pydantic models, with errors in one readable line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
)

from estbench.errors import EstbenchError, did_you_mean
from estbench.visible import visible

# Longest message, and longest key or value in it: the data of a stranger may have any size.
LONGEST_MESSAGE = 1000
LONGEST_VALUE = 100


class Frozen(BaseModel):
    """A frozen model that accepts only its own fields, with exactly their types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class BaseOptions(Frozen):
    """Base of the options of one estimator, problem or part: only the fields that it accepts, with real defaults.

    ``added`` names fields that came after results had been recorded. At their defaults they are left out of the dumped
    options, so that the keys of those results stay as they are.
    """

    added: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_added_defaults(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        return {
            name: value
            for name, value in dump(self).items()
            if name not in self.added or getattr(self, name) != fields[name].default
        }

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the defaults of all fields, as plain data."""
        values = {name: field.get_default(call_default_factory=True) for name, field in cls.model_fields.items()}
        plain: dict[str, Any] = TypeAdapter(dict[str, Any]).dump_python(values, mode="json")
        return plain


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

    The data are validated as JSON, because pydantic's strict mode then reads an array as a tuple and an integer as a
    float, and still refuses "4" or 4.5 for an integer.
    """
    try:
        return model.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        message = _explain(model, error)
    except EstbenchError as error:  # from a validator that uses a registry, for example
        message = str(error)
    except (RecursionError, TypeError, ValueError) as error:  # nested too deep, keys of other types, 5,000 digits
        message = f"is not plain data: {error}"
    raise EstbenchError(shortened(visible(f"{what}: {message}"), LONGEST_MESSAGE))


def shortened(text: str, longest: int) -> str:
    """Return a text cut to ``longest`` characters, with "..." at the end if it was longer."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    """Return the first error in words; never raises, whatever the data are."""
    first = error.errors(include_url=False)[0]
    path = [shortened(str(part), LONGEST_VALUE) for part in first["loc"]]
    where = ".".join(path)
    if first["type"] == "extra_forbidden":
        return f"unknown key '{where}'; {_suggest_key(model, path)}"
    if first["type"] == "value_error":
        message = str(first["ctx"]["error"])
    elif first["type"] == "missing":
        message = "is required"
    else:
        message = f"{first['msg'][0].lower()}{first['msg'][1:]}"
        if first["type"] != "json_invalid":  # its input is the whole text
            message += f", got {_written(first['input'])}"
    return f"{where}: {message}" if path else message


def _suggest_key(model: type[BaseModel], path: list[str]) -> str:
    """Suggest a known key for the last one of a path: the nearest of the same table, or the same one further inside."""
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
    """Return the models that a path may lead to; an index of a list, or a key of a dictionary, leads to its items."""
    owners = [model]
    for part in path:
        fields = [owner.model_fields[part] for owner in owners if part in owner.model_fields]
        owners = [each for field in fields for each in _models(field.annotation)] or owners
    return owners


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Return the models in an annotation: itself, or inside of unions, tuples, lists and dictionaries."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _written(value: Any) -> str:
    try:
        return shortened(json.dumps(value, default=str, ensure_ascii=False), LONGEST_VALUE)
    except (RecursionError, TypeError, ValueError):  # it was read from JSON, but may be too deep to be written
        return f"a value of type {type(value).__name__}"
