"""Tinting: which texts of an encoder are believed, and how each character is written."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from policy_engine.chat.encoders.protocol import Chunk
from policy_engine.chat.encoders.provenance import Provenance
from policy_engine.chat.encoders.tint import splitters_of
from policy_engine.chat.trace.origins import Origin
from policy_engine.core.errors import AttributionError, TemplateError

Messages = Sequence[Mapping[str, Any]]


def runs(
    write: Callable[[Messages], str], messages: Messages, provenance: Provenance | None = None
) -> list[tuple[str, Any, int]]:
    """The runs of what a function writes: their text, field (None for its own), and place in the field."""
    chunk = Chunk(text=write(messages), turn=len(messages) - 1)

    def tinted(given: Messages) -> str:
        try:
            return write(given)
        except ValueError as error:
            raise TemplateError(str(error)) from error

    found = (provenance or Provenance(name="it")).runs(messages, None, [chunk], tinted)
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


def test_a_refusal_names_the_place_and_both_texts() -> None:
    messages = [{"role": "user", "content": "Is"}, {"role": "assistant", "content": "No, <b>never</b>."}]
    with pytest.raises(AttributionError) as caught:
        runs(lambda m: f"{m[0]['content']}: {m[1]['content'].replace('<b>', '*')}", messages)
    assert (
        "at `content` of message 1 it writes 'Is: No, *never</b>.', and 'Is: No, <b>never</b>.' where other letters "
        "take the place of the data's"
    ) in caught.value.message


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def test_a_tokenizer_that_composes_accents_keeps_the_places_of_the_others() -> None:
    made = runs(
        lambda m: composed(f"<u>{m[0]['content']}</u>"), user("a cafe\u0301, e"), Provenance(name="it", normal=composed)
    )
    field = (0, "content")
    assert [("<u>", None, 0), ("a caf", field, 0), ("é", field, -1), (", e", field, 7), ("</u>", None, 0)] == made
    # An accent that goes on a letter of the encoder's own has no owner.
    with pytest.raises(AttributionError, match="does not show whose"):
        runs(lambda m: composed(f"<u>e{m[0]['content']}</u>"), user("\u0301a"), Provenance(name="it", normal=composed))


def test_blanks_are_stripped_of_some_fields() -> None:
    def write(m: Messages) -> str:
        return f"<u>{m[0]['content'].strip()}\n<a>\n{m[1]['content'].lstrip(chr(10))}"

    messages = [{"role": "user", "content": "\nHi \n"}, {"role": "assistant", "content": "\n\n Yes \n"}]
    asked = (0, "content")
    assert [("<u>", None, 0), ("Hi", asked, 1), ("\n<a>\n", None, 0), (" Yes \n", (1, "content"), 2)] == runs(
        write, messages
    )


def test_thinking_in_an_answer_is_split_off() -> None:
    def write(m: Messages) -> str:
        thought, found, said = m[0]["content"].partition("</think>")
        if not found:
            thought, said = "", m[0]["content"]
        return f"<think>[{thought.removeprefix('<think>').strip()}]</think>{said.lstrip()}"

    answer = [{"role": "assistant", "content": "<think>\nHm.\n</think>\n\nYes."}]
    provenance = Provenance(name="it", splitters=splitters_of([("<think>", "</think>")]))
    field = (0, "content")
    expected = [("<think>[", None, 0), ("Hm.", field, 8), ("]</think>", None, 0), ("Yes.", field, 22)]
    assert expected == runs(write, answer, provenance)
    # Only where the encoder is known to have such delimiters, and in answers.
    with pytest.raises(AttributionError, match="does not show whose"):
        runs(write, answer)
    with pytest.raises(AttributionError, match="does not show whose"):
        runs(write, [{**answer[0], "role": "user"}], provenance)


def test_an_id_with_the_tools_name_is_that_of_the_message_it_is_written_in() -> None:
    def write(m: Messages) -> str:
        return f"<call>{m[0]['tool_calls'][0]['id']}{{}}"

    call = {"id": "functions.find:0", "function": {"name": "find", "arguments": "{}"}}
    messages = [{"role": "assistant", "tool_calls": [call]}]
    expected = [("<call>", None, 0), ("functions.find:0", (0, "tool_calls", 0, "id"), 0)]
    assert expected == runs(write, messages, Provenance(name="it", ids=True))[:2]
    # A result has the same id, and it is the result's there.
    result = {"role": "tool", "tool_call_id": "functions.find:0", "content": "x"}
    made = runs(lambda m: m[1]["tool_call_id"], [*messages, result], Provenance(name="it", ids=True))
    assert [("functions.find:0", (1, "tool_call_id"), 0)] == made


def test_a_letter_that_json_escapes_in_two_halves_is_one() -> None:
    def write(m: Messages) -> str:
        return str(json.loads(m[0]["tool_calls"][0]["function"]["arguments"]).popitem()[1])

    field = (0, "tool_calls", 0, "function", "arguments")
    assert [("x🙂y", field, -1)] == runs(write, called('{"a": "x\\ud83d\\ude42y"}'))


def test_an_encoder_that_sorts_keys() -> None:
    def write(m: Messages) -> str:
        given = json.loads(m[0]["tool_calls"][0]["function"]["arguments"])
        return ";".join(f"{key}={given[key]}" for key in sorted(given))

    field = (0, "tool_calls", 0, "function", "arguments")
    made = runs(write, called('{"to": "b", "at": "a"}'))
    assert [("at", 13), ("a", 19), ("to", 2), ("b", 8)] == [(text, at) for text, own, at in made if own == field]


def test_the_way_that_fits_is_tried_first_for_the_next_row() -> None:
    asked: list[str] = []

    def write(messages: Messages) -> str:
        asked.append(messages[0]["content"])
        try:
            return json.dumps(json.loads(messages[0]["content"]))
        except ValueError as error:
            raise TemplateError("no JSON") from error

    provenance = Provenance(name="it")
    for expected in (2, 1):
        asked.clear()
        provenance.runs(user('{"a": 1}'), None, [Chunk(text='{"a": 1}', turn=0)], write)
        assert expected == len(asked)
