"""Tinting: which texts of an encoder are believed, and how each character is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from policy_engine.chat.encoders.protocol import Chunk
from policy_engine.chat.encoders.provenance import Provenance
from policy_engine.chat.trace.origins import Origin
from policy_engine.core.errors import AttributionError, TemplateError

Messages = Sequence[Mapping[str, Any]]


def runs(write: Callable[[Messages], str], messages: Messages) -> list[tuple[str, Any, int]]:
    """The runs of what a function writes: their text, field (None for its own), and place in the field."""
    chunk = Chunk(text=write(messages), turn=0)

    def tinted(given: Messages) -> str:
        try:
            return write(given)
        except ValueError as error:
            raise TemplateError(str(error)) from error

    found = Provenance(name="it").runs(messages, None, [chunk], tinted)
    made: list[tuple[str, Any, int]] = []
    at = 0
    for length, origin, offset in found:
        text = chunk.text[at : at + length]
        made.append((text, (origin.turn, *origin.path), offset) if isinstance(origin, Origin) else (text, None, 0))
        at += length
    assert at == len(chunk.text)
    return made


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def called(arguments: str) -> list[dict[str, Any]]:
    return [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}]


WRITERS: list[tuple[Callable[[Messages], str], list[dict[str, Any]], list[tuple[str, Any, int]]]] = [
    (
        lambda m: f"<u>{m[0]['content']}</u>",
        user("Hi"),
        [("<u>", None, 0), ("Hi", (0, "content"), 0), ("</u>", None, 0)],
    ),
    # Written in JSON, with and without escapes for letters.
    (
        lambda m: json.dumps(m[0]["content"]),
        user('é"'),
        [('"', None, 0), ('\\u00e9\\"', (0, "content"), -1), ('"', None, 0)],
    ),
    (
        lambda m: json.dumps(m[0]["content"], ensure_ascii=False),
        user("é\n"),
        [('"', None, 0), ("é\\n", (0, "content"), -1), ('"', None, 0)],
    ),
    # A part of a field keeps its place there.
    (lambda m: m[0]["content"][2:4], user("abcdef"), [("cd", (0, "content"), 2)]),
    # Stripped.
    (
        lambda m: f"[{m[0]['content'].strip()}]",
        user("  Hi "),
        [("[", None, 0), ("Hi", (0, "content"), 2), ("]", None, 0)],
    ),
    # Parsed and printed again.
    (
        lambda m: "=" + json.dumps(json.loads(m[0]["content"])) + "=",
        user('{"a":"b","n":1}'),
        [("=", None, 0), ('{"a": "b", "n": 1}', (0, "content"), -1), ("=", None, 0)],
    ),
    # Arguments of a call, as they are and value by value.
    (
        lambda m: "".join(m[0]["tool_calls"][0]["function"].values()),
        called('{"a": "b"}'),
        [
            ("f", (0, "tool_calls", 0, "function", "name"), 0),
            ('{"a": "b"}', (0, "tool_calls", 0, "function", "arguments"), 0),
        ],
    ),
    (
        lambda m: "|".join(f"{k}={v}" for k, v in json.loads(m[0]["tool_calls"][0]["function"]["arguments"]).items()),
        called('{"a": "b\\n"}'),
        [
            ("a", (0, "tool_calls", 0, "function", "arguments"), 2),
            ("=", None, 0),
            ("b\n", (0, "tool_calls", 0, "function", "arguments"), -1),
        ],
    ),
]


@pytest.mark.parametrize(("write", "messages", "expected"), WRITERS)
def test_each_character_is_known(
    write: Callable[[Messages], str], messages: list[dict[str, Any]], expected: list[tuple[str, Any, int]]
) -> None:
    assert expected == runs(write, messages)


REFUSED: list[Callable[[Messages], str]] = [
    lambda m: m[0]["content"].upper(),
    lambda m: "yes" if "Hi" in m[0]["content"] else "no",
    lambda m: m[0]["content"][::-1] if m[0]["content"].isascii() else m[0]["content"],
    lambda m: "".join("H" if c == "H" else "i" for c in m[0]["content"]),
    lambda m: m[0]["content"].replace("H", "h"),
    lambda m: str(len(m[0]["content"].encode())),
]


@pytest.mark.parametrize("write", REFUSED)
def test_what_reads_the_words_is_refused(write: Callable[[Messages], str]) -> None:
    with pytest.raises(AttributionError, match="does not show whose each character is"):
        runs(write, user("Hi there"))


def test_the_way_that_fits_is_tried_first_for_the_next_row() -> None:
    asked: list[str] = []

    def write(messages: Messages) -> str:
        asked.append(messages[0]["content"])
        return str(messages[0]["content"].strip())

    provenance = Provenance(name="it")
    for expected in (7, 1):
        asked.clear()
        provenance.runs(user(" Hi "), None, [Chunk(text="Hi", turn=0)], write)
        assert expected == len(asked)
