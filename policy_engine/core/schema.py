"""Declarations about a dataset that the language uses: roles, and the types of fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FieldType = Literal["string", "number", "integer", "boolean", "list", "object", "any"]
JsonType = Literal["null", "boolean", "integer", "number", "string", "list", "object", "other"]
"""The type of a value of the data; `other` for what JSON cannot hold, such as a date."""


def json_type(value: Any) -> JsonType:
    """The JSON type of a value, whole numbers apart from others. A boolean is no number.

    >>> [json_type(value) for value in (True, 1, 1.0, "1", [1], {"a": 1}, None)]
    ['boolean', 'integer', 'number', 'string', 'list', 'object', 'null']
    """
    match value:
        case None:
            return "null"
        # Before int: a bool of Python is an int too, and in JSON it is not.
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list() | tuple():
            return "list"
        case Mapping():
            return "object"
        case _:
            return "other"


@dataclass(frozen=True, kw_only=True)
class Schema:
    """The declarations of a dataset file.

    Without a dataset file every field is allowed, and roles are only compared with the known ones.

    >>> Schema()
    Schema(roles=frozenset(), trained_roles=frozenset({'assistant'}), fields=None)
    """

    roles: frozenset[str] = frozenset()
    """Roles that occur in the data, beside the known ones."""
    trained_roles: frozenset[str] = frozenset({"assistant"})
    """Roles the model writes."""
    fields: Mapping[str, FieldType] | None = field(default=None)
    """Types by dotted name (`message.training`, `sample.meta.source`); None without declarations.

    A declared scope is closed: a field of it that is not listed is an error.
    """
