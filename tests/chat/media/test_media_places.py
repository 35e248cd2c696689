"""Marks in messages that stand for files of a row, and files that they do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine import MediaError
from policy_engine.data.conversation import read_row
from policy_engine.data.formats import Format
from tests.chat.media.bad_files import masker


def _of_columns(content: Any, **columns: Any) -> Any:
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "Yes."}]
    return masker().mask(read_row({"messages": messages, **columns}, Format(kind="messages")))


@pytest.mark.parametrize(
    ("content", "columns", "expected", "help"),
    [
        (
            [{"type": "text", "text": "<image>What?"}],
            {"images": ["good.png"]},
            r"column `images` has 1 image, and messages\[0\].content\[0\].text has the mark `<image>`",
            'a part of its own in its place: {"type": "image"}',
        ),
        ("<image><image>?", {"images": ["good.png"]}, "has 1 image, and the messages have 2 places", "drop the row"),
        ("<image>?", {"images": ["good.png"] * 2}, "has 2 images, and the messages have 1 place", "drop the row"),
        (
            "<image>?",
            {"images": ["good.png"], "image": "other.png"},
            "the row has files in column `images` and in column `image`",
            "`messages: {images: image}`",
        ),
        ("<image>?", {"images": ["good.png"], "audio": ["a.wav"]}, "column `audio` has 1 audio", "{audios: null}"),
    ],
)
def test_files_and_places_that_differ_are_an_error_of_the_row(
    content: Any, columns: dict[str, Any], expected: str, help: str
) -> None:
    with pytest.raises(MediaError, match=expected) as caught:
        _of_columns(content, **columns)
    assert help in str(caught.value.help)


def test_the_column_that_has_files_is_taken() -> None:
    for columns in (
        {"image": "good.png"},
        {"images": [], "image": "good.png"},
        {"images": ["good.png"], "image": None},
    ):
        assert [m["source"] for m in _of_columns("<image>?", **columns)["media"]] == ["good.png"]


@pytest.mark.parametrize(
    ("message", "place"),
    [
        (
            {"tool_calls": [{"function": {"name": "f", "arguments": {"x": "<image>"}}}]},
            "tool_calls[0].function.arguments.x",
        ),
        ({"reasoning_content": "See <image>."}, "reasoning_content"),
    ],
)
def test_a_mark_outside_of_content_is_named(message: dict[str, Any], place: str) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "A.", **message}]
    with pytest.raises(MediaError) as caught:
        read_row({"messages": messages, "images": ["good.png"]}, Format(kind="messages"))
    assert f"messages[1].{place} has the mark `<image>`" in caught.value.message


def test_a_mark_in_any_role_takes_its_file() -> None:
    for role in ("system", "assistant", "tool"):
        turns = [{"role": "user", "content": "Hi"}, {"role": role, "content": "<image>A."}]
        turns = turns[::-1] if role == "system" else turns
        row = {"messages": [*turns, {"role": "assistant", "content": "Yes."}], "images": ["good.png"]}
        made = masker().mask(read_row(row, Format(kind="messages")))
        assert [m["source"] for m in made["media"]] == ["good.png"]
