"""Refusing a row: the error says what is wrong, where in the row, and what to do.

messages[2] has no `role`; its keys are `from`, `value`
  help: did you mean `role` where it says `from`? …
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from policy_engine.core.errors import RowError
from policy_engine.core.wording import a_kind
from policy_engine.data.formats import key_meant
from policy_engine.data.json_text import read_json

DROP: Final = "fix the row, or drop it"


def refuse(reason: str, help: str) -> NoReturn:
    """Raises RowError."""
    raise RowError(reason, help=help)


def how_to_name(option: str, name: str, keys: Mapping[Any, Any], noun: str) -> str:
    """The help where `name` is not among the keys: a dataset file names it under `option`.

    >>> how_to_name("field", "messages", {"id": 1}, "column")
    'add it, or say in a dataset file which column has it: `messages: {field: NAME}`'
    """
    meant = key_meant(option, name, keys)
    if meant is None:
        return f"add it, or say in a dataset file which {noun} has it: `messages: {{{option}: NAME}}`"
    return (
        f"did you mean `{name}` where it says `{meant}`? Rename it in the data, or say in a dataset file what it is "
        f"called: `messages: {{{option}: {meant}}}`"
    )


def instead_of(value: Any, option: str, name: str, row: Mapping[Any, Any]) -> tuple[str, str]:
    """The kind of value in place of a usable column, or `missing`, and the help.

    >>> instead_of(4, "prompt", "prompt", {"prompt": 4})
    ('a number', 'fix the row, or drop it')
    >>> instead_of(None, "prompt", "prompt", {"promt": "Hi"})[0]
    'missing'
    """
    return (a_kind(value), DROP) if name in row else ("missing", how_to_name(option, name, row, "column"))


def keys_of(value: Mapping[Any, Any]) -> str:
    """The keys of an object for people, the first dozen.

    >>> keys_of({"role": "user", "text": "Hi"})
    '`role`, `text`'
    """
    return ", ".join(f"`{key}`" for key in list(value)[:12]) or "none"


def text_problem(text: str) -> tuple[str, str]:
    """The problem with text that should be JSON, and the help.

    `"[{'role': 'user'}]"` is what Python prints for a list, with single quotes: `json.dumps` would have written JSON.

    >>> text_problem("[{'role': 'user'}]")[0]
    'text that is not JSON: it is what Python prints for a list or an object'
    """
    try:
        read_json(text)
    except ValueError as error:
        try:
            # Only to find out if it is Python's notation; the value is not used.
            ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return f"text that is not JSON ({error})", "write it with `json.dumps`, or as data"
        return (
            "text that is not JSON: it is what Python prints for a list or an object",
            "write it with `json.dumps`, not with `str` or `repr`; `ast.literal_eval` reads what is there",
        )
    return "text", DROP
