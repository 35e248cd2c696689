"""Columns that look like a part of the conversation, and that the format does not read.

{"conversations": [{"from": "human", "value": "Hi"}], "tool_defs": "[…]"}
column `tool_defs` is not used: `messages: {tools: tool_defs}` in a dataset file gives it to the template
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from policy_engine.data.formats import OTHER_NAMES, Format, column, list_kind, message_list, role_of
from policy_engine.data.json_text import read_json
from policy_engine.data.pairs import PAIR_KINDS
from policy_engine.data.refusal import ANSWERS
from policy_engine.data.shapes.row_shape import LABELS, answer_kind, has_truth_value, is_label

_TOOLS: Final = (
    "tools", "tool_defs", "tool_definitions", "tool_schemas", "tools_json", "available_tools", "functions",
    "function_definitions", "function_descriptions", "apis",
)  # fmt: skip
_SYSTEMS: Final = ("system", "system_prompt", "system_message", "sys_prompt", "instructions", "preprompt")
_OF_SYSTEMS: Final = frozenset(
    {"system", "sys", "prompt", "message", "msg", "instruction", "instructions", "text", "content", "default", "custom"}
)
"""Words that the name of a column of system prompts may have beside `system`."""
_CONTEXTS: Final = ("context", "passage")
_OF_PROMPTS: Final = ("input", *_CONTEXTS, "instruction")
"""Columns that may have a part of the question, beside a prompt."""
_OF_ANSWERS: Final = frozenset(
    {"answer", "answers", "response", "responses", "output", "outputs", "completion", "completions", "reply", "gold",
     "target", "solution", "reference", "generation", "generations", "assistant", "truth", "chosen", "result"}
)  # fmt: skip


def noted(format: Format, rows: Iterable[Any], declared: Container[str] = ()) -> Format:
    """The format, with a sentence in `unused` for each column that is left over.

    These are tools where the format finds no tools, a system prompt, the messages before conversations that open with
    an answer, the answer to conversations that end with the user, and whether an answer is wanted. `declared` are
    options that a dataset file sets, `format` among them, and which therefore say nothing.

    >>> from policy_engine.data.formats import named_format
    >>> row = {"messages": [{"role": "user", "content": "Hi"}], "answer": "Yes."}
    >>> noted(named_format("messages"), [row]).unused[0].partition(":")[0]
    'the conversations end with the user, and column `answer` is not used'
    """
    fitting = [row for row in rows if isinstance(row, Mapping)]
    found = (
        *_inputs(fitting, format, declared),
        *_openings(fitting, format),
        *_answers(fitting, format),
        *(() if "format" in declared else _judgements(fitting, format)),
    )
    description = "; ".join([format.description, *found])
    return replace(format, unused=found, description=description) if found else format


def _inputs(rows: Sequence[Mapping[str, Any]], format: Format, declared: Container[str]) -> Iterator[str]:
    for option, names, is_one, does in (
        ("tools", _TOOLS, _holds_tools, "gives it to the template"),
        ("system", _SYSTEMS, _is_system, "puts it in front"),
        ("input", _contexts(rows, format), None, "puts it behind the question"),
    ):
        # Of a prompt and its answers, an `input` alone does not say that they are that.
        also = f"format: {format.kind}, " if option == "input" and format.kind != "alpaca" else ""
        used = getattr(format, option)
        # The usual column is there, so other names are no candidates.
        if option in declared or (used is not None and _filled(rows, used)):
            continue
        others = [name for name in _columns(rows) if name not in names and is_one is not None and is_one(rows, name)]
        for name in (*names, *others):
            if name == used or not _filled(rows, name) or _is_copied(rows, name, format):
                continue
            if option == "input" and format.kind != "alpaca" and not _asks_in_text(rows, format):
                yield f"column `{name}` is not used: the questions are in lists of messages; put its text into them"
            else:
                yield f"column `{name}` is not used: `messages: {{{also}{option}: {name}}}` in a dataset file {does}"


def _contexts(rows: Sequence[Mapping[str, Any]], format: Format) -> tuple[str, ...]:
    """Columns that may have a part of the question."""
    if format.kind == "alpaca":
        return _CONTEXTS
    if format.kind not in (*PAIR_KINDS, "prompt_completion"):
        return ()
    used = (format.prompt, format.completion, format.chosen, format.rejected)
    return tuple(name for name in _OF_PROMPTS if name not in used and not _is_in_prompt(rows, name, format))


def _asks_in_text(rows: Sequence[Mapping[str, Any]], format: Format) -> bool:
    prompts = [column(row, format.prompt) for row in rows]
    return any(isinstance(prompt, str) and message_list(prompt) is None for prompt in prompts)


def _is_in_prompt(rows: Sequence[Mapping[str, Any]], name: str, format: Format) -> bool:
    """True if each text of a column is in its row's prompt, or in the answers that repeat it."""
    texts = [(row, _as_json(text.strip())[1:-1]) for row in rows if isinstance(text := column(row, name), str)]
    prompts = (format.prompt, format.completion, format.chosen)
    return all(any(text in _as_json(_messages_or_text(row, prompt)) for prompt in prompts) for row, text in texts)


def _messages_or_text(row: Mapping[str, Any], name: str) -> Any:
    value = column(row, name)
    return message_list(value) or value


def _as_json(value: Any) -> str:
    # Quotes and line breaks are written alike in a text and in a list of messages, unlike what `str` makes of them.
    return json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    # Rows in Python may have numbers for names; these tell nothing.
    return list(dict.fromkeys(str(name) for row in rows for name in row))


def _words(name: str) -> set[str]:
    """The words of a column's name, in lower case.

    >>> sorted(_words("systemPrompt_v2"))
    ['prompt', 'system', 'v']
    """
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}


def _is_system(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    words = _words(name)
    return (
        bool(words & {"system", "sys"})
        and words <= _OF_SYSTEMS
        and all(isinstance(row.get(name), str | None) for row in rows)
    )


def _holds_tools(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """True for lists of tool schemas, as data or JSON text, whatever the column is called."""
    # By type first: arrays, which rows in Python may hold, are neither true nor false.
    values = (row.get(name) for row in rows)
    value = next((value for value in values if isinstance(value, str | list | tuple) and len(value) > 0), None)
    tools = message_list(value) or ()
    first = next(iter(tools), None)
    if isinstance(first, str) and first.lstrip().startswith("{"):
        try:
            first = read_json(first)
        except ValueError:
            return False
    if not isinstance(first, Mapping):
        return False
    function = first.get("function", first)
    # A call has a name too, and its arguments.
    return (
        isinstance(function, Mapping)
        and isinstance(function.get("name"), str)
        and not {"parameters", "input_schema", "description"}.isdisjoint(function)
        and "arguments" not in function
    )


def _is_copied(rows: Sequence[Mapping[str, Any]], name: str, format: Format) -> bool:
    """True if each text of a column is that of a message in its row."""
    if format.kind not in ("messages", "sharegpt"):
        return False
    texts = [(row, text) for row in rows if isinstance(text := column(row, name), str) and text.strip()]
    return bool(texts) and all(
        any(
            isinstance(message, Mapping) and message.get(format.content) == text
            for message in message_list(column(row, format.field)) or ()
        )
        for row, text in texts
    )


def _openings(rows: Sequence[Mapping[str, Any]], format: Format) -> Iterator[str]:
    if format.kind != "messages":
        return
    first = [next(iter(message_list(column(row, format.field)) or [None])) for row in rows]
    answers = sum(role_of(message, format) == "assistant" for message in first)
    # Of most rows, since single conversations open and end in many ways.
    if 2 * answers <= len(rows):
        return
    lists = (name for row in rows for name in row if list_kind(row[name]) == "messages")
    names = (name for name in (*OTHER_NAMES["prompt"], *dict.fromkeys(lists)) if name != format.field)
    name = next((name for name in names if _filled(rows, name)), None)
    if name is not None:
        prompt = "" if name == "prompt" else f"prompt: {name}, "
        declared = f"messages: {{format: prompt_completion, {prompt}completion: {format.field}}}"
        yield (
            f"the conversations open with an answer, and column `{name}` is not used: `{declared}` in a dataset file "
            "puts it in front"
        )


def _answers(rows: Sequence[Mapping[str, Any]], format: Format) -> Iterator[str]:
    if format.kind not in ("messages", "sharegpt"):
        return
    last = [list(message_list(column(row, format.field)) or [None])[-1] for row in rows]
    waits = 2 * sum(role_of(message, format) == "user" for message in last) > len(rows)
    if any(_holds_pair(row) for row in rows):
        prompt = f", and `prompt: {format.field}` beside it that column as their prompt" if waits else ""
        yield (
            "columns `chosen` and `rejected` are not used: `messages: {format: preference}` in a dataset file reads "
            f"them as a pair of answers{prompt}"
        )
        return
    if not waits:
        return
    ranked = next((name for name in _columns(rows) if any(_is_ranked(row.get(name)) for row in rows)), None)
    if ranked is not None:
        yield (
            f"column `{ranked}` has ranked answers (NeMo-RL's), and is not used: write one of them as `chosen` and a "
            f"worse one as `rejected`, with column `{format.field}` as `prompt`, for rows of preferences; or write the "
            f"best one behind the messages of `{format.field}`"
        )
        return
    named = [name for name in _columns(rows) if _words(name) & _OF_ANSWERS]
    name = next((name for name in (*ANSWERS, *named) if name != format.field and _holds_answers(rows, name)), None)
    if name is None:
        return
    yield (
        f"the conversations end with the user, and column `{name}` is not used: `messages: {{format: "
        f"prompt_completion, prompt: {format.field}, completion: {name}}}` in a dataset file reads it as the answer"
    )


def _judgements(rows: Sequence[Mapping[str, Any]], format: Format) -> Iterator[str]:
    """Sentences on a truth value beside answers, which may say that some are not wanted."""
    if format.kind in ("messages", "sharegpt", "alpaca"):
        found = ["label"] if any(has_truth_value(row, "label") for row in rows) else []
    else:
        # A question and its answer with true or false are read as judged. A number may be a class: so all have to fit.
        found = [name for name in LABELS if format.kind == "prompt_completion" and _is_bit(rows, name)]
    for name in found:
        yield (
            f"column `{name}` is not read as whether the answer is wanted: `messages: {{format: unpaired_preference}}` "
            f"in a dataset file, or `--pairs kto`, reads it so, and `format: {format.kind}` says that it is not that"
        )


def _is_bit(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """True if a column is 0 or 1 in each row that has it."""
    values = [value for row in rows if (value := row.get(name)) is not None]
    return bool(values) and all(map(is_label, values))


def _is_ranked(value: Any) -> bool:
    answers = value if isinstance(value, list | tuple) else ()
    return bool(answers) and all(isinstance(one, Mapping) and {"rank", "completion"} <= one.keys() for one in answers)


def _holds_pair(row: Mapping[str, Any]) -> bool:
    answers = [row.get(name) for name in ("chosen", "rejected")]
    return all(answer_kind(answer) is not None or (isinstance(answer, str) and answer) for answer in answers)


def _holds_answers(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    values = [value for row in rows if (value := column(row, name)) is not None]
    is_text = any(isinstance(value, str) and value.strip() and message_list(value) is None for value in values)
    return is_text or any(list_kind(value) is not None for value in values)


def _filled(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(isinstance(value := column(row, name), str | list | tuple) and len(value) > 0 for row in rows)
