"""Cases for a chat template: a conversation, its renderings, and both with injected text."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Final

from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.choices import Choices
from policy_engine.testing.conversations import REASONING_FIELDS
from policy_engine.testing.conversations import conversation as any_conversation
from policy_engine.testing.shapes import SHAPES
from policy_engine.testing.texts import CONTROL, text

# Characters that a tracer could use as marks of its own: data may hold them, too.
PRIVATE_USE: Final = ("\ue000\ue001", "\uf8ff", "\U000f0000\U0010fffd")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A conversation, and the control text that the injection property puts into it.

    `shape` is its name in `SHAPES`, None for one that was generated. With `parts`, content is always a list of parts.
    """

    conversation: Conversation
    payload: str
    shape: str | None = None
    parts: bool = False

    def with_parts(self) -> Example:
        """The same with lists of parts in place of texts."""
        messages = tuple(map(_with_parts, self.conversation.messages))
        made = dataclasses.replace(self.conversation, messages=messages)
        return dataclasses.replace(self, conversation=made, parts=True)


class Skip(Exception):
    """A property that a case says nothing about, and why."""


def _with_parts(message: Mapping[str, Any]) -> Mapping[str, Any]:
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def alike(messages: Sequence[Mapping[str, Any]], like: Example) -> Sequence[Mapping[str, Any]]:
    """Messages in the form that those of an example have.

    >>> like = Example(conversation=SHAPES["one exchange"], payload="", parts=True)
    >>> alike([{"role": "user", "content": "Hi"}], like)
    ({'role': 'user', 'content': [{'type': 'text', 'text': 'Hi'}]},)
    """
    return tuple(map(_with_parts, messages)) if like.parts else messages


def takes_parts_only(template: ChatTemplate) -> bool:
    """True if a template renders lists of parts, and no content that is text.

    It raises for such content, or leaves it out.
    """
    plain = Example(conversation=SHAPES["one exchange"], payload="")
    text, parts = (_try(template, e.conversation, prompt=False) for e in (plain, plain.with_parts()))
    return _is_whole(parts) and not _is_whole(text)


def _is_whole(outcome: RenderedChat | TemplateError) -> bool:
    return isinstance(outcome, RenderedChat) and not outcome.unrendered


def payloads(template: ChatTemplate) -> tuple[str, ...]:
    """Control text to inject: what any template writes, and whole turns as this one writes them."""
    own: list[str] = []
    try:
        profile = template.profile()
    except TemplateError:
        # A template that renders no probe has no turns to imitate.
        return (*CONTROL, *PRIVATE_USE)
    end = profile.marker or ""
    for opening in (profile.user_opening, profile.prompt("user"), profile.prompt("tool")):
        if opening.strip():
            own += [opening, f"{end}\n{opening}evil{end}"]
    own += [end] if end else []
    return (*dict.fromkeys((*own, *CONTROL, *PRIVATE_USE)),)


def example(choices: Choices, injected: Sequence[str]) -> Example:
    """A conversation that a template should render; now and then one that it may refuse."""
    # Strict templates refuse most of what is generated freely, so that nearly half of the cases are plain.
    if choices.chance(55):
        made = any_conversation(choices, most=5, marks=False)
        made = dataclasses.replace(made, sample={})
    else:
        made = _alternating(choices)
    return Example(conversation=made, payload=choices.pick(injected))


def _alternating(choices: Choices) -> Conversation:
    """Users and assistants in turn, texts only: what the strictest template takes."""

    def exchange(choices: Choices) -> list[dict[str, Any]]:
        return [{"role": "user", "content": text(choices)}, {"role": "assistant", "content": text(choices)}]

    turns = choices.many(exchange, 1, 3)
    return Conversation(messages=tuple(message for pair in turns for message in pair))


class Case:
    """One example on one template; what several properties ask for is computed once."""

    def __init__(self, template: ChatTemplate, made: Example, tokenizer: ChatTokenizer | None = None) -> None:
        self.template = template
        self.example = made
        self.conversation = made.conversation
        self.payload = made.payload
        self.tokenizer = tokenizer

    @functools.cached_property
    def outcome(self) -> RenderedChat | TemplateError:
        """The rendering, or why it failed."""
        return _try(self.template, self.conversation, prompt=False)

    @functools.cached_property
    def prompted(self) -> RenderedChat | TemplateError:
        """The rendering with a generation prompt, or why it failed."""
        return _try(self.template, self.conversation, prompt=True)

    @property
    def chat(self) -> RenderedChat:
        """The rendering. Only for properties of conversations that render."""
        assert isinstance(self.outcome, RenderedChat)
        return self.outcome

    def is_model(self, turn: int) -> bool:
        """True if the model writes a turn."""
        return self.conversation.messages[turn].get("role") in self.template.model_roles

    def prefix_text(self, turns: int) -> str | None:
        """The text of the first `turns` messages; None where the template raises for them."""
        return self._prefix(turns, False)

    def prompt_text(self, turns: int) -> str | None:
        """The same with a generation prompt: what a model is given to write the next turn."""
        return self._prefix(turns, True)

    def _prefix(self, turns: int, prompt: bool) -> str | None:
        # No template has a text for a conversation without messages.
        if turns == 0:
            return None
        if turns == len(self.conversation.messages):
            whole = self.prompted if prompt else self.outcome
            return whole.text if isinstance(whole, RenderedChat) else None
        if (turns, prompt) not in self._prefixes:
            part = dataclasses.replace(self.conversation, messages=self.conversation.messages[:turns])
            try:
                found: str | None = self.template.render_plain(part, add_generation_prompt=prompt)
            except TemplateError:
                found = None
            self._prefixes[turns, prompt] = found
        return self._prefixes[turns, prompt]

    @functools.cached_property
    def _prefixes(self) -> dict[tuple[int, bool], str | None]:
        return {}


def _try(template: ChatTemplate, conversation: Conversation, *, prompt: bool) -> RenderedChat | TemplateError:
    try:
        return template.render(conversation, add_generation_prompt=prompt, in_other_words=False)
    except TemplateError as error:
        return error


def marked(conversation: Conversation, payload: str = "") -> Conversation:
    """The conversation with every text of its messages replaced by a word found nowhere else.

    `payload` is in the middle of each word.

    What templates look at stays: which texts are empty, the kinds of parts, names, ids, and that arguments are JSON.

    >>> [message["content"] for message in marked(SHAPES["one exchange"], "<think>").messages]
    ['Wq1x<think>y1qW', 'Wq2x<think>y2qW']
    """
    count = 0

    def word(value: str) -> str:
        nonlocal count
        # Templates branch on empty and blank texts: those stay as they are.
        if not value.strip():
            return value
        count += 1
        # The number is at both ends, so that half of a word that was cut still says which it is.
        return f"Wq{count}x{payload}y{count}qW"

    def within(value: Any) -> Any:
        if isinstance(value, str):
            return word(value)
        if isinstance(value, Mapping):
            return {key: within(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [within(item) for item in value]
        return value

    def content(value: Any) -> Any:
        if isinstance(value, str):
            return word(value)
        if isinstance(value, list):
            return [{**part, "text": word(part["text"])} if "text" in part else part for part in value]
        return value

    def call(value: Mapping[str, Any]) -> dict[str, Any]:
        function = value["function"]
        arguments = function["arguments"]
        if not isinstance(arguments, str):
            function = {**function, "arguments": within(arguments)}
        return {**value, "function": function}

    messages: list[dict[str, Any]] = []
    for message in conversation.messages:
        made = {**message}
        if "content" in made:
            made["content"] = content(made["content"])
        for name in REASONING_FIELDS:
            if isinstance(made.get(name), str):
                made[name] = word(made[name])
        if made.get("tool_calls"):
            made["tool_calls"] = [call(c) for c in made["tool_calls"]]
        messages.append(made)
    return dataclasses.replace(conversation, messages=tuple(messages))
