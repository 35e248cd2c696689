"""A chat template that renders a conversation once, into text that knows where it came from."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jinja2

from policy_engine.chat.bits import LABEL_FIELDS, Bit, flatten, own_unclaimed
from policy_engine.chat.chart import Chart, Piece
from policy_engine.chat.conversation import Conversation
from policy_engine.chat.markers import REASONING, Markers
from policy_engine.chat.parts import REASONING_FIELDS, label
from policy_engine.chat.profile import Raw, TemplateProfile, learn
from policy_engine.chat.segments import RenderedChat, Segment, Unrendered
from policy_engine.chat.trace_data import wrap, wrap_message
from policy_engine.chat.trace_env import TracingEnvironment, run_template
from policy_engine.chat.trace_state import OutOfTime
from policy_engine.chat.trace_text import LOST, UNKNOWN, OutputTooLarge
from policy_engine.core.errors import TemplateError

_REASONING_NAMES = ("reasoning_content", "thinking", "reasoning")
"""Names a message's reasoning is given under, in the order transformers looks."""

_TOOL = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "d",
        "parameters": {
            "type": "object",
            "properties": {"key": {"type": "string", "description": "k"}},
            "required": ["key"],
        },
    },
}
"""The tool that a template is profiled with."""


class ChatTemplate:
    """A compiled chat template.

    `special_tokens` are the tokenizer's named ones (`bos_token` …), which templates may print; `tokens` its further
    special and added tokens; `model_roles` the roles a model writes; `seconds` bounds one rendering. Raises
    TemplateError if the source does not compile.
    """

    def __init__(
        self,
        source: str,
        *,
        special_tokens: Mapping[str, str] | None = None,
        tokens: Iterable[str] = (),
        model_roles: Iterable[str] = ("assistant",),
        name: str = "<template>",
        seconds: float = 10.0,
    ) -> None:
        self.source = source
        self.name = name
        self.special_tokens = dict(special_tokens or {})
        self.model_roles = frozenset(model_roles)
        self._tokens = tuple(sorted(set(tokens)))
        self._seconds = seconds
        self._environment = TracingEnvironment()
        try:
            self._template = self._environment.from_string(source)
        except RecursionError:
            raise TemplateError(f"{name} does not compile: nested too deeply") from None
        except Exception as error:
            where = f" at line {error.lineno}" if isinstance(error, jinja2.TemplateSyntaxError) else ""
            raise TemplateError(
                f"{name} does not compile{where}: {error}", help="correct the template's Jinja syntax"
            ) from error
        named = self.special_tokens
        self._markers = Markers.of(
            [*named.values(), *self._tokens], bos=named.get("bos_token"), eos=named.get("eos_token")
        )
        self._delimiters = tuple(pair for pair in REASONING if pair[0] in source or pair[1] in source)
        self._profiles: dict[str, TemplateProfile] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (
            _rebuild,
            (self.source, self.special_tokens, self._tokens, tuple(sorted(self.model_roles)), self.name, self._seconds),
        )

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides how a conversation renders and is told apart (hex)."""
        key = [self.source, sorted(self.special_tokens.items()), self._tokens, sorted(self.model_roles)]
        return hashlib.sha256(json.dumps(key, default=str).encode()).hexdigest()

    def render(self, conversation: Conversation, *, add_generation_prompt: bool = False) -> RenderedChat:
        """The conversation as text in segments.

        Raises TemplateError where the template raises (with its reason) or exceeds its limits.
        """
        kwargs = dict(conversation.template_kwargs)
        profile = self.profile(tools=bool(conversation.tools), documents=bool(conversation.documents), kwargs=kwargs)
        raw = self._raw(
            conversation.messages, conversation.tools, conversation.documents, kwargs, add_generation_prompt
        )
        pieces = label(
            Chart(
                text=raw.text,
                bits=raw.bits,
                messages=conversation.messages,
                profile=profile,
                markers=self._markers,
                delimiters=self._delimiters,
                models=self.model_roles,
            )
        )
        if add_generation_prompt:
            pieces = _with_prompt(pieces, self._prompt_start(raw, conversation, kwargs))
        return RenderedChat(
            text=raw.text,
            segments=_segments(raw.text, pieces, conversation),
            messages=conversation.messages,
            sample=conversation.sample,
            unrendered=_unrendered(raw.bits, conversation.messages, self._delimiters, self.model_roles),
            generation_prompt=add_generation_prompt,
        )

    def render_plain(self, conversation: Conversation, *, add_generation_prompt: bool = False) -> str:
        """The text alone; equals `tokenizer.apply_chat_template(..., tokenize=False)`."""
        return self._raw(
            conversation.messages,
            conversation.tools,
            conversation.documents,
            dict(conversation.template_kwargs),
            add_generation_prompt,
        ).text

    def profile(
        self, *, tools: bool = False, documents: bool = False, kwargs: Mapping[str, Any] | None = None
    ) -> TemplateProfile:
        """What is true of the template with these arguments; learned on first use."""
        arguments = dict(kwargs or {})
        key = json.dumps([tools, documents, arguments], sort_keys=True, default=repr)
        found = self._profiles.get(key)
        if found is None:

            def render(messages: Sequence[Mapping[str, Any]], with_tools: bool, prompt: bool) -> Raw | None:
                try:
                    return self._raw(messages, [_TOOL] if with_tools else None, None, arguments, prompt)
                except TemplateError:
                    return None

            model = min(self.model_roles) if "assistant" not in self.model_roles else "assistant"
            found = self._profiles[key] = learn(render, self._markers, model=model, tools=tools)
        return found

    def _prompt_start(self, raw: Raw, conversation: Conversation, kwargs: dict[str, Any]) -> int:
        without = self._raw(conversation.messages, conversation.tools, conversation.documents, kwargs, False).text
        return len(without) if raw.text.startswith(without) else _last_data(raw.bits)

    def _raw(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None,
        documents: Sequence[Any] | None,
        kwargs: Mapping[str, Any],
        add_generation_prompt: bool,
    ) -> Raw:
        if not messages:
            raise TemplateError("cannot render a conversation without messages", help="drop the row, or add messages")
        variables = {
            **self.special_tokens,
            **kwargs,
            "messages": [_wrapped(message, turn) for turn, message in enumerate(messages)],
            "tools": None if tools is None else wrap([_schema(tool) for tool in tools], None, ("tools",)),
            "documents": None if documents is None else wrap(list(documents), None, ("documents",)),
            "add_generation_prompt": add_generation_prompt,
        }
        environment = self._environment
        try:
            pieces = run_template(self._template, variables, environment.branch_parents, self._seconds)
        except OutputTooLarge:
            raise TemplateError(f"{self.name} writes more text than a template may", help="check its loops") from None
        except OutOfTime:
            raise TemplateError(
                f"{self.name} ran longer than {self._seconds:g} s", help="check its loops, or raise `seconds`"
            ) from None
        except RecursionError:
            raise TemplateError(f"{self.name} recurses without end", help="check its macros") from None
        except MemoryError:
            raise TemplateError(f"{self.name} needs more memory than there is", help="check its loops") from None
        except Exception as error:
            raise TemplateError(
                f"{self.name} raises for this conversation: {error}",
                help="change the conversation to what the template accepts, or use another template",
            ) from error
        bits = flatten(pieces)
        own_unclaimed(bits, environment.branch_parents)
        return Raw(text="".join(piece for piece, _ in pieces), bits=bits)


def _rebuild(
    source: str, special: Mapping[str, str], tokens: Sequence[str], models: Sequence[str], name: str, seconds: float
) -> ChatTemplate:
    return ChatTemplate(source, special_tokens=special, tokens=tokens, model_roles=models, name=name, seconds=seconds)


def _schema(tool: Any) -> Any:
    if inspect.isfunction(tool) or inspect.ismethod(tool):
        from transformers.utils.chat_template_utils import get_json_schema

        return get_json_schema(tool)
    return tool


def _wrapped(message: Mapping[str, Any], turn: int) -> Any:
    # As transformers: null fields are dropped, and reasoning is offered under the names templates read.
    given = {key: value for key, value in message.items() if value is not None}
    aliases: dict[str, str] = {}
    for name in _REASONING_NAMES:
        if name in given:
            aliases = {"thinking": name if "thinking" not in given else "thinking", "reasoning_content": name}
            given = {"thinking": given[name], **given, "reasoning_content": given[name]}
            break
    return wrap_message(given, turn, aliases)


def _last_data(bits: Sequence[Bit]) -> int:
    return max((bit.end for bit in bits if bit.is_data), default=0)


def _with_prompt(pieces: Sequence[Piece], start: int) -> list[Piece]:
    """The pieces, those from `start` on made the generation prompt's."""
    out: list[Piece] = []
    for piece in pieces:
        if piece.end <= start:
            out.append(piece)
            continue
        if piece.start < start:
            out.append(Piece(piece.bit, piece.start, start, piece.part, piece.turn, piece.call))
        prompt = Piece(piece.bit, max(start, piece.start), piece.end, "generation_prompt", None, None)
        prompt.call = prompt.item = None
        out.append(prompt)
    return out


def _segments(text: str, pieces: Sequence[Piece], conversation: Conversation) -> tuple[Segment, ...]:
    """Pieces as segments, neighbours of one part and source joined."""
    segments: list[Segment] = []
    group: list[Piece] = []
    for piece in pieces:
        if piece.start == piece.end:
            continue
        if group and not _joins(group[-1], piece):
            segments.append(_segment(text, group, conversation))
            group = []
        group.append(piece)
    if group:
        segments.append(_segment(text, group, conversation))
    return tuple(segments)


def _joins(a: Piece, b: Piece) -> bool:
    if (a.part, a.turn, a.call, a.item) != (b.part, b.turn, b.call, b.item):
        return False
    first, second = a.bit, b.bit
    if first.origin is None or second.origin is None:
        return first.origin is None and second.origin is None and first.line == second.line
    if first is second:
        return True
    same = first.origin.turn == second.origin.turn and first.origin.path == second.origin.path
    if first.offset == LOST or second.offset == LOST:
        return same and first.offset == second.offset
    return same and _offset(a) + a.end - a.start == _offset(b)


def _offset(piece: Piece) -> int:
    return piece.bit.offset + piece.start - piece.bit.start


def _segment(text: str, group: Sequence[Piece], conversation: Conversation) -> Segment:
    first, last = group[0], group[-1]
    bit = first.bit
    origin = bit.origin
    start, end = first.start, last.end
    if origin is None or origin is UNKNOWN or origin.turn != first.turn:
        # A role or name of another message that labels this one is scaffold here: its field is not below this message.
        return Segment(
            start=start, end=end, part=first.part, turn=first.turn, item=first.item, call=first.call,
            line=bit.line, unknown=origin is UNKNOWN,
        )  # fmt: skip
    exact, offset = False, 0
    if bit.offset != LOST:
        value: Any = _source(conversation, origin.turn)
        for step in origin.path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                value = None
                break
        offset = _offset(first)
        exact = isinstance(value, str) and value[offset : offset + end - start] == text[start:end]
    return Segment(
        start=start, end=end, part=first.part, turn=first.turn, field=origin.path, field_start=offset,
        field_exact=exact, item=first.item, call=first.call,
    )  # fmt: skip


def _source(conversation: Conversation, turn: int | None) -> Any:
    if turn is None:
        return {"tools": conversation.tools, "documents": conversation.documents}
    return conversation.messages[turn]


def _unrendered(
    bits: Sequence[Bit],
    messages: Sequence[Mapping[str, Any]],
    delimiters: Sequence[tuple[str, str]],
    models: frozenset[str],
) -> tuple[Unrendered, ...]:
    """Fields with something in them of which no character reached the text."""
    seen: set[tuple[int, str]] = set()
    for bit in bits:
        if bit.origin is not None and bit.origin.turn is not None and bit.end > bit.start:
            path = bit.origin.path
            seen.add((bit.origin.turn, str(path[0]) if path else "*"))
        elif bit.item is not None and bit.turn is not None:
            seen.add((bit.turn, "content"))
    lost = [
        Unrendered(turn=turn, field="reasoning")
        for turn, end in _thinking(messages, delimiters, models).items()
        if (turn, "content") in seen and not any(_before(bit, turn, end) for bit in bits)
    ]
    for turn, message in enumerate(messages):
        if (turn, "*") in seen:
            continue
        for name, value in message.items():
            if (turn, name) in seen or name in LABEL_FIELDS or not _has_text(value):
                continue
            if name == "content":
                lost.append(Unrendered(turn=turn, field="content"))
            elif name == "tool_calls":
                lost.append(Unrendered(turn=turn, field="tool_calls"))
            elif name in REASONING_FIELDS and not any((turn, other) in seen for other in REASONING_FIELDS):
                lost.append(Unrendered(turn=turn, field="reasoning"))
    return tuple(dict.fromkeys(lost))


def _thinking(
    messages: Sequence[Mapping[str, Any]], delimiters: Sequence[tuple[str, str]], models: frozenset[str]
) -> dict[int, int]:
    """For each model turn whose content holds thinking that the template knows the delimiters of: where it ends."""
    found: dict[int, int] = {}
    for turn, message in enumerate(messages):
        content = message.get("content")
        if not isinstance(content, str) or message.get("role") not in models:
            continue
        for open_, close in delimiters:
            at = content.find(close)
            if at > 0 and content[:at].replace(open_, "", 1).strip():
                found[turn] = at
                break
    return found


def _before(bit: Bit, turn: int, end: int) -> bool:
    origin = bit.origin
    if origin is None or origin.turn != turn or origin.path != ("content",) or bit.end == bit.start:
        return False
    return bit.offset == LOST or bit.offset < end


def _has_text(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, Mapping):
        return any(_has_text(v) for k, v in value.items() if k != "type") or not {"text"} >= (set(value) - {"type"})
    if isinstance(value, list | tuple):
        return any(_has_text(item) for item in value)
    return False
