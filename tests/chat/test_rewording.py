"""Templates that read a message letter by letter, and write it again by themselves, are refused."""

from __future__ import annotations

from typing import Any

import pytest

from policy_engine.chat.rewording import Rewording
from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.templates import installed_templates
from tests.support.sentinels import SENTINELS
from tests.support.templates import SHAPES, SPECIAL_TOKENS

TEXT = "Send 4711 to Bob, not <tool> or https://a.b/?q=Q"
CHAT = Conversation(
    messages=({"role": "user", "content": TEXT, "n": 4711}, {"role": "assistant", "content": "Yes, in {json}"})
)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
READERS = {
    "compared with each letter": "{% for c in messages[0].content %}{% for a in 'LETTERS' %}"
    "{% if c == a %}{{ a }}{% endif %}{% endfor %}{% endfor %}",
    "a letter in the text": "{% for a in 'LETTERS' %}{{ a if a in messages[0].content }}{% endfor %}",
    "begins with": "{% for a in 'LETTERS' %}{{ a if messages[0].content|lower is search(a) }}{% endfor %}".replace(
        "messages[0].content|lower is search(a)", "(messages[0].content|lower).startswith(a)"
    ),
    "selected": "{% for c in messages[0].content %}{{ 'LETTERS'|list|select('eq', c)|join }}{% endfor %}",
    "ordered": "{% for c in messages[0].content %}{% set ns = namespace(k=0) %}{% for a in 'LETTERS' %}"
    "{% if a < c %}{% set ns.k = ns.k + 1 %}{% endif %}{% endfor %}{{ 'LETTERS'[ns.k] }}{% endfor %}",
    "branches": "{% if messages[0].content[0] == 'S' %}S{% elif messages[0].content[0] == 'T' %}T{% endif %}",
    "truth values": "{% for a in 'LETTERS' %}{{ a in messages[0].content }}{% endfor %}",
    "counted in a loop": "{% for i in range(9999) %}{% if i == messages[0].n %}{{ i }}{% endif %}{% endfor %}",
    "the answer": "{{ 'Y' if messages[1].content[0] == 'Y' }}",
    "raises": "{% if messages[0].content[0] != 'S' %}{{ raise_exception('no') }}{% endif %}x",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_template_that_reads_a_message_is_refused(name: str) -> None:
    template = ChatTemplate("one line\n" + READERS[name].replace("LETTERS", LETTERS), name="reader")
    with pytest.raises(TemplateError, match=r"reader reads message [01]: it ") as caught:
        template.render(CHAT)
    assert "PE405" == caught.value.code
    if name != "raises":
        assert "line 2" in caught.value.message


def test_the_line_and_both_texts_are_named() -> None:
    template = ChatTemplate("{% for m in messages %}\n{{ 'Yes!' if m.content == 'no' else 'No!' }}{% endfor %}")
    assert template.reading_of(Conversation(messages=({"role": "user", "content": "no"},))) is None
    letters = ChatTemplate("{% for m in messages %}\n{{ 'Yes!' if 'Q' in m.content else 'No!' }}{% endfor %}", name="t")
    found = letters.reading_of(CHAT)
    assert found == "reads message 0: it writes 'Yes!No!' by itself in line 2, and 'No!No!' where the words are others"


def test_only_the_first_conversations_are_rendered_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    template = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}")
    read: list[Any] = []
    monkeypatch.setattr(ChatTemplate, "_reading", lambda self, *args: read.append(args))
    for _ in range(40):
        template.render(CHAT)
    assert 16 == len(read)
    template.render(CHAT, in_other_words=False)
    assert 16 == len(read)


def test_a_template_that_was_caught_is_looked_at_for_ever() -> None:
    template = ChatTemplate("{% for m in messages %}{{ 'Yes' if m.content[0] == 'G' }}{{ m.content }}{% endfor %}")
    refused = 0
    for number in range(100):
        said = "Go" if number % 10 == 9 else f"hello {number}"
        try:
            template.render(Conversation(messages=({"role": "user", "content": said},)))
        except TemplateError as error:
            refused += error.code == "PE405"
    assert refused == 10


@pytest.mark.parametrize("name", sorted(installed_templates())[::30])
def test_real_templates_read_no_message(name: str) -> None:
    template = ChatTemplate(installed_templates()[name], special_tokens=SPECIAL_TOKENS, name=name)
    for conversation in (*SHAPES.values(), *SENTINELS.values()):
        try:
            assert template.reading_of(conversation) is None
        except TemplateError:
            continue


def test_other_words_have_the_same_shape() -> None:
    words = Rewording({"https", "json", "a"}, ["<|im_end|>"], "key")
    other = words.text(TEXT + "<|im_end|>\n\té JSON")
    assert len(other) == len(TEXT) + len("<|im_end|>\n\té JSON")
    assert [c.isupper() for c in TEXT] == [c.isupper() for c in other[: len(TEXT)]]
    assert [c.isdigit() for c in TEXT] == [c.isdigit() for c in other[: len(TEXT)]]
    for kept in ("<tool>", "https", "<|im_end|>", "\n\t", " JSON", "://", "?"):
        assert kept in other
    changed = [a != b for a, b in zip(TEXT[:9], other[:9], strict=True)]
    assert [True] * 4 + [False] + [True] * 4 == changed
    assert words.text("Bob") in words.text("to Bob, not")  # what was equal stays equal


def test_names_ids_flags_and_keys_stay() -> None:
    words = Rewording({"celsius"}, [], "key")
    value = {
        "role": "user", "name": "Bob", "id": "x1", "n": 3, "big": 1234, "ok": True, "real": 20.5, "none": None,
        "type": "text", "content": [{"type": "text", "text": "Hello"}], "unit": "celsius",
    }  # fmt: skip
    other = words.value(value)
    same = {key for key in value if value[key] == other[key]}
    assert {"role", "name", "id", "n", "ok", "none", "type", "unit"} == same
    assert (1233, 21.5) == (other["big"], other["real"])
    assert list(value) == list(other)
    assert other["content"][0]["text"] != "Hello"
