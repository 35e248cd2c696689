"""Conversations in which every piece has a word of its own, to see which pieces a template loses.

A word is either in the text or below a path that is reported as lost, and never both: so neither a silent loss nor a
false alarm goes by. Words of a label (`name`, ids) and of media are not looked for, nor fields that the template writes
letter by letter: rows with such a field are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from policy_engine.chat.label.board import field_value
from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.templates import installed_templates
from tests.support.templates import SPECIAL_TOKENS

Path = tuple[str | int, ...]


@dataclass
class Words:
    """Gives out words that occur nowhere else."""

    count: int = 0
    made: list[str] = field(default_factory=list)

    def __call__(self) -> str:
        self.count += 1
        self.made.append(f"Qz{self.count:03d}w")
        return self.made[-1]


def _call(w: Words, id: str, arguments: Any = None) -> dict[str, Any]:
    given = {"x": w(), "y": [w(), {"deep": w()}]} if arguments is None else arguments
    return {"id": id, "type": "function", "function": {"name": w(), "arguments": given}}


def _text(w: Words, count: int = 2) -> list[dict[str, Any]]:
    return [{"type": "text", "text": w()} for _ in range(count)]


def _tool(w: Words) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"x": {"type": "string", "description": "d"}}, "required": ["x"]}
    return {"type": "function", "function": {"name": w(), "description": "Does it.", "parameters": parameters}}


def _user(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **more}


def _answer(content: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **more}


def _result(content: Any, id: str) -> dict[str, Any]:
    return {"role": "tool", "content": content, "tool_call_id": id}


def _plain(w: Words) -> Conversation:
    return Conversation(
        messages=(
            {"role": "system", "content": w()}, _user(w()), _answer(w()), _user(w(), name="ann"), _answer(w(), weight=1)
        )
    )  # fmt: skip


def _parts(w: Words) -> Conversation:
    system = {"role": "system", "content": _text(w)}
    return Conversation(messages=(system, _user(_text(w)), _answer(_text(w)), _user(_text(w, 3)), _answer(_text(w))))


def _two_calls(w: Words) -> Conversation:
    calls = [_call(w, "abcdefgh1"), _call(w, "abcdefgh2")]
    return Conversation(
        messages=(
            _user(w()), _answer("", tool_calls=calls), _result(w(), "abcdefgh1"), _result(w(), "abcdefgh2"),
            _answer(w()),
        ),
        tools=(_tool(w), _tool(w)),
    )  # fmt: skip


def _text_and_call(w: Words) -> Conversation:
    answer = _answer(w(), tool_calls=[_call(w, "abcdefgh1", {"n": 7351, "s": w()})], reasoning_content=w())
    return Conversation(messages=(_user(w()), answer, _result(w(), "abcdefgh1"), _answer(w())), tools=(_tool(w),))


def _text_arguments(w: Words) -> Conversation:
    calls = [_call(w, "abcdefgh1", f'{{"x": "{w()}"}}'), _call(w, "abcdefgh2", f'{{"y": "{w()}"}}')]
    return Conversation(messages=(_user(w()), _answer(None, tool_calls=calls), _result(w(), "abcdefgh1"), _answer(w())))


def _reasoning(w: Words) -> Conversation:
    return Conversation(
        messages=(
            _user(w()), _answer(w(), reasoning_content=w()), _user(w()), _answer(w(), reasoning_content=w()),
        )
    )  # fmt: skip


def _other_reasoning(w: Words) -> Conversation:
    one, two = w(), w()
    return Conversation(
        messages=(
            _user(w()), _answer(w(), reasoning=one, thinking=one), _user(w()), _answer(w(), thinking=two, thought=w())
        )
    )  # fmt: skip


def _thinking_parts(w: Words) -> Conversation:
    def answer() -> dict[str, Any]:
        return _answer([{"type": "thinking", "thinking": w(), "signature": "s"}, *_text(w, 1)])

    return Conversation(messages=(_user(w()), answer(), _user(w()), answer()))


def _anthropic(w: Words) -> Conversation:
    use = {"type": "tool_use", "id": "t1", "name": w(), "input": {"x": w()}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": w()}
    listed = {"type": "tool_result", "tool_use_id": "t1", "content": _text(w, 1)}
    return Conversation(messages=(_user(w()), _answer([*_text(w, 1), use]), _user([result, listed]), _answer(w())))


def _thinking_in_content(w: Words) -> Conversation:
    def answer() -> dict[str, Any]:
        return _answer(f"<think>\n{w()}\n</think>\n\n{w()}")

    return Conversation(messages=(_user(w()), answer(), _user(w()), answer()))


def _interleaved(w: Words) -> Conversation:
    def answer() -> dict[str, Any]:
        return _answer(f"{w()}<think>{w()}</think>{w()}<think>{w()}</think>{w()}")

    part = {"type": "text", "text": f"<think>\n{w()}\n</think>\n\n{w()}"}
    return Conversation(messages=(_user(w()), answer(), _user(w()), answer(), _user(w()), _answer([part])))


def _split_parts(w: Words) -> Conversation:
    """Parts with what templates split a text at, and with quotes that Python and JSON write in ways of their own."""

    def answer(before: str) -> dict[str, Any]:
        first = {"type": "text", "text": f'{before}It\'s {w()}\n"</think>" {w()}'}
        return _answer([first, {"type": "thinking", "thinking": f"</think>{w()}'"}, *_text(w)], reasoning_content=w())

    asked = _user([{"type": "text", "text": f"</think>{w()}<think>{w()}"}, *_text(w, 1)])
    call = _answer(_text(w), tool_calls=[_call(w, "abcdefgh1", {"x": f"</think>{w()}"})])
    result = _result([{"type": "text", "text": f"<think>{w()}</think>{w()}"}], "abcdefgh1")
    return Conversation(messages=(asked, answer(""), _user(w()), call, result, answer("<think>")))


def _strings(w: Words) -> Conversation:
    def answer() -> dict[str, Any]:
        return _answer([w(), f"<think>{w()}</think>{w()}"])

    return Conversation(messages=(_user([w(), f"</think>{w()}"]), answer(), _user([w()]), answer()))


def _other_fields(w: Words) -> Conversation:
    heard = {"id": "audio_1", "transcript": w(), "expires_at": 17}
    return Conversation(
        messages=(
            _user(w(), note=w()), _answer(w(), audio=heard, refusal=w(), meta={"source": w(), "id": "i"}),
            _user(w()), _answer("", function_call={"name": w(), "arguments": f'{{"x": "{w()}"}}'}),
        )
    )  # fmt: skip


def _other_roles(w: Words) -> Conversation:
    roles = ("developer", "human_1", "tool_call", "tool_response", "critic", "function-call")
    middle = tuple({"role": role, "content": w()} for role in roles)
    documents = ({"title": w(), "text": "Body."}, {"title": w(), "text": "Body."})
    return Conversation(messages=(_user(w()), *middle, _answer(w())), documents=documents)


SHAPES: Final = {
    "plain": _plain, "parts": _parts, "two_calls": _two_calls, "text_and_call": _text_and_call,
    "text_arguments": _text_arguments, "reasoning": _reasoning, "other_reasoning": _other_reasoning,
    "thinking_parts": _thinking_parts, "anthropic": _anthropic, "thinking_in_content": _thinking_in_content,
    "interleaved": _interleaved, "split_parts": _split_parts, "strings": _strings,
    "other_fields": _other_fields, "other_roles": _other_roles,
}  # fmt: skip


def words_of(conversation: Conversation) -> Iterator[tuple[str, int | None, Path]]:
    """Every word, with the turn (None beside the messages) and the path of the value that holds it."""
    for turn, message in enumerate(conversation.messages):
        yield from _words(message, turn, ())
    for name, given in (("tools", conversation.tools), ("documents", conversation.documents)):
        for index, value in enumerate(given or ()):
            yield from _words(value, None, (name, index))


def _words(value: Any, turn: int | None, path: Path) -> Iterator[tuple[str, int | None, Path]]:
    if isinstance(value, str):
        at = value.find("Qz")
        while at >= 0:
            yield value[at : at + 6], turn, path
            at = value.find("Qz", at + 1)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _words(item, turn, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _words(item, turn, (*path, index))


def problems(conversation: Conversation, chat: RenderedChat) -> list[str]:
    """Words that are neither in the text nor reported as lost, and words that are both."""
    found = []
    for word, turn, path in words_of(conversation):
        over = [u for u in chat.unrendered if u.turn == turn and path[: len(u.path)] == u.path]
        # Of a text that is written in part, the other part is reported: its first piece of each kind.
        whole = str(field_value(conversation.messages[turn], path)) if turn is not None else ""
        over = [u for u in over if u.cut is None or word not in chat.text or word in whole[slice(*u.cut)]]
        reported = [u.field for u in over]
        where = f"{'.'.join(map(str, path))} of {turn}"
        if word in chat.text and reported:
            found.append(f"written, and reported as lost: {where} ({reported})")
        elif word not in chat.text and not reported and not any(path == wrong.path for wrong in chat.miswritten):
            found.append(f"neither written nor reported: {where}")
    return found


def piece_case(number: int) -> tuple[str, str | None]:
    """One template with one shape: what it came to, and what is wrong."""
    names = sorted(installed_templates())
    name, shape = names[number // len(SHAPES) % len(names)], list(SHAPES)[number % len(SHAPES)]
    conversation = SHAPES[shape](Words())
    try:
        template = ChatTemplate(installed_templates()[name], special_tokens=SPECIAL_TOKENS, name=name)
        chat = template.render(conversation)
    except TemplateError:
        return "refused", None
    wrong = problems(conversation, chat)
    return ("complete" if not chat.unrendered else "lossy"), f"{name} {shape}: {wrong[0]}" if wrong else None
