"""Calls in the content of answers, in the markup that the template writes around calls.

    content   <tool_call>⏎{"name": "find", "arguments": {"q": "tea"}}⏎</tool_call>     `text`, as any content is
    calls     [{"function": {"name": "find", "arguments": {"q": "tea"}}}]             `tool_call`, with the same text

A policy that says `tool_call` means both and selects the second only.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Final

from policy_engine.chat.label.learn import TOOL
from policy_engine.chat.label.markers import Markers, closing_tag
from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import or_none
from policy_engine.core.vocabulary import CALL_FIELDS, parts_of
from policy_engine.core.wording import counted
from policy_engine.data.conversation import Conversation
from policy_engine.lang.ast import leaves
from policy_engine.lang.checked import CheckedStatement, CheckedTarget, Spans, atoms_of
from policy_engine.mask.evidence.by_text import between, by_text
from policy_engine.rules.program import Program

KNOWN: Final = (
    ("<tool_call>", "</tool_call>"),
    ("[TOOL_CALLS]", ""),
    ("<|python_tag|>", ""),
    ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
)
"""Markup around calls in public data, which a template may write otherwise: where it opens and closes."""
_PARTS: Final = parts_of("tool_call") or frozenset()
_SHOWN: Final = 8
"""Rows that are named; the others are counted."""


class CallsInText:
    """Finds rows in whose answers the content spells the markup of calls."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._last: int | None = None
        self._named = 0

    @functools.cached_property
    def _markup(self) -> tuple[tuple[str, str], ...]:
        # On first use: a run whose rows are all refused has nothing to learn. What the template writes goes first.
        learned = call_markup(self._tokenizer)
        return KNOWN if learned is None else (learned, *(pair for pair in KNOWN if pair[0] != learned[0]))

    def look(
        self, messages: Sequence[Mapping[str, Any]], seen: Counter[tuple[str, ...]], *, number: int | None = None
    ) -> None:
        """Adds to `seen` that a row has calls in its text, and in which markup.

        `number` is the row's, from 1; samples of one row come one after the other and count once. Rows without a
        number all count, and are not named.
        """
        if number is not None and number == self._last:
            return
        for message in messages:
            if message.get("role") != "assistant":
                continue
            for text in _texts(message.get("content")):
                for opening, closing in self._markup:  # no generator: this runs for each message
                    # One character is found in a tenth of the time that several take.
                    if opening[0] in text and opening in text:
                        self._last = number
                        seen["called", opening, closing] += 1
                        if number is not None and self._named < _SHOWN:
                            self._named += 1
                            seen["called in", opening, str(number)] += 1
                        return


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list | tuple):
        yield from (part["text"] for part in content if isinstance(part, Mapping) and isinstance(part.get("text"), str))


def call_markup(tokenizer: ChatTokenizer) -> tuple[str, str] | None:
    """The markers that a template opens and closes calls with.

    The second is empty where no marker closes them. None for a template that writes no calls, or writes them without a
    marker of their own (Llama 3: bare JSON).

    >>> from policy_engine.chat.loading import load_tokenizer
    >>> call_markup(load_tokenizer("builtin"))
    ('<tool_call>', '</tool_call>')
    """
    markers = Markers.of(map(str, tokenizer.tokenizer.added_tokens_decoder.values()), bos=None, eos=None)
    for arguments, content in product(({"key": "vv"}, '{"key": "vv"}'), ("", "aa")):
        # Nine letters and digits, which Mistral's templates ask of an id.
        call = {"id": "abcdefgh1", "type": "function", "function": {"name": "lookup", "arguments": arguments}}
        messages: tuple[dict[str, Any], ...] = (
            {"role": "user", "content": "ua"},
            {"role": "assistant", "content": content, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "abcdefgh1", "name": "lookup", "content": "rr"},
            {"role": "assistant", "content": "ab"},
        )
        chat = or_none(_rendered, tokenizer, Conversation(messages=messages, tools=(TOOL,)))
        if chat is not None and any(s.part in _PARTS for s in chat.segments):
            return _around(chat, markers)
    return None


def _rendered(tokenizer: ChatTokenizer, conversation: Conversation) -> RenderedChat:
    # The first conversations are rendered in other words too, and these are to be the data's.
    return tokenizer.template_for(conversation).render(conversation, in_other_words=False)


def _around(chat: RenderedChat, markers: Markers) -> tuple[str, str] | None:
    """The first marker of a call's framing before its data, and the last one behind it."""
    own = [s for s in chat.segments if s.part in _PARTS]
    data = [at for at, segment in enumerate(own) if segment.from_data]
    if not data:
        return None
    before, behind = ("".join(chat.text[s.start : s.end] for s in framing) for framing in _cut(own, data))
    # `<|channel|>` of Harmony opens any text of an answer: it says nothing of calls.
    others = {
        marker
        for segment in chat.segments
        if segment.turn is not None and segment.part not in _PARTS
        for marker in markers.texts(chat.text[segment.start : segment.end])
    }
    openings, closings = ([m for m in markers.texts(text) if m not in others] for text in (before, behind))
    if openings:
        # A tag of words closes with its own name, whatever is behind it.
        closing = closing_tag(openings[0])
        return openings[0], closing if closing in closings else next(reversed(closings), "")
    # `<function name="` is no marker by its shape, and opens calls all the same.
    opening = before.strip()
    return (opening, next(reversed(closings), "")) if opening.startswith("<") else None


def _cut(own: Sequence[Any], data: Sequence[int]) -> tuple[Sequence[Any], Sequence[Any]]:
    return own[: data[0]], own[data[-1] + 1 :]


def speaks_of_calls(program: Program) -> CheckedStatement | None:
    """The first statement that selects parts of calls, or else asks for calls.

    >>> from policy_engine.rules.compile import compile_text
    >>> speaks_of_calls(compile_text("train assistant; mask assistant.tool_call"))
    <CheckedRule <string>:1:18 `mask assistant.tool_call`>
    >>> speaks_of_calls(compile_text("train assistant"))
    """
    statements = program.policy.statements
    asking = (s for s in statements if s.condition is not None and any(map(_asks_for_calls, leaves(s.condition))))
    return next((s for s in statements if any(map(_selects_calls, s.targets))), None) or next(asking, None)


def _selects_calls(target: CheckedTarget) -> bool:
    return any(atom.parts <= _PARTS for atom in atoms_of(target))


def _asks_for_calls(leaf: Any) -> bool:
    return leaf.field.scope == "call" or leaf.field.path[0] in CALL_FIELDS


def written_calls(program: Program | None, seen: Counter[tuple[str, ...]]) -> Iterator[tuple[str, Diagnostic]]:
    """The findings of calls in text, by the markup that opens them.

    They are warnings where the policy speaks of calls, and remarks where there is no policy. A policy that has the
    markup in a regex knows of them.
    """
    statement = None if program is None else speaks_of_calls(program)
    if program is not None and statement is None:
        return
    patterns = "" if program is None else "".join(_patterns(program)).replace("\\", "")
    for fact, count in seen.items():
        if fact[0] != "called" or fact[1] in patterns:
            continue
        opening, closing = fact[1:]
        numbers = sorted(int(other[2]) for other in seen if other[:2] == ("called in", opening))[:_SHOWN]
        listed = ", ".join(f"{number}" for number in numbers) + (", …" if count > len(numbers) else "")
        which = f" ({'row' if count == 1 else 'rows'} {listed})" if numbers else ""
        yield (
            opening,
            Diagnostic(
                code="PE525",
                severity="info" if statement is None else "warning",
                message=f"answers of {counted(count, 'row')} have `{opening}` in their content{which}: a call that is "
                "written there is `text`, and `tool_call` leaves it out",
                help=_help(statement, opening, closing),
                span=None if statement is None else statement.span,
            ),
        )


def _help(statement: CheckedStatement | None, opening: str, closing: str) -> str:
    move = "write the calls as `tool_calls`"
    if statement is not None and not any(map(_selects_calls, statement.targets)):
        text = json.dumps(opening, ensure_ascii=False)
        return f"ask for them by their text (`message.content contains {text}`), or {move}"
    return f"select them by what they look like (`{_by_text(statement, opening, closing)}`), or {move}"


def _by_text(statement: CheckedStatement | None, opening: str, closing: str) -> str:
    regex = f"/{between(statement, opening, closing)}/s"
    return f"train {regex} in assistant.text" if statement is None else by_text(statement, _PARTS, regex)


def _patterns(program: Program) -> Iterator[str]:
    for statement in program.policy.statements:
        for target in statement.targets:
            if isinstance(target, Spans) and target.pattern is not None:
                yield target.pattern
