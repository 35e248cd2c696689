"""The shape of a conversation: rows of one shape are replayed alike."""

from __future__ import annotations

from typing import Any

from policy_engine import ChatTemplate, Conversation
from policy_engine.chat.skeleton.shape import shape_of
from tests.properties.skeletons import never_compared


def with_key(key: Any) -> Conversation:
    return Conversation(messages=({"role": "user", "content": "Hi", key: ""},))


def test_messages_with_keys_that_are_not_text_have_no_shape() -> None:
    class Key(str):
        """Text that is equal to another, and may be printed differently."""

        __slots__ = ()

    assert shape_of(with_key("note"), {}) is not None
    assert [shape_of(with_key(key), {}) for key in (1, True, None, Key("note"))] == [None] * 4


def test_equal_keys_of_two_types_are_written_as_each_is() -> None:
    template = ChatTemplate("{% for m in messages %}{% for key in m %}{{ key }},{% endfor %}{% endfor %}")
    with never_compared():
        for _ in range(6):
            found = [template.render(with_key(key), in_other_words=False).text for key in (1, True)]
    assert found == ["role,content,1,", "role,content,True,"]
