"""Conversations that every system can be asked to render, made from a seed.

Text is what `policy_engine.testing.texts` makes: plain words, odd white space, all scripts, quoted control tokens,
blank and empty messages. What differs from `policy_engine.testing.conversations` is the order of roles, which the
templates of these systems insist on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from policy_engine.testing.choices import Choices, RandomChoices
from policy_engine.testing.conversations import tool, tool_call
from policy_engine.testing.texts import CONTROL, SPACES, WORDS, text

Row = dict[str, Any]
Kind = Literal["plain", "system", "reasoning", "think", "tools"]


def rows_of(count: int, kinds: Sequence[Kind], *, tidy: bool = False) -> list[Row]:
    """That many rows, of the kinds in turn.

    A row has `messages`, `tools` if it is of kind `tools`, and its `kind`.

    With `tidy` four of five rows have no control tokens, no blanks around texts and no escapes in JSON: for systems
    that tokenize text piece by piece, where these come out as other ids and nothing can be compared.
    """
    rows = [row_of(seed, kinds[seed % len(kinds)]) for seed in range(count)]
    return [_tidy(row) if tidy and seed % 5 else row for seed, row in enumerate(rows)]


def _tidy(row: Row) -> Row:
    said = json.dumps(row, ensure_ascii=False)
    for marker in CONTROL:
        said = said.replace(json.dumps(marker, ensure_ascii=False)[1:-1], "")
    made: Row = json.loads(said.replace("日本語", "Nihongo").replace("日本", "Nihon"))
    for message in made["messages"]:
        message["content"] = message["content"].strip() or ("" if message.get("tool_calls") else "so")
    return made


def row_of(seed: int, kind: Kind) -> Row:
    """One row, which ends with an answer.

    Users and answers alternate but for calls and their results.
    """
    choices = RandomChoices(f"peers-{kind}-{seed}")
    messages: list[dict[str, Any]] = []
    if kind == "system" or (kind != "plain" and choices.chance(30)):
        messages.append({"role": "system", "content": text(choices)})
    for _ in range(choices.integer(1, 3)):
        messages.append({"role": "user", "content": text(choices)})
        if kind == "tools" and choices.chance(70):
            messages += _round(choices)
        messages.append(_answer(choices, kind))
    row: Row = {"messages": messages, "kind": kind}
    if kind == "tools":
        row["tools"] = list({t["function"]["name"]: t for t in choices.many(tool, 1, 3)}.values())
    return row


def _answer(choices: Choices, kind: Kind) -> dict[str, Any]:
    answer = {"role": "assistant", "content": text(choices)}
    if kind == "reasoning" and choices.chance(60):
        answer["reasoning_content"] = _thought(choices)
    if kind == "think" and choices.chance(60):
        answer["content"] = f"<think>{choices.pick(SPACES)}{_thought(choices)}\n</think>\n\n{answer['content']}"
    return answer


def _thought(choices: Choices) -> str:
    return " ".join(choices.many(lambda c: c.pick(WORDS), 1, 3))


def _round(choices: Choices) -> list[dict[str, Any]]:
    """An answer that calls, and the results of its calls."""
    calls = choices.many(tool_call, 1, 2)
    for number, call in enumerate(calls):
        call["id"] = f"callid{number:03d}"
        arguments = call["function"]["arguments"]
        call["function"]["arguments"] = json.loads(arguments) if isinstance(arguments, str) else arguments
    results = [
        {"role": "tool", "tool_call_id": call["id"], "name": call["function"]["name"], "content": text(choices)}
        for call in calls
    ]
    return [{"role": "assistant", "content": choices.pick(("", text(choices))), "tool_calls": calls}, *results]


def quotes(row: Row, markers: Sequence[str] = CONTROL) -> bool:
    """True if a message has text that looks like a control token."""
    said = json.dumps([m.get("content") for m in row["messages"]] + [m.get("tool_calls") for m in row["messages"]],
                      ensure_ascii=False)  # fmt: skip
    return any(json.dumps(marker, ensure_ascii=False)[1:-1] in said for marker in markers)
