"""Traps of a template, each found by rendering small conversations, never by its name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from policy_engine.chat.segments import RenderedChat
from scripts.models.facts import code, listed, text_of, unique
from scripts.models.rendering import ANSWER, ASK, BYE, CALL, RESULT, SYSTEM, THANKS, Message, Rendering, parts_of

Look = Callable[[Rendering], "str | None"]


@dataclass(frozen=True, kw_only=True)
class Trap:
    """A trap: `title` is the symptom, with `{}` for the model; `look` gives the evidence."""

    key: str
    title: str
    why: str
    do: str
    look: Look


@functools.cache
def found_in(template: Rendering) -> Mapping[str, str]:
    """Evidence for each trap that a template has, by the trap's key."""
    seen = {trap.key: trap.look(template) for trap in TRAPS}
    return {key: evidence for key, evidence in seen.items() if evidence}


def bare(message: Message, **fields: Any) -> Message:
    """A message without its thinking, and with other fields."""
    return {**{name: value for name, value in message.items() if name != "reasoning_content"}, **fields}


def _chat(template: Rendering, *messages: Message, prompt: bool = False) -> RenderedChat | None:
    chat = template.chat(messages, prompt=prompt)
    return chat if isinstance(chat, RenderedChat) else None


def _no_end(template: Rendering) -> str | None:
    chat = _chat(template, ASK, bare(ANSWER), THANKS, bare(BYE))
    if chat is None:
        return None
    parts = parts_of(chat)
    first, last = (text_of(parts, turn, "eot") for turn in (1, 3))
    if not first and not last:
        return "No answer has an end marker."
    if not last:
        return f"The last answer has no end marker. An earlier one ends with {code(first)}, which opens the next turn."
    return None


def _other_end(template: Rendering) -> str | None:
    ends = []
    for messages in ((ASK, bare(ANSWER), THANKS, bare(BYE)), (ASK, bare(CALL), RESULT, bare(ANSWER))):
        chat = _chat(template, *messages)
        if chat is None or chat.unrendered:
            continue
        ends += [text_of(parts_of(chat), at, "eot") for at, m in enumerate(messages) if m["role"] == "assistant"]
    texts = unique(iter(ends))
    return f"Answers end with {listed(texts)}, by what follows them." if len(texts) > 1 else None


def _eos(template: Rendering) -> str | None:
    chat = _chat(template, ASK, bare(ANSWER), THANKS)
    end = text_of(parts_of(chat), 1, "eot") if chat else ""
    if not end or not template.variant.eos_apart:
        return None
    return f"Answers end with {code(end)}. The tokenizer's `eos_token` is {code(template.variant.eos)}."


def _empty_thinking(template: Rendering) -> str | None:
    chat = _chat(template, ASK, bare(ANSWER), THANKS, bare(BYE))
    if chat is None:
        return None
    parts = parts_of(chat)
    where = [name for turn, name in ((1, "an earlier answer"), (3, "the last answer"))
             if text_of(parts, turn, "empty_reasoning")]  # fmt: skip
    if not where:
        return None
    text = listed(unique(text_of(parts, turn, "empty_reasoning") for turn in (1, 3)))
    return f"{text} is written into {' and '.join(where)} that has no thinking in the data."


def _prefilled(template: Rendering) -> str | None:
    prompt = template.generation_prompt
    opener = next((o for o in ("<think>", "<|START_THINKING|>", "<|channel>thought") if o in prompt), None)
    if opener is None:
        return None
    closed = next((c for c in ("</think>", "<|END_THINKING|>", "<channel|>") if c in prompt), None)
    what = f"opens the thinking and closes it ({code(closed)})" if closed else "opens the thinking"
    return f"The generation prompt is {code(prompt)}: it {what}."


def _before_text(opening: str, content: str) -> str:
    """The opening of an answer without the beginning of its text, where that is in it."""
    starts = (at for at in range(len(opening) - 1) if content.startswith(opening[at:]))
    at = next(starts, None)
    return opening if at is None else f"{opening[:at]}…"


def _prompt_differs(template: Rendering) -> str | None:
    prompt = template.generation_prompt
    if not prompt:
        return None
    told = []
    for answer, name in ((ANSWER, "with thinking"), (bare(ANSWER), "without thinking")):
        whole, asked = template.text([*template.asked, answer]), template.text(template.asked)
        if whole is None or asked is None:
            continue
        if not whole.startswith(asked + prompt):
            opening = whole[len(asked) : len(asked) + len(prompt)] if whole.startswith(asked) else ""
            told.append((name, _before_text(opening, str(answer["content"]))))
    if not told:
        return None
    cases = "; ".join(f"an answer {name} opens with {code(text)}" for name, text in told if text)
    return f"The generation prompt is {code(prompt)}. In the training text {cases}." if cases else None


def _first_token(template: Rendering) -> str | None:
    prompt = template.generation_prompt
    chat = _chat(template, *template.asked, bare(ANSWER))
    header = text_of(parts_of(chat), len(template.asked), "header") if chat else ""
    # Line breaks are tokens of their own more often than not; a blank seldom is.
    return f"The generation prompt is {code(prompt)}." if prompt.endswith(" ") and header.endswith(" ") else None


def _thinking_lost(template: Rendering) -> str | None:
    chat = _chat(template, ASK, ANSWER, THANKS, BYE)
    lost = {lost.turn for lost in chat.unrendered if lost.kind == "reasoning"} if chat else set()
    return "No `reasoning_content` reaches the text." if lost == {1, 3} else None


def _thinking_dropped(template: Rendering) -> str | None:
    chat = _chat(template, ASK, ANSWER, THANKS, BYE)
    lost = {lost.turn for lost in chat.unrendered if lost.kind == "reasoning"} if chat else set()
    return "Of two answers with `reasoning_content`, only the last one keeps it." if lost == {1} else None


def _tags_dropped(template: Rendering) -> str | None:
    first, last = "<think>\nSo it rains.\n</think>\n\nIt is raining.", "<think>\nI am polite.\n</think>\n\nWelcome."
    text = template.text([ASK, bare(ANSWER, content=first), THANKS, bare(BYE, content=last)])
    if text is None or "So it rains." in text:
        return None
    if "I am polite." in text:
        return "`<think>…</think>` inside `content` is cut from earlier answers and kept in the last one."
    return "`<think>…</think>` inside `content` is cut from every answer."


def _history(template: Rendering) -> str | None:
    chat = template.shown[1]
    whole, messages = chat.text, chat.messages
    for count in range(1, len(messages)):
        part = template.text(messages[:count])
        if messages[count - 1]["role"] != "assistant" or part is None or whole.startswith(part):
            continue
        at = next((i for i, (a, b) in enumerate(zip(part, whole, strict=False)) if a != b), len(whole))
        at = max(at - 12, *(part.rfind(mark, 0, at) for mark in "<[\n"))
        return (
            f"Where answer {sum(m['role'] == 'assistant' for m in messages[:count])} is the last message the text has "
            f"{code(part[at : at + 40])}; once the conversation goes on it has {code(whole[at : at + 40])} there."
        )
    return None


def _double_bos(template: Rendering) -> str | None:
    parts = parts_of(template.shown[1])
    written = "".join(part.text for part in parts[:1] if part.part == "bos")
    return f"The template itself writes {code(written)}." if written else None


def _unwritten(template: Rendering) -> str | None:
    chat = _chat(template, ASK, bare(ANSWER))
    written = "".join(p.text for p in parts_of(chat) if p.part.startswith("preamble")) if chat else ""
    return f"Without a system prompt the text begins with {code(written)}." if written.strip() else None


def _day(template: Rendering) -> str | None:
    chat = _chat(template, SYSTEM, ASK, bare(ANSWER)) or _chat(template, ASK, bare(ANSWER))
    return "The text contains the day on which it is rendered." if chat and "2026" in chat.text else None


def _system_inside(template: Rendering) -> str | None:
    chat = _chat(template, SYSTEM, ASK, bare(ANSWER))
    if chat is None:
        return None
    parts = parts_of(chat)
    at = next((at for at, part in enumerate(parts) if part.turn == 0 and part.part == "text"), None)
    if at is None or not any(part.turn == 1 and part.part == "header" for part in parts[:at]):
        return None
    return "The system prompt is text inside the first question's turn."


def _lost_system(template: Rendering) -> str | None:
    alone = _chat(template, SYSTEM, ASK, bare(ANSWER))
    if alone is None or all(lost.turn != 0 for lost in alone.unrendered):
        return None
    asked = template.text([SYSTEM, ASK])
    when = ", though it does where the conversation ends with the question" if asked and "Be brief." in asked else ""
    return f"The system prompt does not reach the training text{when}."


def _calls_lost(template: Rendering) -> str | None:
    chat = _chat(template, ASK, bare(CALL), RESULT, bare(ANSWER))
    if chat is None:
        return None
    turns = {lost.turn for lost in chat.unrendered if lost.path[-1:] != ("name",)}
    lost = [name for turn, name in ((1, "`tool_calls`"), (2, "the tool's result")) if turn in turns]
    verb = "do" if len(lost) > 1 or lost == ["`tool_calls`"] else "does"
    said = " and ".join(lost)
    return f"{said[0].upper()}{said[1:]} {verb} not reach the text." if lost else None


def _content_lost(template: Rendering) -> str | None:
    chat = _chat(template, ASK, bare(CALL, content="I will look."), RESULT, bare(ANSWER))
    if chat is None or "I will look." in chat.text or _calls_lost(template) is not None:
        return None
    return "Of an answer with text and a call only the call reaches the text."


def _calls_in_content(template: Rendering) -> str | None:
    chat = _chat(template, ASK, bare(CALL), RESULT, bare(ANSWER))
    # The tag that public data has in its contents.
    if chat is None or not text_of(parts_of(chat), 1, "tool_call").lstrip().startswith("<tool_call>"):
        return None
    return (
        "`tool_calls` are written between `<tool_call>` and `</tool_call>`, and so are calls in the content of public "
        "data."
    )


def _result_as_user(template: Rendering) -> str | None:
    chat = _chat(template, ASK, bare(CALL), RESULT, bare(ANSWER))
    if chat is None or chat.unrendered:
        return None
    parts = parts_of(chat)
    user, result = (text_of(parts, turn, "header").strip() for turn in (0, 2))
    return f"A tool's result opens with {code(result)}." if user and result.startswith(user) else None


def _arguments(template: Rendering) -> str | None:
    (call,) = CALL["tool_calls"]
    texts = []
    for arguments in ({"city": "Oslo"}, '{"city": "Oslo"}'):
        given = {**call, "function": {"name": "weather", "arguments": arguments}}
        texts.append(template.text([ASK, bare(CALL, tool_calls=[given]), RESULT, bare(ANSWER)]))
    as_object, as_string = texts
    if as_object == as_string or (as_object is None and as_string is None):
        return None
    if as_string is None:
        return "Arguments given as a JSON string are refused, an object is taken."
    if as_object is None:
        return "Arguments given as an object are refused, a JSON string is taken."
    return "Arguments given as a JSON string are written otherwise than the same ones given as an object."


def _null(template: Rendering) -> str | None:
    text = template.text([ASK, bare(CALL, content=None), RESULT, bare(ANSWER)])
    if text is None:
        taken = template.text([ASK, bare(CALL, content=""), RESULT, bare(ANSWER)])
        return None if taken is None else "`content: null` beside a call is refused, an empty string is taken."
    return "`content: null` beside a call is written as `None`." if "None" in text else None


def _trimmed(template: Rendering) -> str | None:
    text = template.text([ASK, bare(ANSWER, content="  two blanks around  "), THANKS, bare(BYE)])
    if text is None or "  two blanks around  " in text:
        return None
    return "Blanks at the ends of `content` are cut."


def _refusals(template: Rendering) -> str | None:
    shapes = {
        "a system prompt": (SYSTEM, ASK, bare(ANSWER)),
        "two questions in a row": (ASK, THANKS, bare(ANSWER)),
        "an answer first": (bare(BYE), ASK, bare(ANSWER)),
        "two answers in a row": (ASK, bare(ANSWER), bare(BYE)),
        "a tool's result": (ASK, bare(CALL), RESULT, bare(ANSWER)),
    }
    refused = {name: template.chat(messages) for name, messages in shapes.items()}
    told = [f"{name} (“{' '.join(said.split())}”)" for name, said in refused.items() if isinstance(said, str)]
    return f"Refused: {'; '.join(told)}." if told else None


_LOOKS: Final[Mapping[str, Look]] = {
    "no end marker": _no_end,
    "several end markers": _other_end,
    "another eos token": _eos,
    "empty thinking": _empty_thinking,
    "opened thinking": _prefilled,
    "another prompt": _prompt_differs,
    "first token": _first_token,
    "lost thinking": _thinking_lost,
    "dropped thinking": _thinking_dropped,
    "cut tags": _tags_dropped,
    "rewritten history": _history,
    "two begin markers": _double_bos,
    "unwritten prompt": _unwritten,
    "day": _day,
    "system inside": _system_inside,
    "lost system": _lost_system,
    "lost calls": _calls_lost,
    "lost content": _content_lost,
    "calls in content": _calls_in_content,
    "result as user": _result_as_user,
    "arguments": _arguments,
    "null content": _null,
    "trimmed": _trimmed,
    "refusals": _refusals,
}
"""Finders of each trap, the costly ones first."""


def _read() -> tuple[Trap, ...]:
    texts = yaml.safe_load(Path(__file__).with_name("traps.yaml").read_text(encoding="utf-8"))
    return tuple(Trap(key=key, look=look, **texts[key]) for key, look in _LOOKS.items())


TRAPS: Final = _read()
"""Every trap that is looked for. Their texts are in `traps.yaml`."""
