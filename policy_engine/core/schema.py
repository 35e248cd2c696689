"""What is declared about a dataset, as far as the language cares: roles, and the types of fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FieldType = Literal["string", "number", "integer", "boolean", "list", "object", "any"]


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Declared by a dataset file; without one, every field is allowed and roles are only compared with known ones.

    `fields` maps dotted names as a policy writes them (`message.training`, `sample.meta.source`) to types; None means
    that nothing is declared. A declared scope is closed: a field of it that is not listed is an error.
    """

    roles: frozenset[str] = frozenset()
    """Roles that occur in the data, beside the known ones."""
    trained_roles: frozenset[str] = frozenset({"assistant"})
    """Roles the model writes."""
    fields: Mapping[str, FieldType] | None = field(default=None)
