"""An encoder as the rest of the engine sees it, and the chunks that it gives.

`<s>[INST]‹Hi›[/INST]` is four chunks: `<s>` of no message, and three of message 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from policy_engine.chat.media.in_messages import has_media
from policy_engine.chat.tokens.byte_lengths import ByteTable
from policy_engine.chat.variables import Inputs
from policy_engine.core.errors import AttributionError, TemplateError
from policy_engine.core.wording import first_line


@dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """Text that was written at once while one message was written.

    `turn` is that message (from 0), None for text of no message; `call` its tool call, where one was written. `ids`
    are the tokens, None where a tokenizer reads the whole text afterwards. `beside` is `tools` where the text is
    that of the tools given beside the messages.

    >>> Chunk(text="[INST]", turn=0, ids=(3,))
    Chunk(text='[INST]', turn=0, ids=(3,), call=None, beside=None)
    """

    text: str
    turn: int | None
    ids: tuple[int, ...] | None = None
    call: int | None = None
    beside: str | None = None


class Encoder(Protocol):
    """Renders conversations by code. Pickles, for worker processes.

    One may also have `labels`: names of further fields of messages by which it decides, and which are no text of the
    author.
    """

    @property
    def name(self) -> str:
        """The encoder in words, with its version: `mistral-common 1.13.1 (v3)`."""

    @property
    def source(self) -> str:
        """Text with the constants that it writes, such as delimiters of thinking."""

    @property
    def words(self) -> frozenset[str]:
        """Texts that it may look for in messages."""

    @property
    def tokenizer(self) -> Any:
        """The vocabulary of its ids, as a slow transformers tokenizer; or what reads its text."""

    @property
    def byte_table(self) -> ByteTable:
        """The bytes that each id stands for; asked where chunks have ids."""

    @property
    def facts(self) -> Any:
        """JSON values that, with the vocabulary, decide the ids."""

    @property
    def gives_ids(self) -> bool:
        """True if chunks have ids; else the text is tokenized by a tokenizer of its own."""

    @property
    def normal(self) -> Callable[[str], str] | None:
        """The tokenizer's normalizer (normal form C, say), where chunks are spelled from ids.

        None if it reads a text as it is.
        """

    @property
    def has_prompt(self) -> bool:
        """True if it can write a generation prompt; else the text of the messages is the prompt."""

    def chunks(self, inputs: Inputs, *, tinted: bool) -> list[Chunk]:
        """The conversation in chunks. Their ids together are those that the encoder itself gives.

        `tinted` data is read for its text alone: no ids are
        needed, and what the encoder refuses for its wording may pass.

        Raises TemplateError with the encoder's own reason where it refuses the conversation, AttributionError where
        the chunks are not what it gives for the whole conversation.
        """


def refuse_media(name: str, messages: Sequence[Mapping[str, Any]]) -> None:
    """Raises TemplateError for messages with images, sounds or videos."""
    if has_media(messages):
        raise TemplateError(
            f"the row has images, sounds or videos, and {name} is read for text alone",
            help="give the model's processor in its place, or drop the row",
        )


def refusal(name: str, error: BaseException) -> TemplateError:
    """The error of a conversation that an encoder refuses, with its reason in one line.

    >>> refusal("mistral-common 1.13.1", ValueError("no system prompt\\n\\nsee the docs")).message
    'mistral-common 1.13.1 refuses this conversation: no system prompt'
    """
    return TemplateError(
        f"{name} refuses this conversation: {first_line(error)}",
        help="change the conversation to what the encoder takes, or drop it",
    )


def other_ids(name: str, package: str) -> AttributionError:
    """The error of an encoder whose ids for a conversation are not those for its messages."""
    return AttributionError(
        f"{name} gives other ids for the whole conversation than message by message",
        help=f"drop the row, and report it: this version of {package} is not known",
    )
