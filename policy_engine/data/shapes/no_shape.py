"""The error and the help where no row has a known shape, or the one that was asked for.

no conversation found in 2 rows; their columns are `q` (text), `a` (text) …
  help: say in a dataset file what is the question and what the answer: `messages: {format: prompt_completion, …}`
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from typing import Any, Final

from policy_engine.core.errors import ConfigError
from policy_engine.core.wording import a_kind, counted
from policy_engine.data.formats import OTHER_NAMES, USUAL_FIELDS, is_broken_list, key_meant, list_kind, message_list
from policy_engine.data.refusal import (
    ANSWERS,
    ARRAYS,
    NEXT_STEP,
    of_other_interfaces,
    of_plain_row,
    of_text,
    text_help,
    text_problem,
)
from policy_engine.data.shapes.row_shape import answer_kind, opens_whole

_CONTEXTS: Final = ("context", "input", "passage")
"""Names of columns that belong to a question."""
_CHOSEN: Final = frozenset({"chosen", "preferred", "accepted", "win", "winner", "better", "best", "good", "positive"})
_REJECTED: Final = frozenset(
    {"rejected", "reject", "dispreferred", "lose", "loser", "worse", "worst", "bad", "negative"}
)
"""Words in names of columns that hold the two answers of a preference."""
_MANY: Final = 8
"""Columns from which on two names that look like question and answer say little."""
_HH: Final = re.compile(r"\s*(Human|Assistant): ")
"""The start of a text of HH-RLHF, which has a conversation with its speakers."""
_PAIRS: Final = (
    "a pair has two answers, `chosen` and `rejected`, beside their `prompt` (text or messages) or a conversation that "
    "ends with the user; a judged answer has `prompt`, `completion` and `label`, or a conversation that ends with the "
    "answer and `label`. Without --pairs (and `pairs` in a dataset file) rows are read as they are"
)


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
    lists = _lists_of(objects[0])
    if len(lists) > 1:
        named = " and ".join(f"`{name}`" for name in lists)
        return f"columns {named} all hold messages, and nothing says which to train on"
    return (
        f"no conversation found in {counted(len(rows), 'row')}; their columns are {_columns_of(objects)}. Known "
        "shapes: a list of messages with `role` and `content`, or with `from` and `value`; `instruction` and `output`; "
        "`prompt` and `completion`; `chosen` and `rejected`"
    )


def _columns_of(rows: list[Mapping[Any, Any]]) -> str:
    """The columns of some rows for people, the first dozen, each with what it holds."""
    columns: dict[str, Any] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(str(name), value)
    shown = ", ".join(
        f"`{name}` ({'an empty list' if isinstance(value, list) and not value else a_kind(value)})"
        for name, value in list(columns.items())[:12]
    )
    return shown or "none"


def what_to_do(rows: list[Any]) -> str:
    """The help where no row has a known shape.

    >>> what_to_do([{"question": "Hi?", "good": "Yes.", "bad": "No."}])[49:]
    '`messages: {format: preference, prompt: question, chosen: good, rejected: bad}`'
    """
    row = next((row for row in rows if isinstance(row, Mapping)), None)
    if row is None:
        return of_plain_row(rows[0])
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
    texts = _texts_of(row)
    lists = _lists_of(row)
    return (
        _as_pair(row, texts)
        or text_help(row)
        or _as_answer(row, texts, lists)
        or (f"name one in a dataset file: `messages: {{field: {lists[0]}}}`" if len(lists) > 1 else None)
        or _names_seen(rows)
        or _as_objects(row)
        or (of_text(row, texts[0]) if len(texts) == 1 and len(row) <= 2 else None)
        or NEXT_STEP
    )


def _texts_of(row: Mapping[Any, Any]) -> list[str]:
    # A system prompt is neither question nor answer.
    return [name for name in row if isinstance(name, str) and "system" not in name.lower() and _holds_text(row[name])]


def _lists_of(row: Mapping[Any, Any]) -> list[str]:
    return [name for name in row if list_kind(row[name]) is not None]


def _holds_text(value: Any) -> bool:
    return answer_kind(value) in ("messages", "sharegpt") or (isinstance(value, str) and bool(value.strip()))


def _known(names: Iterable[str], texts: Iterable[str]) -> str | None:
    """The column that has the first of some names, in upper or lower case."""
    by_lower = {name.lower(): name for name in texts}
    return next((by_lower[name] for name in names if name in by_lower), None)


def _with_word(words: Container[str], texts: Iterable[str]) -> str | None:
    """The shortest column with one of some words in its name: `response_chosen`, `chosenText`."""
    spaced = {name: re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower() for name in texts}
    found = [name for name, words_in in spaced.items() if any(w in words for w in re.split(r"[^a-z]+", words_in))]
    return min(found, key=len, default=None)


def no_pairs(rows: list[Any]) -> ConfigError:
    """The error where columns of preferences are asked for, and no row is one.

    >>> no_pairs([{"text": "Hi"}]).message.partition("; ")[2]
    'their columns are `text` (text)'
    """
    objects = [row for row in rows if isinstance(row, Mapping)]
    row = next(iter(objects), {})
    return ConfigError(
        f"columns for a trainer of preferences are asked for (`pairs`), and none of {counted(len(rows), 'row')} looked "
        f"at is a preference; their columns are {_columns_of(objects)}",
        help=_as_pair(row, _texts_of(row)) or _PAIRS,
    )


def _as_pair(row: Mapping[str, Any], texts: list[str]) -> str | None:
    """The help where two columns look like the better and the worse answer."""
    rejected = _with_word(_REJECTED, texts)
    # `response` beside `rejected_response` is the preferred one.
    chosen = _with_word(_CHOSEN, texts) or (_known(ANSWERS, [t for t in texts if t != rejected]) if rejected else None)
    if chosen is None or rejected is None or answer_kind(row[chosen]) != answer_kind(row[rejected]):
        return None
    answers = [row[chosen], row[rejected]]
    others = [name for name in texts if name not in (chosen, rejected)]
    prompt = _known(OTHER_NAMES["prompt"], others) or (others[0] if len(others) == 1 else None)
    if prompt is None and all(isinstance(text, str) and _HH.match(text) for text in answers):
        return (
            f"`{chosen}` and `{rejected}` are conversations as text (HH-RLHF): split them at the speakers into lists "
            "of messages, which begin alike; the page *Preferences* has the lines that do it"
        )
    named = {"chosen": chosen, "rejected": rejected}
    if prompt is None and not others and not all(map(opens_whole, answers)):
        return (
            f"`{chosen}` and `{rejected}` look like two answers, and no column says what they answer: add it as "
            "`prompt`, or write both as lists of messages that begin with it"
        )
    if prompt is not None or not opens_whole(row[chosen]):
        context = _known(_CONTEXTS, [name for name in others if name != prompt])
        named = {"prompt": prompt or "NAME", **({"input": context} if context else {}), **named}
    # An `input` is read where it is named.
    pairs = ", ".join(f"{option}: {name}" for option, name in named.items() if option != name or option == "input")
    among = f"; NAME is one of {', '.join(f'`{name}`' for name in others)}" if named.get("prompt") == "NAME" else ""
    return f"say in a dataset file which answer is preferred: `messages: {{format: preference, {pairs}}}`{among}"


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
    if answer is not None and answer in lists and opens_whole(row[answer]):
        return f"name it in a dataset file: `messages: {{field: {answer}}}`"
    declared = f"messages: {{format: prompt_completion, prompt: {question}, completion: {answer or 'NAME'}}}"
    context = _known(_CONTEXTS, [name for name in texts if name not in (question, answer)])
    if answer is not None and context is not None and not lists:
        names = {"instruction": question, "input": context, "output": answer}
        given = "".join(f", {option}: {name}" for option, name in names.items() if option != name)
        return f"say in a dataset file what they are: `messages: {{format: alpaca{given}}}`"
    as_text = "" if answer is not None else "; the answer has to be text, or a list of messages"
    return f"say in a dataset file what is the question and what the answer: `{declared}`{as_text}"


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
