"""A chat template made of an encoder: it renders text in segments, with the encoder's ids.

`<s>[INST]‹Hi›[/INST]` of Mistral's encoder becomes `bos`, `header`, `text` and `eot`, as the same text of a Jinja
template would.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from policy_engine.chat.encoders.code.file import PythonEncoder
from policy_engine.chat.encoders.code.turn_bounds import cut_chunks, openings_back, turn_bounds
from policy_engine.chat.encoders.protocol import Chunk, Encoder
from policy_engine.chat.encoders.provenance import Provenance
from policy_engine.chat.encoders.tint import splitters_of
from policy_engine.chat.encoders.token_places import Places
from policy_engine.chat.encoders.tools import with_tools
from policy_engine.chat.flags import WrittenPieces
from policy_engine.chat.label.markers import delimiters_in
from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.tokenizer_facts import digest_of
from policy_engine.chat.trace.origins import LOST, Origin, Run, Scaffold, claim_of, cut, origin_at
from policy_engine.chat.trace.text import traced
from policy_engine.chat.variables import Arguments, Inputs, schema_of
from policy_engine.core.errors import TemplateError
from policy_engine.data.conversation import Conversation


class EncodedTemplate(ChatTemplate):
    """A template whose text is what an encoder gives.

    `facts` are further arguments of `ChatTemplate`: its tokens and the roles that a model writes.
    """

    is_code = True

    def __init__(self, encoder: Encoder, **facts: Any) -> None:
        # An empty template: everything but the rendering is that of any other template.
        super().__init__("", name=encoder.name, skeletons=False, **facts)
        self.encoder = encoder
        self.source = encoder.source
        self._delimiters = delimiters_in(encoder.source)
        # Words that the code may look for in messages; of a Jinja template they are its constants.
        self._environment.words = encoder.words
        self._labels: frozenset[str] = getattr(encoder, "labels", frozenset())
        self._provenance = Provenance(
            name=encoder.name,
            splitters=splitters_of(self._delimiters),
            # Not every class of a user has it.
            normal=getattr(encoder, "normal", None),
            ids=encoder.gives_ids,
            labels=self._labels,
        )
        self._places = Places(encoder)

    def __reduce__(self) -> tuple[Any, ...]:
        facts: dict[str, Any] = {
            "special_tokens": self.special_tokens,
            "tokens": self._tokens,
            "stops": tuple(sorted(self.stops)),
        }
        return functools.partial(EncodedTemplate, **facts, model_roles=self.model_roles), (self.encoder,)

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides how a conversation renders and is told apart (hex)."""
        return digest_of([super().fingerprint, self.encoder.name, self.encoder.facts])

    @functools.cached_property
    def _arguments(self) -> Arguments:
        return Arguments(None)  # code may read any argument

    def _written(self, conversation: Conversation, prompt: bool, now: datetime | None = None) -> WrittenPieces:
        if conversation.continue_final_message is not None:
            raise TemplateError(
                f"{self.name} ends every message, and takes no `continue_final_message`",
                help="leave it out, or write the beginning of the answer as the answer",
            )
        if conversation.sanitize_control_tokens and not self.encoder.gives_ids:
            raise TemplateError(
                f"{self.name} takes no `sanitize_control_tokens`: it writes text that is tokenized as a whole",
                help="leave it out, or drop rows with control tokens in their data",
            )
        # Where chunks are encoded one by one, control tokens in data are text already.
        return WrittenPieces(self._pieces(Inputs.of(conversation, prompt=prompt), now))

    def _reading(
        self, conversation: Conversation, pieces: Sequence[tuple[str, Scaffold]], prompt: bool, now: datetime
    ) -> None:
        # Every row is written in other characters already, and an encoder that reads JSON does not take other digits.
        return None

    def _pieces(
        self,
        inputs: Inputs,
        now: datetime | None = None,
        lines: list[int] | None = None,
        outputs: list[int | None] | None = None,
    ) -> list[tuple[str, Scaffold]]:
        if not inputs.messages:
            raise TemplateError("cannot render a conversation without messages", help="drop the row, or add messages")
        if inputs.documents:
            raise TemplateError(
                f"{self.name} takes no documents", help="put them into a message, or take the column out"
            )
        # Encoders take OpenAI's messages; arguments that were no text have no places of characters (`changed`).
        plain = [openai_message(message) for message in inputs.messages]
        changed = _with_objects(inputs.messages)
        # A copy, since code may change what it is given; functions become their schemas first.
        tools = None if inputs.tools is None else copy.deepcopy([schema_of(tool) for tool in inputs.tools])
        given = replace(inputs, messages=plain, tools=tools, prompt=inputs.prompt and self.encoder.has_prompt)

        def tinted(messages: Sequence[Mapping[str, Any]]) -> str:
            made = self.encoder.chunks(replace(given, messages=messages), tinted=True)
            return "".join([chunk.text for chunk in made])

        chunks = self.encoder.chunks(given, tinted=False)
        runs: Sequence[Run] = self._provenance.runs(plain, tools, chunks, tinted)
        # Mistral's and Harmony's chunks say themselves where the tools are.
        if not any(chunk.beside for chunk in chunks):
            runs = with_tools(runs, "".join([chunk.text for chunk in chunks]), tools)
        if not self.encoder.gives_ids:
            chunks = self._owned_by_turns(given, chunks, runs)
        # Last: a message is found by the place of its last character, also in the arguments of a call.
        runs = tuple((length, origin, LOST if origin in changed else offset) for length, origin, offset in runs)
        pieces = EncodedPieces()
        pieces.chunks = chunks
        at = 0
        for chunk in chunks:
            own = cut(runs, at, at + len(chunk.text)) if chunk.text else ()
            pieces += _pieces_of(chunk, own)
            at += len(chunk.text)
        return pieces

    def _owned_by_turns(self, inputs: Inputs, chunks: Sequence[Chunk], runs: Sequence[Run]) -> list[Chunk]:
        """The chunks, cut where messages begin, each with its message."""
        encoder = self.encoder
        assert isinstance(encoder, PythonEncoder)

        def texts(conversations: Sequence[Sequence[Mapping[str, Any]]]) -> list[str | None]:
            found = encoder.texts(conversations, inputs.tools, inputs.kwargs)
            return [text if isinstance(text, str) else None for text in found]

        plain = "".join([chunk.text for chunk in chunks])
        bounds = turn_bounds(
            inputs.messages, plain, runs, texts, tinting=self._provenance.tinting(), markers=self._markers
        )
        bounds = openings_back(bounds, plain, runs, inputs.messages, self._markers, self.model_roles)
        return list(cut_chunks(chunks, bounds, self._markers.leading_bos(plain)))

    def _finished(self, chat: RenderedChat, pieces: Sequence[tuple[str, Scaffold]]) -> RenderedChat:
        # Labels have no places of characters; the encoder reads them.
        if self._labels and chat.unrendered:
            lost = tuple(piece for piece in chat.unrendered if not piece.path or piece.path[0] not in self._labels)
            chat = replace(chat, unrendered=lost)
        chunks = getattr(pieces, "chunks", [])
        if any(chunk.ids is None for chunk in chunks):
            return chat  # a tokenizer reads the text
        return replace(chat, tokens=self._places.of(chunks))


class EncodedPieces(list[tuple[str, Scaffold]]):
    """The pieces of a text, and the chunks that they come from."""

    chunks: list[Chunk]


def _pieces_of(chunk: Chunk, runs: Sequence[Run]) -> list[tuple[str, Scaffold]]:
    claim = claim_of(chunk.turn, chunk.call, None, None, 0)
    if chunk.beside is not None:
        whole = ((len(chunk.text), origin_at(None, (chunk.beside,)), LOST),)
        return [(traced(chunk.text, whole), claim)]
    made: list[tuple[str, Scaffold]] = []
    at = 0
    opening = ""
    for number, (length, origin, offset) in enumerate(runs):
        text = chunk.text[at : at + length]
        at += length
        if isinstance(origin, Origin):
            made.append((traced(text, ((length, origin, offset),)), _claim(claim, _call_of(origin))))
            continue
        # Scaffold between two calls belongs to both: what closes the first, and what opens the second.
        near = [_call_of(runs[n][1]) if 0 <= n < len(runs) else None for n in (number - 1, number + 1)]
        before, after = near
        if before is None and after is not None:
            opening = opening or text
        cut = _next_opening(text, opening) if before is not None and after not in (None, before) else len(text)
        made += [
            (piece, _claim(claim, call))
            for piece, call in ((text[:cut], before if before is not None else after), (text[cut:], after))
            if piece
        ]
    return made


def _next_opening(text: str, opening: str) -> int:
    """The place in the text between two calls where the second one opens as the first one did."""
    same = 0
    # From the end backwards: as much as the first call's opening and this text have in common.
    while same < min(len(text), len(opening)) and text[-1 - same] == opening[-1 - same]:
        same += 1
    # An opening begins with a line break, a marker or a bracket; anything before it closes the call before.
    starts = [at for sign in "\n<{[" if (at := text.find(sign, len(text) - same)) >= 0]
    return min(starts, default=len(text))


def openai_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as OpenAI's interface has it: arguments of calls as JSON text, and no nulls.

    All objects and lists in it are copies, since an encoder is code of others that may change what it is given.

    >>> openai_message({"role": "user", "content": "Hi", "name": None})
    {'role': 'user', 'content': 'Hi'}
    """
    given = {key: _copied(value) for key, value in message.items() if value is not None}
    for call in _calls(given):
        if _has_object(call):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
    return given


def _copied(value: Any) -> Any:
    """A copy of all objects and lists in a value; what is neither, such as a picture, is shared."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


def _calls(message: Mapping[str, Any]) -> Sequence[Any]:
    calls = message.get("tool_calls")
    return calls if isinstance(calls, list | tuple) else ()


def _has_object(call: Any) -> bool:
    """True if the arguments of a call are no text."""
    function = call.get("function") if isinstance(call, Mapping) else None
    return isinstance(function, Mapping) and not isinstance(function.get("arguments", ""), str)


def _with_objects(messages: Sequence[Mapping[str, Any]]) -> set[Any]:
    """The arguments that the data has as objects, which have no places of characters."""
    return {
        origin_at(turn, ("tool_calls", at, "function", "arguments"))
        for turn, message in enumerate(messages)
        for at, call in enumerate(_calls(message))
        if _has_object(call)
    }


def _claim(claim: Scaffold, call: int | None) -> Scaffold:
    return claim if call is None else claim_of(claim.turn, call, None, None, 0)


def _call_of(origin: Any) -> int | None:
    path = origin.path if isinstance(origin, Origin) else ()
    return path[1] if len(path) > 1 and path[0] == "tool_calls" and isinstance(path[1], int) else None
