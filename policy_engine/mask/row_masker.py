"""One conversation masked: rendered once, tokenized once, every token decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from policy_engine.chat.media.in_messages import has_media
from policy_engine.chat.segments import Miswritten, RenderedChat, TokenizedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import DriftError, MediaError, PolicyEngineError, RowError
from policy_engine.data.conversation import Conversation
from policy_engine.mask.apply_program import apply_program
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.unrendered import Lost, check_written, lost_of, refuse_unrendered, without_read
from policy_engine.rules.program import Program

# What puts given ids on text is imported for rows that give some.
if TYPE_CHECKING:
    from policy_engine.chat.given.place import OnDrift


def report_nothing(found: object) -> None:
    """Leaves what is lost, or written otherwise than meant, to somebody else, who counts it."""


@dataclass(frozen=True, kw_only=True)
class RowMasker:
    """A program and a tokenizer put together, for one conversation at a time.

    `on_lost` gets the pieces of each rendering that never reached the text, where that is not an error; `on_miswritten`
    gets the fields that the template writes otherwise than they are meant, where that is not an error; `on_masked` gets
    the rows of each call, each as the samples that it becomes. `fields` are further message fields that the dataset
    file declares: they are there for conditions, so a template need not write them. Those that the policy reads are
    known without.
    """

    program: Program
    tokenizer: ChatTokenizer
    on_lost: Callable[[Lost], None] = report_nothing
    on_miswritten: Callable[[Sequence[Miswritten]], None] = report_nothing
    on_masked: Callable[[Sequence[Sequence[MaskedRow]]], None] = report_nothing
    fields: frozenset[str] = frozenset()

    def silent(self) -> RowMasker:
        """The same, which reports nothing: for who counts what is in the rows."""
        return replace(self, on_lost=report_nothing, on_miswritten=report_nothing, on_masked=report_nothing)

    def mask(self, conversation: Conversation) -> MaskedRow:
        """Masks a conversation.

        Raises TemplateError, AttributionError, UnrenderedError, GuardError and RowError where their steps do, RowError
        also for a row with nothing to train under `on empty error`.
        """
        if not isinstance(conversation, Conversation):
            raise TypeError(
                f"`mask` takes a Conversation, not a {type(conversation).__name__}: call the masker itself with "
                "messages, `masker(messages)`"
            )
        return self.finish(self.tokenize(conversation, self.render(conversation)))

    def tokenize(self, conversation: Conversation, chat: RenderedChat) -> TokenizedChat:
        """The tokens of a rendered conversation: its given ids, or else its text tokenized.

        Raises DriftError for ids that spell something else under `on drift error` and `on drift drop`, and what
        `ChatTokenizer.encode` raises.
        """
        if conversation.given is None:
            return self.tokenizer.encode(chat)
        from policy_engine.chat.given.place import place_given
        from policy_engine.chat.given.turns import chat_of_turns

        if conversation.given.turns is not None:
            return chat_of_turns(self.tokenizer, conversation)
        # `drop` is an error here like `error`; `leaves_out` tells the two apart.
        on_drift = cast("OnDrift", self.program.setting("drift"))
        return place_given(self.tokenizer, chat, conversation.given, on_drift=on_drift)

    def leaves_out(self, error: PolicyEngineError) -> bool:
        """True for the error of a row that `on drift drop` leaves out."""
        return isinstance(error, DriftError) and self.program.setting("drift") == "drop"

    def render(self, conversation: Conversation) -> RenderedChat:
        """The text of a conversation.

        Raises UnrenderedError where it lost what it must not, MediaError for media that a tokenizer does not take, and
        TemplateError.
        """
        if conversation.given is not None and conversation.given.turns is not None:
            from policy_engine.chat.given.turns import chat_of_turns

            return chat_of_turns(self.tokenizer, conversation).chat  # nothing is rendered, so nothing is lost
        for message in conversation.messages:
            if type(message.get("content")) is not str:  # most are, and need no further look
                # It looks at all messages, so once is enough.
                self.check_media(conversation)
                break
        # Before the check, so that a field which is there for a condition is not reported as lost.
        chat = self.settled(self.tokenizer.render(conversation))
        self.check_lost(chat)
        return chat

    def check_media(self, conversation: Conversation) -> None:
        """Applies `on media`.

        Raises MediaError for a row with media where ids come from a tokenizer alone.
        """
        if self.tokenizer.media is not None or self.program.setting("media") == "ignore":
            return
        if has_media(conversation.messages):
            raise MediaError(
                "the row has images, sounds or videos, and a tokenizer is given, which writes one placeholder for each",
                help="give the model's processor in place of its tokenizer; `on media ignore` takes the placeholders "
                "as they are",
                code="PE532",
            )

    def settled(self, chat: RenderedChat) -> RenderedChat:
        """A rendering, without reports of lost fields that the policy or the dataset file reads."""
        return without_read(chat, self.program.message_fields | self.fields) if chat.unrendered else chat

    def check_lost(self, chat: RenderedChat) -> None:
        """Applies `on unrendered` to a rendering.

        Raises UnrenderedError, and TemplateError for a field that is written letter by letter.
        """
        # First: text that is spelled out letter by letter is in the text, so nothing would count as lost.
        if chat.miswritten:
            check_written(chat)
            self.on_miswritten(chat.miswritten)
        if not chat.unrendered or not refuse_unrendered(self.program, chat) or self.on_lost is report_nothing:
            return
        lost = lost_of(chat)
        if lost:
            self.on_lost(lost)

    def decide(self, tokenized: TokenizedChat) -> MaskedRow:
        """Decides every token. Raises what `apply_program` raises."""
        return MaskedRow(tokenized=tokenized, mask=apply_program(self.program, tokenized), program=self.program)

    def finish(self, tokenized: TokenizedChat) -> MaskedRow:
        """Decides every token, and refuses a row with nothing to train if the policy says so."""
        row = self.decide(tokenized)
        if row.is_empty and self.program.setting("empty") == "error":
            raise nothing_to_train()
        self.on_masked([[row]])
        return row


def nothing_to_train() -> RowError:
    """The error of a row of which nothing is trained, under `on empty error`."""
    return RowError(
        "nothing of the row is trained, and the policy says `on empty error`",
        help="drop the row, or say `on empty drop`",
        code="PE516",
    )
