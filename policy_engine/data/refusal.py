"""Refusing a row: what is wrong, where, and what to do.

messages[2] has no `role`; its keys are `from`, `value`
  help: did you mean `role` where it says `from`? …
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from policy_engine.core.errors import RowError
from policy_engine.core.wording import a_kind
from policy_engine.data.formats import OTHER_NAMES, key_meant, list_kind
from policy_engine.data.json_text import read_json

DROP: Final = "fix the row, or drop it"
ARRAYS: Final = "the dataset gives arrays; say `dataset.with_format(None)`, and `map` that"
NEXT_STEP: Final = (
    "name the columns in a dataset file, for example `messages: {field: dialogue, role: speaker, content: text, "
    "roles: {customer: user, agent: assistant}}`"
)
ANSWERS: Final = (
    "completion", "response", "output", "solution", "answer", "reply", "assistant", "chosen", "target",
    "expected_output",
)  # fmt: skip
"""Names of columns that hold an answer, the usual ones first."""
_GEMINI: Final = frozenset(
    {"text", "functionCall", "function_call", "functionResponse", "function_response", "inlineData", "inline_data"}
)
"""Keys of a part in a message of Gemini's."""
_FROM_GEMINI: Final = (
    "this is a message of Gemini's: write the texts of its `parts` as `content`, the role `model` as `assistant`, a "
    "`functionCall` as `tool_calls`, a `functionResponse` as a message of role `tool`, and `systemInstruction` as one "
    "of role `system`"
)
_ITEMS: Final = frozenset(
    {"function_call", "function_call_output", "reasoning", "custom_tool_call", "input_text", "output_text"}
)
"""Types of items of OpenAI's Responses, and of the parts in them."""
_FROM_RESPONSES: Final = (
    "this is an item of OpenAI's Responses: write a `function_call` as `tool_calls` of the assistant's message before "
    "it, a `function_call_output` as a message of role `tool` with `tool_call_id`, `reasoning` as `reasoning_content` "
    "of the message behind it, and parts `input_text` and `output_text` as text, all in one list `messages`"
)
_ROW: Final = '`{"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}]}`'
_RENDERED: Final = re.compile(r"<\|\w+\|>|<start_of_turn>|\[INST\]|^### \w+:", re.MULTILINE)
"""Signs of a chat that a template wrote."""


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


def of_other_interfaces(message: Mapping[Any, Any]) -> str | None:
    """The help for a message of Gemini's or an item of OpenAI's Responses; None for any other.

    Gemini's have `parts`, OpenAI's Responses are items of several types.

    >>> of_other_interfaces({"type": "function_call", "name": "f", "arguments": "{}"})[:50]
    "this is an item of OpenAI's Responses: write a `fu"
    """
    if any(isinstance(part, Mapping) and not _GEMINI.isdisjoint(part) for part in _list(message.get("parts"))):
        return _FROM_GEMINI
    types = {str(part.get("type")) for part in _list(message.get("content")) if isinstance(part, Mapping)}
    return _FROM_RESPONSES if not _ITEMS.isdisjoint({str(message.get("type")), *types}) else None


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else ()


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
        found = read_json(text)
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
    # JSON, and not what is wanted: often text that was dumped once more.
    if isinstance(found, str):
        return "JSON text in JSON text: it was dumped twice", "dump it once, or give it as data"
    return "text", DROP


def text_help(row: Mapping[Any, Any]) -> str | None:
    """The help for a row with a column `text` that answers no other column; else None."""
    text = row.get("text")
    if not isinstance(text, str) or not text.strip() or any(list_kind(value) is not None for value in row.values()):
        return None
    named = {name.lower() for name, value in row.items() if isinstance(name, str) and isinstance(value, str)} - {"text"}
    return of_text(row, "text") if named.isdisjoint((*OTHER_NAMES["prompt"], *ANSWERS)) else None


def of_text(row: Mapping[str, Any], name: str) -> str:
    """The help for rows of one text: of a chat, or to pretrain on.

    >>> of_text({"text": "<|im_start|>user\\nHi<|im_end|>"}, "text")[:62]
    '`text` does not say who wrote which part of it: a template wro'
    """
    return _of_text(f"`{name}`", row[name])


def of_plain_row(row: Any) -> str:
    """The help where rows are text, numbers or null, which have no columns.

    >>> of_plain_row("Water boils at 100 degrees.")[:63]
    'a row of text does not say who wrote which part of it. Text to '
    """
    if not isinstance(row, str):
        return f"write each row as an object: {_ROW}"
    try:
        found = read_json(row)
    except ValueError:
        return f"{_of_text('a row of text', row)}; a row of a chat is an object: {_ROW}"
    if isinstance(found, Mapping | list):
        return "the rows are JSON text in JSON text: they were dumped twice; dump them once"
    return f"write each row as an object: {_ROW}"


def _of_text(name: str, text: Any) -> str:
    says = f"{name} does not say who wrote which part of it"
    messages = "give the messages that it was made of, or the question and the answer in columns of their own"
    if isinstance(text, str) and _RENDERED.search(text):
        return f"{says}: a template wrote it; {messages}"
    return (
        f"{says}. Text to pretrain on needs no policy, since every token of it is trained: leave it to your trainer, "
        f"and mix it in there. If it is a chat, {messages}"
    )
