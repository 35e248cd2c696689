"""The runs of a replayed row, which are made when they are asked for."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from policy_engine import ChatTemplate, Conversation
from policy_engine.chat.label.layout import PlacedSegments
from policy_engine.chat.skeleton.leaf import Replay
from tests.properties.skeletons import never_compared

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def replayed(source: str) -> Replay:
    """The replay of a row, of which nothing was asked yet but its text."""
    template = ChatTemplate(source)
    messages = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"})
    with never_compared():
        for _ in range(6):
            segments = template.render(Conversation(messages=messages), in_other_words=False).segments
    assert isinstance(segments, PlacedSegments)
    assert isinstance(segments.scan, Replay)
    return segments.scan


def is_kept(scan: object, name: str) -> bool:
    """True if an object has an attribute already."""
    try:
        object.__getattribute__(scan, name)
    except AttributeError:
        return False
    return True


def test_replays_can_be_copied_and_pickled() -> None:
    for made in (copy.deepcopy(replayed(CHATML)), pickle.loads(pickle.dumps(replayed(CHATML)))):
        assert (made.text, made.lengths) == (replayed(CHATML).text, replayed(CHATML).lengths)


@pytest.mark.parametrize("name", ["lengths", "offsets", "data"])
def test_another_thread_sees_no_list_that_is_half_made(name: str) -> None:
    seen = []

    class Slots(list[Any]):
        def __iter__(self) -> Any:
            for slot in super().__iter__():
                yield slot
                seen.append(is_kept(scan, name))

        def __getitem__(self, at: Any) -> Any:
            seen.append(is_kept(scan, name))
            return super().__getitem__(at)

    source = "{% for m in messages %}{{ m.content.strip() }}|{% endfor %}"
    scan = replayed(source)
    scan.leaf.slots = Slots(scan.leaf.slots)
    for own in ("lengths", "offsets", "data"):
        if is_kept(scan, own):
            delattr(scan, own)
    getattr(scan, name)
    assert seen
    assert not any(seen)
    assert is_kept(scan, name)
