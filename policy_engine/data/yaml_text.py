"""YAML of a stranger, read with bounds: a few lines of it can fill a machine's memory.

a: &a [x, x, x]
b: &b [*a, *a, *a]      # nine values, and so on: thirty such lines are more than a machine holds
c: &c [*c]              # a value inside itself, which nothing that walks it comes out of
"""

from __future__ import annotations

from typing import Any, Final

import yaml

MOST: Final = 1_000_000
"""Values of one document, with those of an alias counted wherever it is used."""


def read_yaml(text: str) -> Any:
    """The plain value of a YAML document, as `yaml.safe_load` gives it.

    Raises yaml.YAMLError for anything else.

    >>> read_yaml("a: [1, 2]")
    {'a': [1, 2]}
    """
    root = compose_yaml(text)
    return None if root is None else value_of(root)


def compose_yaml(text: str) -> yaml.Node | None:
    """The nodes of a YAML document; None for an empty one.

    Raises yaml.YAMLError also where nodes are nested too deeply, contain themselves, or are more than `MOST`.
    """
    try:
        # Nodes share what aliases name, so they stay small where values would not.
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is not None:
            _count(root, {})
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    return root


def value_of(node: yaml.Node) -> Any:
    """The plain value of a node.

    Raises yaml.YAMLError for a number or date that has the form of one only.
    """
    try:
        return yaml.SafeLoader("").construct_document(node)
    except ValueError as error:
        raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None


def _count(node: yaml.Node, known: dict[int, int]) -> int:
    if id(node) in known:
        if not known[id(node)]:
            raise _refused("a value inside itself", node)
        return known[id(node)]
    # 0 while its children are counted: meeting it again then means that it holds itself.
    known[id(node)] = 0
    total = 1
    if isinstance(node, yaml.MappingNode):
        total += sum(_count(key, known) + _count(value, known) for key, value in node.value)
    elif isinstance(node, yaml.SequenceNode):
        total += sum(_count(item, known) for item in node.value)
    if total > MOST:
        raise _refused(f"more than {MOST:,} values, by aliases of aliases", node)
    known[id(node)] = total
    return total


def _refused(problem: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
