"""The fields of a pydantic model as a table: options of an estimator, keys of an experiment file."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from estbench.experiment.training import MOST
from estbench_site.docstrings import to_markdown
from estbench_site.markdown import code, table

# MOST is a limit of counters, which no setting comes near: it is left out.
LIMITS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {:,}",
    "exclusiveMaximum": "below {}",
}
TYPES = {"integer": "integer", "number": "number", "string": "text", "boolean": "true or false", "null": "absent"}


def fields_table(model: type[BaseModel], kind: str, *, without: frozenset[str] = frozenset()) -> str:
    """Return the fields of a model with types, defaults and meanings; empty if it has none.

    >>> from estbench.estimators import ESTIMATORS
    >>> print(fields_table(ESTIMATORS.get("rloo").Options, "option"))
    | option | type | default | meaning |
    |:---|:---|:---|:---|
    | `num_samples` | integer, at least 2 | `2` | S, the samples of each example |
    """
    schemas: dict[str, Any] = model.model_json_schema().get("properties", {})
    rows = [
        [code(name), type_in_words(schema), _default(model, name), to_markdown(schema.get("description", ""))]
        for name, schema in schemas.items()
        if name not in without
    ]
    return table([kind, "type", "default", "meaning"], rows) if rows else ""


def type_in_words(schema: dict[str, Any]) -> str:
    """Return the type in a JSON schema in words.

    >>> type_in_words({"type": "array", "items": {"type": "integer", "minimum": 1}})
    'list of: integer, at least 1'
    >>> type_in_words({"anyOf": [{"type": "number"}, {"type": "null"}]})
    'number, or absent'
    """
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return ", or ".join(dict.fromkeys(map(type_in_words, schema[several])))
    if "enum" in schema or "const" in schema:
        return " or ".join(code(each) for each in schema.get("enum", [schema.get("const")]))
    if "$ref" in schema:
        return f"table: {schema['$ref'].rpartition('/')[2].lower()}"
    if schema.get("type") == "array":
        return f"list of: {type_in_words(schema['items'])}" if "items" in schema else "list"
    if schema.get("type") == "object":
        return f"table of: {type_in_words(schema['additionalProperties'])}"
    limits = [words.format(schema[limit]) for limit, words in LIMITS.items() if schema.get(limit, MOST) != MOST]
    return ", ".join([TYPES.get(schema.get("type", ""), "any"), *limits])


def _default(model: type[BaseModel], name: str) -> str:
    """Return a default as it is written in TOML; a table's is in its own section."""
    field = model.model_fields[name]
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "absent"
    if isinstance(value, BaseModel):
        return "see below"
    return code(json.dumps(value))
