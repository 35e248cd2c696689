"""Refusing a row, or data of no known shape: what is wrong, where, and what to do.

messages[2] has no `role`; its keys are `from`, `value`
  help: did you mean `role` where it says `from`? …
no conversation found in 2 rows; their columns are `q` (text), `a` (text) …
  help: say in a dataset file what is the question and what the answer: `messages: {format: prompt_completion, …}`
"""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Iterable, Mapping
from typing import Any, Final, NoReturn

from policy_engine.core.errors import RowError
from policy_engine.core.wording import a_kind, counted
from policy_engine.data.formats import OTHER_NAMES, USUAL_FIELDS, is_broken_list, key_meant, list_kind, message_list
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
_CONTEXTS: Final = ("context", "input", "passage")
"""Names of columns that belong to a question."""
_CHOSEN: Final = frozenset({"chosen", "preferred", "accepted", "win", "winner", "better", "best", "good", "positive"})
_REJECTED: Final = frozenset(
    {"rejected", "reject", "dispreferred", "lose", "loser", "worse", "worst", "bad", "negative"}
)
"""Words in names of columns that hold the two answers of a preference."""
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
_MANY: Final = 8
"""Columns from which on two names that look like question and answer say little."""


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


def nothing_fits(rows: list[Any]) -> str:
    """The error where no row has a known shape: the columns that were seen, and the shapes.

    >>> nothing_fits(["Hi"])
    'no conversation found in 1 row: a row is text, not an object'
    """
    objects = [row for row in rows if isinstance(row, Mapping)]
    for name in USUAL_FIELDS:
        value = objects[0].get(name) if objects else None
        if is_broken_list(value):
            return f"no conversation found in {counted(len(rows), 'row')}: column `{name}` is {text_problem(value)[0]}"
    if not objects:
        return f"no conversation found in {counted(len(rows), 'row')}: a row is {a_kind(rows[0])}, not an object"
    columns: dict[str, Any] = {}
    for row in objects:
        for name, value in row.items():
            columns.setdefault(str(name), value)
    lists = _lists_of(objects[0])
    if len(lists) > 1:
        named = " and ".join(f"`{name}`" for name in lists)
        return f"columns {named} all hold messages, and nothing says which to train on"
    shown = ", ".join(
        f"`{name}` ({'an empty list' if isinstance(value, list) and not value else a_kind(value)})"
        for name, value in list(columns.items())[:12]
    )
    return (
        f"no conversation found in {counted(len(rows), 'row')}; their columns are {shown or 'none'}. Known shapes: "
        "a list of messages with `role` and `content`, or with `from` and `value`; `instruction` and `output`; "
        "`prompt` and `completion`; `chosen` and `rejected`"
    )


def what_to_do(rows: list[Any]) -> str:
    """The help where no row has a known shape.

    >>> what_to_do([{"question": "Hi?", "good": "Yes.", "bad": "No."}])[49:]
    '`messages: {format: preference, prompt: question, chosen: good, rejected: bad}`'
    """
    row = next((row for row in rows if isinstance(row, Mapping)), {})
    if isinstance(row.get("input_ids"), list | tuple):
        return (
            "these rows are tokenized already: `audit` reads them as they are; to mask them, give their `messages` "
            "beside `input_ids`, or `turns`"
        )
    for value in row.values():
        for message in message_list(value) or ():
            if isinstance(message, Mapping) and (foreign := of_other_interfaces(message)) is not None:
                return foreign
    for name in USUAL_FIELDS:
        value = row.get(name)
        if is_broken_list(value):
            return text_problem(value)[1]
        if hasattr(value, "dtype"):
            return ARRAYS
    # A system prompt is neither question nor answer.
    texts = [name for name in row if isinstance(name, str) and "system" not in name.lower() and _holds_text(row[name])]
    lists = _lists_of(row)
    return (
        _as_pair(row, texts)
        or _as_answer(row, texts, lists)
        or (f"name one in a dataset file: `messages: {{field: {lists[0]}}}`" if len(lists) > 1 else None)
        or _names_seen(rows)
        or _as_objects(row)
        or _as_text(row, texts)
        or NEXT_STEP
    )


def _lists_of(row: Mapping[Any, Any]) -> list[str]:
    return [name for name in row if list_kind(row[name]) is not None]


def _holds_text(value: Any) -> bool:
    return list_kind(value) == "messages" or (isinstance(value, str) and bool(value.strip()))


def _known(names: Iterable[str], texts: Iterable[str]) -> str | None:
    """The column that has the first of some names, in upper or lower case."""
    by_lower = {name.lower(): name for name in texts}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _with_word(words: Container[str], texts: Iterable[str]) -> str | None:
    """The shortest column with one of some words in its name: `response_chosen`, `chosenText`."""
    spaced = {name: re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower() for name in texts}
    found = [name for name, words_in in spaced.items() if any(w in words for w in re.split(r"[^a-z]+", words_in))]
    return min(found, key=len, default=None)


def _as_pair(row: Mapping[str, Any], texts: list[str]) -> str | None:
    """The help where two columns look like the better and the worse answer."""
    chosen, rejected = _with_word(_CHOSEN, texts), _with_word(_REJECTED, texts)
    if chosen is None or rejected is None or list_kind(row[chosen]) != list_kind(row[rejected]):
        return None
    others = [name for name in texts if name not in (chosen, rejected)]
    prompt = _known(OTHER_NAMES["prompt"], others) or (others[0] if len(others) == 1 else None)
    named = {"chosen": chosen, "rejected": rejected}
    if prompt is not None or not _opens_whole(row[chosen]):
        named = {"prompt": prompt or "NAME", **named}
    pairs = ", ".join(f"{option}: {name}" for option, name in named.items() if option != name)
    return f"say in a dataset file which answer is preferred: `messages: {{format: preference, {pairs}}}`"


def _as_answer(row: Mapping[str, Any], texts: list[str], lists: list[str]) -> str | None:
    """The help where columns hold a question and its answer."""
    if not lists and len(row) >= _MANY:
        return None
    question, answer = _known(OTHER_NAMES["prompt"], texts), _known(ANSWERS, texts)
    # Of two columns whose names say nothing, the question is usually first.
    if len(texts) == 2 and len(lists) < 2:
        question = question or next(name for name in texts if name != answer)
        answer = answer or next(name for name in texts if name != question)
    if question is None or (answer is None and lists):
        return None
    # The answer is the whole conversation already, question included.
    if answer is not None and answer in lists and _opens_whole(row[answer]):
        return f"name it in a dataset file: `messages: {{field: {answer}}}`"
    declared = f"messages: {{format: prompt_completion, prompt: {question}, completion: {answer or 'NAME'}}}"
    context = _known(_CONTEXTS, [name for name in texts if name not in (question, answer)])
    if answer is not None and context is not None and not lists:
        names = {"instruction": question, "input": context, "output": answer}
        given = "".join(f", {option}: {name}" for option, name in names.items() if option != name)
        return f"say in a dataset file what they are: `messages: {{format: alpaca{given}}}`"
    as_text = "" if answer is not None else "; the answer has to be text, or a list of messages"
    return f"say in a dataset file what is the question and what the answer: `{declared}`{as_text}"


def _opens_whole(value: Any) -> bool:
    """True if a list of messages is a whole conversation, not only its answer."""
    first = next(iter(message_list(value) or ()), None)
    return isinstance(first, Mapping) and first.get("role") in ("system", "user")


def _names_seen(rows: list[Any]) -> str | None:
    """The help where a column of the rows is a list of objects that look like messages."""
    for row in (row for row in rows if isinstance(row, Mapping)):
        for name, value in row.items():
            message = next((m for m in message_list(value) or () if isinstance(m, Mapping)), None)
            if message is None or list_kind(value) is not None:
                continue
            role, content = (key if key in message else key_meant(key, key, message) for key in ("role", "content"))
            if role is not None and content is not None and role != content:
                declared = f"messages: {{field: {name}, role: {role}, content: {content}}}"
                return f"rename the keys in the data, or write a dataset file that names them: `{declared}`"
    return None


def _as_objects(row: Mapping[str, Any]) -> str | None:
    """The help where a column that usually holds messages holds a list of other things."""
    name = next((name for name in USUAL_FIELDS if message_list(row.get(name))), None)
    shape = '{"role": "user", "content": …}'
    return None if name is None else f"write each message in `{name}` as an object, such as `{shape}`"


def _as_text(row: Mapping[str, Any], texts: list[str]) -> str | None:
    """The help where all that a row has is one text."""
    if len(texts) != 1 or len(row) > 2:
        return None
    return (
        f"`{texts[0]}` does not say who wrote which part of it: give the messages that it was made of, or the question "
        "and the answer in columns of their own"
    )
