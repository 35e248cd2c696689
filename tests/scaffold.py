"""Whose scaffold is it: every installed template, looked through for text that is not where it belongs.

    python -m tests.scaffold                       # all templates and shapes, about four minutes
    python -m tests.scaffold --templates GLM       # those whose name contains it
    python -m tests.scaffold --kinds late ends     # some of the checks

Kinds of findings:

`late`    scaffold of an earlier turn, or of no message, after the header of a later turn and before that turn's data
`ends`    an `eot` that is no known end: it is not in the text both when the turn is the last and when each kind of
          turn follows, it is not the opener of a `user` or `tool` turn after a turn that writes no end of its own,
          and no model is known to stop at it
`opener`  an `eot` of the model's with the marker that opens its own turns, or an `eot` before its turn begins
`header`  text before an answer that the generation prompt supplies and that is not `header`; what a template appends to
          a conversation that a user ended, asked for or not, is such a prompt
`names`   a name or role that labels a turn and is trained as its body

Templates where a finding is right are listed in `tests/fixtures/templates/scaffold.txt` with the reason. The command
prints the others and ends with 1 if there is one.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from policy_engine.chat.segments import RenderedChat, Segment
from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import TemplateError
from policy_engine.core.source import common_prefix
from policy_engine.core.vocabulary import BODY
from policy_engine.data.conversation import Conversation
from policy_engine.testing.templates import installed_templates
from tests.support.sentinels import SENTINELS, WORD, compiled

LISTED = Path(__file__).parent / "fixtures" / "templates" / "scaffold.txt"


def _user(content: str, **extra: Any) -> dict[str, Any]:
    return {"role": "user", "content": content, **extra}


def _answer(content: str, **extra: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, **extra}


_SYSTEM = {"role": "system", "content": "Qsyst0Z"}
_CALL = {"id": "callid001", "type": "function", "function": {"name": "lookup_it", "arguments": {"city": "Qargs1Z"}}}
_RESULT = {"role": "tool", "name": "lookup_it", "tool_call_id": "callid001", "content": "Qtool2Z"}
_TOOLS = SENTINELS["tools"].tools

SHAPES: dict[str, Conversation] = {
    **SENTINELS,
    "system_and_tools": Conversation(
        messages=(_SYSTEM, _user("Quser1Z"), _answer("Qasst2Z"), _user("Quser3Z"), _answer("Qasst4Z")), tools=_TOOLS
    ),
    "named": Conversation(
        messages=(_user("Quser0Z", name="uma"), _answer("Qasst1Z", name="bob"), _user("Quser2Z"), _answer("Qasst3Z"))
    ),
    "system_later": Conversation(
        messages=(_user("Quser0Z"), _answer("Qasst1Z"), {"role": "system", "content": "Qsyst2Z"}, _user("Quser3Z"),
                  _answer("Qasst4Z"))
    ),
    "no_think": Conversation(
        messages=({"role": "system", "content": "/no_think"}, _user("Quser1Z"), _answer("Qasst2Z"), _user("Quser3Z"),
                  _answer("Qasst4Z"))
    ),
    "empty": Conversation(
        messages=(_user("Quser0Z"), _answer("Qasst1Z"), _user(""), _answer(""), _user("Quser4Z"), _answer("Qasst5Z"))
    ),
    "call_last": Conversation(
        messages=(_user("Quser0Z"), _answer("", tool_calls=[_CALL])), tools=_TOOLS
    ),
    "call_then_user": Conversation(
        messages=(_user("Quser0Z"), _answer("", tool_calls=[_CALL]), _RESULT, _user("Quser3Z"), _answer("Qasst4Z")),
        tools=_TOOLS,
    ),
}  # fmt: skip

STOPS = frozenset(
    {"<|eot_id|>", "<|eom_id|>", "<|im_end|>", "</s>", "<|return|>", "<|call|>", "<turn|>", "<|tool_response>"}
)
"""Markers that `generation_config.json` of published models lists as stop tokens, and that not every template shows."""

Finding = tuple[str, str]
"""Kind, and the sentence."""


def find(template: ChatTemplate, conversation: Conversation, kinds: frozenset[str]) -> Iterator[Finding]:
    """Findings in one rendering; nothing where the template raises."""
    try:
        chat = template.render(conversation)
    except TemplateError:
        return
    for kind in sorted(kinds):
        for sentence in CHECKS[kind](template, conversation, chat):
            yield kind, sentence


def _is_model(chat: RenderedChat, turn: int | None) -> bool:
    return turn is not None and chat.messages[turn]["role"] == "assistant"


def late(template: ChatTemplate, conversation: Conversation, chat: RenderedChat) -> Iterator[str]:
    """Scaffold that is not of the turn whose header or data is before it, nor of a later one."""
    written: int | None = None
    for at, s in enumerate(chat.segments):
        if s.turn is not None and (s.part == "header" or (s.from_data and s.part in BODY)):
            written = s.turn
        elif written is not None and not s.from_data and chat.segment_text(s).strip() and s.turn != written:
            if any(o.turn == s.turn and o.from_data and o.part in BODY for o in chat.segments[at:]):
                continue  # that turn goes on
            is_inside = _is_model(chat, written) and any(
                o.turn == written and o.from_data and o.part in BODY for o in chat.segments[at:]
            )
            if (s.turn is not None and s.turn < written) or (s.turn is None and is_inside):
                yield f"{_shown(chat, s)} is {s.part} of {s.turn}, after text of message {written}"


def _tail(
    template: ChatTemplate, conversation: Conversation, turn: int, more: tuple[Mapping[str, Any], ...]
) -> str | None:
    """The text after the data of a turn, with `more` after that; None where the template raises."""
    for listed in (False, True):
        added = tuple({**m, "content": [{"type": "text", "text": m["content"]}]} if listed else m for m in more)
        part = dataclasses.replace(conversation, messages=(*conversation.messages[: turn + 1], *added))
        try:
            chat = template.render(part)
        except TemplateError:
            continue
        data = [s for s in chat.segments if s.turn == turn and s.from_data and s.part in BODY]
        return chat.text[data[-1].end :] if data else None
    return None


def ends(template: ChatTemplate, conversation: Conversation, chat: RenderedChat) -> Iterator[str]:
    """Ends of turns that are no known end."""
    profile = template.profile(tools=bool(conversation.tools))
    openers = profile.opening("user") + profile.prompt("user")
    for turn, _, text in _ends(chat):
        message = chat.messages[turn]
        if text in (*STOPS, *template.special_tokens.values()) and _is_model(chat, turn):
            continue
        follows: list[tuple[Mapping[str, Any], ...]] = [(), (_user("Quser8Z"),), (_answer("Qasst8Z"),)]
        if message.get("tool_calls"):
            follows = [(), (dict(_RESULT, content="Qtool8Z"),), (_user("Quser8Z"),)]
        tails = [t for more in follows if (t := _tail(template, conversation, turn, more)) is not None]
        # An opener ends a model's turn at most.
        if not _is_model(chat, turn) and text in openers and text != profile.marker:
            yield f"{text!r} ends message {turn} ({message['role']}) and opens the model's"
        elif _is_model(chat, turn) and text in profile.opener_ends:
            continue
        elif sum(_has(tail, text) for tail in tails) < min(2, len(tails)):
            yield f"{text!r} ends message {turn} ({message['role']}): {[t[:40] for t in tails]}"


def opener(template: ChatTemplate, conversation: Conversation, chat: RenderedChat) -> Iterator[str]:
    """Ends of turns that open turns, or that are before the turn that they would end."""
    markers = template._markers
    begin = markers.leading_bos(chat.text)
    first = chat.text[begin : next((s.start for s in chat.segments if s.from_data), 0)].lstrip()
    spans = markers.spans(first)
    # The marker that a text begins with opens a turn; it opens the model's too where it is before an answer.
    opens = first[: spans[0][1]] if spans and spans[0][0] == 0 else ""
    shared = bool(opens) and any(opens in chat.text[low:high] for low, high in _before_answers(chat))
    for turn, start, text in _ends(chat):
        places = [s.start for s in chat.segments if s.turn == turn and s.part in ("header", *BODY)]
        if places and min(places) > start:
            yield f"{text!r} ends message {turn} and is before it"
        elif shared and opens in text and _is_model(chat, turn):
            yield f"{text!r} ends message {turn}, and {opens!r} opens turns"


def _before_answers(chat: RenderedChat) -> Iterator[tuple[int, int]]:
    """The place of the scaffold between an answer's first data and the data before it."""
    seen, last = -1, 0
    for s in chat.segments:
        if s.from_data and s.part in BODY and s.turn is not None:
            if s.turn > seen and _is_model(chat, s.turn) and last:
                yield last, s.start
            seen, last = max(seen, s.turn), s.end


def _ends(chat: RenderedChat) -> Iterator[tuple[int, int, str]]:
    """The ends of turns, each with its place and text."""
    found: list[tuple[int, int, int]] = []
    for s in chat.segments:
        if s.part != "eot" or s.turn is None:
            continue
        if found and found[-1][0] == s.turn and found[-1][2] == s.start:
            found[-1] = (s.turn, found[-1][1], s.end)
        else:
            found.append((s.turn, s.start, s.end))
    for turn, start, end in found:
        yield turn, start, chat.text[start:end]


def _has(tail: str, text: str) -> bool:
    at, word = tail.find(text), WORD.search(tail)
    return at >= 0 and (word is None or at < word.start())


def header(template: ChatTemplate, conversation: Conversation, chat: RenderedChat) -> Iterator[str]:
    """Scaffold of an answer that the generation prompt supplies and that is not its header."""
    for turn in range(1, len(chat.messages)):
        if not _is_model(chat, turn):
            continue
        before = dataclasses.replace(conversation, messages=conversation.messages[:turn])
        try:
            plain = template.render_plain(before)
            prompt = template.render_plain(before, add_generation_prompt=True)
        except TemplateError:
            continue
        data = [s for s in chat.segments if s.turn == turn and s.from_data and s.part in BODY]
        start = _data_end(chat, turn)
        if not data or not prompt.startswith(plain):
            continue
        for low, high in _supplied(template, chat, (start, data[0].start), plain, prompt):
            for s in chat.segments:
                if s.turn == turn and s.start < high and s.end > low and s.part != "header":
                    shown = chat.text[max(s.start, low) : min(s.end, high)]
                    yield f"{shown!r} of message {turn} is {s.part}, in the prompt {prompt[-60:]!r}"


def _data_end(chat: RenderedChat, turn: int) -> int:
    """The end of the data of the turns before `turn`."""
    return max(
        (s.end for s in chat.segments if s.turn is not None and s.turn < turn and s.from_data and s.part in BODY),
        default=0,
    )


def _supplied(
    template: ChatTemplate, chat: RenderedChat, gap: tuple[int, int], plain: str, prompt: str
) -> Iterator[tuple[int, int]]:
    """Places in a gap between data that the generation prompt supplies."""
    start, end = gap
    added = prompt[len(plain) :]
    # The prompt whole, in the scaffold between the data before and the turn's own.
    if added and (at := chat.text.rfind(added, start, end)) >= 0:
        yield at, at + len(added)
    # What follows the data before, as far as an answer has it too: a template may append an opener unasked.
    if prompt.startswith(chat.text[:start]):
        stop = template._markers.back_to_boundary(
            chat.text[start:end], common_prefix(chat.text[start:end], prompt[start:])
        )
        if chat.text[start : start + stop].strip():  # blanks alone are alike by chance
            yield start, start + stop


def names(template: ChatTemplate, conversation: Conversation, chat: RenderedChat) -> Iterator[str]:
    """Names and roles in the body of a model's turn."""
    for s in chat.segments:
        if _is_model(chat, s.turn) and s.part in BODY and s.field is not None and s.field[0] in ("name", "role"):
            yield f"{_shown(chat, s)} is {s.part} of message {s.turn}"


CHECKS = {"late": late, "ends": ends, "opener": opener, "header": header, "names": names}


def _shown(chat: RenderedChat, s: Segment) -> str:
    return repr(chat.segment_text(s)[:60])


def listed() -> dict[tuple[str, str], str]:
    """Reason, by template and kind, of findings that are right."""
    found = {}
    if LISTED.exists():
        for line in LISTED.read_text(encoding="utf-8").splitlines():
            if line and not line.startswith("#"):
                name, kind, reason = line.split(None, 2)
                found[name, kind] = reason
    return found


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.scaffold", description=__doc__.split("\n")[0])
    parser.add_argument("--templates", default="", help="part of the names to look at")
    parser.add_argument("--kinds", nargs="*", choices=sorted(CHECKS), default=sorted(CHECKS))
    options = parser.parse_args(arguments)
    known = listed()
    used: set[tuple[str, str]] = set()
    found: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    rendered = 0
    for name in installed_templates():
        if options.templates not in name:
            continue
        for shape, conversation in SHAPES.items():
            rendered += 1
            for kind, sentence in find(compiled(name), conversation, frozenset(options.kinds)):
                found[kind, name][sentence].append(shape)
    counts: Counter[str] = Counter()
    for (kind, name), sentences in sorted(found.items()):
        if (name, kind) in known:
            used.add((name, kind))
            continue
        counts[kind] += 1
        print(f"{kind}: {name}")
        for sentence, shapes in list(sentences.items())[:3]:
            print(f"    {sentence}  [{', '.join(shapes)}]")
    print(f"{rendered} renderings, {len(used)} listed, templates with findings: {dict(counts)}")
    return 1 if counts else 0


if __name__ == "__main__":
    sys.exit(main())
