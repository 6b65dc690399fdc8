"""Checked data in: pydantic models whose complaints are one readable line."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from estbench.errors import EstbenchError, did_you_mean


class Frozen(BaseModel):
    """A frozen model that accepts only its own fields, each of its own type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Options(Frozen):
    """Base of the options of one estimator or problem: only the fields that it accepts, with real defaults."""


Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], data: dict[str, Any], what: str) -> Model:
    """Build ``model`` from ``data``; raise ``EstbenchError`` that names ``what``, the field and the remedy.

    The data takes the road through JSON, because pydantic's strict mode then reads an array as a tuple and
    an integer as a float, and still refuses "4" or 4.5 for an integer.
    """
    try:
        return model.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        raise EstbenchError(f"{what}: {_explain(model, error)}") from None


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        owner = _model_at(model, path[:-1])
        return f"unknown key '{'.'.join(path)}'; {did_you_mean(path[-1], owner.model_fields)}"
    if first["type"] == "value_error":
        message = str(first["ctx"]["error"])
    elif first["type"] == "missing":
        message = "is required"
    else:
        message = f"{first['msg'][0].lower()}{first['msg'][1:]}, got {json.dumps(first['input'], default=str)}"
    return f"{'.'.join(path)}: {message}" if path else message


def _model_at(model: type[BaseModel], path: list[str]) -> type[BaseModel]:
    for part in path:
        annotation = model.model_fields[part].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return model
