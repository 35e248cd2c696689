"""The fields of the data that a policy reads: in conditions, weights and spans."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from policy_engine.lang.ast import Field
from policy_engine.lang.checked import CheckedPolicy


def fields_read(node: Any) -> frozenset[Field]:
    """Every field below a node of a checked policy.

    >>> from policy_engine.lang.check import check_text
    >>> policy = check_text("train assistant where message.quality > 3 weight sample.w")
    >>> sorted(str(field) for field in fields_read(policy))
    ['message.quality', 'sample.w']
    """
    if isinstance(node, Field):
        return frozenset({node})
    if isinstance(node, CheckedPolicy):
        return fields_read((node.rules, node.guards))
    if isinstance(node, tuple):
        return frozenset(field for item in node for field in fields_read(item))
    if is_dataclass(node) and not isinstance(node, type):
        # A span is a place in a text; it holds no field, but its whole source.
        names = (f.name for f in fields(node) if f.name != "span")
        return frozenset(field for name in names for field in fields_read(getattr(node, name)))
    return frozenset()
