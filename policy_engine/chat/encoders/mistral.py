"""Mistral's own encoder, of the package mistral-common.

    ChatTokenizer.from_encoder(MistralTokenizer.from_file("tekken.json"))

It encodes message by message; the lists of ids together are all ids of the conversation:

    start()                    <s>
    encode_user_message        [AVAILABLE_TOOLS]‹[{"type": …}]›[/AVAILABLE_TOOLS][INST]‹Rain?›[/INST]
    encode_assistant_message   [TOOL_CALLS]‹[{"name": "weather", "arguments": {"city": "Rome"}}]›</s>

These methods run here on a substitute of the vocabulary, which notes the text that they encode (`‹ ›`) and leaves
control ids as they are. Text that spells a control token is encoded as text, so `[/INST]` of a user stays the user's.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from policy_engine.chat.encoders.encoder_vocabulary import EncoderVocabulary
from policy_engine.chat.encoders.protocol import Chunk, other_ids, refusal, refuse_media
from policy_engine.chat.tokens.byte_lengths import SPACE_MARK, ByteTable, metaspace_bytes
from policy_engine.chat.variables import Inputs
from policy_engine.core.errors import PolicyEngineError

_METHODS: Final = {
    "encode_user_message": "user",
    "encode_assistant_message": "assistant",
    "encode_tool_message": "tool",
    "encode_system_message": "system",
}
_TOOLS: Final = ("[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]")


class MistralEncoder:
    """Conversations as `MistralTokenizer.encode_chat_completion` renders them for training.

    `tokenizer` is a `MistralTokenizer`. Conversations that end with an answer are validated in its mode `finetuning`,
    others in its mode `test`.
    """

    gives_ids = True
    has_prompt = False  # an answer begins where the user's turn ends
    normal = None
    words: frozenset[str] = frozenset()

    def __init__(self, mistral: Any) -> None:
        self._mistral = mistral
        self._instruct = mistral.instruct_tokenizer
        self._own = self._instruct.tokenizer

    def __reduce__(self) -> tuple[Any, ...]:
        return MistralEncoder, (self._mistral,)

    @functools.cached_property
    def name(self) -> str:
        """The version of the package and of the tokenizer."""
        from importlib.metadata import version

        return f"mistral-common {version('mistral-common')} ({self._own.version.value})"

    @property
    def source(self) -> str:
        """The control tokens, which are all that it writes by itself."""
        return " ".join(self.tokenizer.added_tokens_decoder.values())

    @property
    def facts(self) -> Any:
        """The version that decides how messages are written."""
        return [self.name, type(self._instruct).__name__]

    @functools.cached_property
    def tokenizer(self) -> EncoderVocabulary:
        """The vocabulary of the tokenizer's file."""
        own = self._own
        # Sorted, so that the vocabulary's fingerprint is the same in every process.
        control = {i: str(own.id_to_piece(i)) for i in sorted(own.special_ids)}
        named = {"bos_token": own.bos_id, "eos_token": own.eos_id}
        return EncoderVocabulary(
            pieces=[self._piece(i, control) for i in range(own.n_words)],
            control=control,
            special_tokens_map={name: control.get(i, "") for name, i in named.items()},
            encode=lambda text: list(own.encode(text, bos=False, eos=False)),
            space=" " if self._is_tekken else SPACE_MARK,
        )

    @property
    def _is_tekken(self) -> bool:
        # Tekken's files have bytes; SentencePiece's have pieces with marks for spaces.
        return hasattr(self._own, "id_to_byte_piece")

    def _piece(self, token: int, control: Mapping[int, str]) -> bytes | None:
        if token in control:
            return control[token].encode()
        if self._is_tekken:
            found: bytes = self._own.id_to_byte_piece(token)
            return found
        return None if token == self._own.unk_id else metaspace_bytes(self._own.id_to_piece(token))

    @property
    def byte_table(self) -> ByteTable:
        """The bytes of each id."""
        return self.tokenizer.byte_table

    def chunks(self, inputs: Inputs, *, tinted: bool) -> list[Chunk]:
        """See `Encoder`; each message's control ids and texts."""
        refuse_media(self.name, inputs.messages)
        try:
            # Tinted names and ids are not what the validator takes; the plain conversation has passed it.
            request = self._request(inputs, validated=not tinted)
            written = _Written(self._instruct)
            written.encode(request)
        except PolicyEngineError:
            raise
        except Exception as error:  # pydantic's, the validator's, and assertions of the encoder
            raise refusal(self.name, error) from error
        made = list(self._chunks(written, inputs.messages, encoded=not tinted))
        # Tinted texts have no ids worth comparing.
        if not tinted:
            self._check(request, made)
        return made

    def _request(self, inputs: Inputs, *, validated: bool) -> Any:
        from mistral_common.protocol.instruct.normalize import get_normalizer
        from mistral_common.protocol.instruct.request import ChatCompletionRequest
        from mistral_common.protocol.instruct.validator import ValidationMode, get_validator

        version = self._own.version
        messages: Any = list(inputs.messages)
        tools: Any = list(inputs.tools) if inputs.tools else None
        kwargs: Any = inputs.kwargs
        request = ChatCompletionRequest.from_openai(messages, tools, **kwargs)
        if validated:
            ends_answered = messages[-1].get("role") == "assistant"
            # The mode `test` refuses a conversation that ends with an answer, `finetuning` one that does not.
            mode = ValidationMode.finetuning if ends_answered else ValidationMode.test
            request = get_validator(version, mode=mode).validate_request(request)
        return get_normalizer(version, self._own.model_settings_builder).from_chat_completion_request(request)

    def _chunks(self, written: _Written, messages: Sequence[Mapping[str, Any]], *, encoded: bool) -> Iterator[Chunk]:
        yield from self._pieces(written, written.start, (None, None), encoded)
        groups = _groups(messages)
        at = 0
        for role, ids in written.lists:
            # The encoder puts an empty question before a conversation that opens with an answer.
            added = at == 0 and role == "user" and next((g for g, *_ in groups if g != "system"), role) != role
            # The next message of that role: the encoder keeps the order, and writes nothing for some (an empty
            # system prompt).
            found = None if added else next((i for i in range(at, len(groups)) if groups[i][0] == role), None)
            if found is None:
                yield from self._pieces(written, ids, (None, None), encoded)
            else:
                at = found + 1
                yield from self._pieces(written, ids, groups[found][1:], encoded)

    def _pieces(
        self, written: _Written, ids: Sequence[int], turns: tuple[int | None, int | None], encoded: bool
    ) -> Iterator[Chunk]:
        control = self.tokenizer.added_tokens_decoder
        lists_tools = False
        for number, token in enumerate(ids):
            # What comes last closes the last of the messages that were joined.
            turn = turns[1] if number == len(ids) - 1 else turns[0]
            if token >= 0:
                text = str(control[token])
                lists_tools = text == _TOOLS[0] or (lists_tools and text != _TOOLS[1])
                yield Chunk(text=text, turn=turn, ids=(token,) if encoded else None)
                continue
            # A negative id is the number of a text that was noted; see `_Written`.
            text = written.texts[-1 - token]
            own = tuple(self._own.encode(text, bos=False, eos=False)) if encoded else None
            yield Chunk(text=text, turn=turn, ids=own, beside="tools" if lists_tools else None)

    def _check(self, request: Any, made: Sequence[Chunk]) -> None:
        try:
            # Once more by the untouched encoder: a row gets its ids, or is refused.
            own = self._instruct.encode_instruct(request).tokens
        except Exception as error:
            raise refusal(self.name, error) from error
        if [i for chunk in made for i in chunk.ids or ()] != list(own):
            raise other_ids(self.name, "mistral-common")


class _Written:
    """One run of the encoder's methods with texts noted in place of their ids.

    In `lists`, one for each message with its role, the id `-1 - n` stands for text number n of `texts`.
    """

    def __init__(self, instruct: Any) -> None:
        self.texts: list[str] = []
        self.lists: list[tuple[str, list[int]]] = []
        # A shallow copy with another vocabulary and noting methods: the user's object stays as it is.
        self._instruct = copy.copy(instruct)
        self._instruct.tokenizer = _Noting(instruct.tokenizer, self.texts)
        for method, role in _METHODS.items():
            setattr(self._instruct, method, self._noted(getattr(self._instruct, method), role))
        self.start: list[int] = list(self._instruct.start())

    def encode(self, request: Any) -> None:
        self._instruct.encode_instruct(request)

    def _noted(self, method: Any, role: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            found = method(*args, **kwargs)
            self.lists.append((role, list(found[0] if isinstance(found, tuple) else found)))
            return found

        return call


class _Noting:
    """A vocabulary that notes the texts it is given."""

    def __init__(self, own: Any, texts: list[str]) -> None:
        self._own = own
        self._texts = texts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def encode(self, text: str, bos: bool, eos: bool) -> list[int]:
        self._texts.append(text)
        return [*([self._own.bos_id] if bos else []), -len(self._texts), *([self._own.eos_id] if eos else [])]

    # The encoder decodes for its debug text alone, which nobody reads here.
    def decode(self, *args: Any, **kwargs: Any) -> str:
        return ""


def _groups(messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, int]]:
    """Role, first and last message of what the encoder joins: neighbouring users or answers.

    >>> _groups([{"role": "user"}, {"role": "user"}, {"role": "assistant"}])
    [('user', 0, 1), ('assistant', 2, 2)]
    """
    made: list[tuple[str, int, int]] = []
    for turn, message in enumerate(messages):
        role = str(message.get("role")).replace("developer", "system")
        # mistral-common joins neighbouring users and neighbouring answers; results and system prompts stay apart.
        if made and made[-1][0] == role and role not in ("tool", "system"):
            made[-1] = (role, made[-1][1], turn)
        else:
            made.append((role, turn, turn))
    return made
