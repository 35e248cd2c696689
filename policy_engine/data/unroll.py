"""One sample per trained turn, for templates that rewrite history."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from policy_engine.chat.conversation import Conversation
from policy_engine.chat.segments import TokenizedChat
from policy_engine.core.errors import RowError
from policy_engine.mask.apply import apply_program
from policy_engine.mask.masker import Masker
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.token_mask import REASONS, TokenMask

__all__ = ["UnrolledRow", "unroll"]


@dataclass(frozen=True, kw_only=True)
class UnrolledRow:
    """One sample of a conversation.

    `turn` is the index of the message it trains, None for the whole conversation; `of` the number of samples that the
    conversation became, by which weights can be divided so that it counts once.
    """

    row: MaskedRow
    turn: int | None
    of: int


def unroll(conversation: Conversation, masker: Masker) -> list[UnrolledRow]:
    """The samples of a conversation, each trained turn in the context that inference gives it.

    Every sample of an assistant turn starts with exactly the ids of the messages before it with
    `add_generation_prompt=True`, and trains only its own turn; the policy decides on the whole conversation.
    Where the template leaves history as it was, the whole conversation is the one sample. Nothing trained gives none.

    Raises RowError if a turn, even as the last one, does not continue its generation prompt; else what `Masker.mask`
    raises.
    """
    whole = masker.mask(conversation)
    samples = {turn: _sample(conversation, turn, whole, masker) for turn in _trained_turns(whole.tokenized, whole.mask)}
    if all(whole.input_ids[: len(row.input_ids)] == row.input_ids for row in samples.values()):
        return [UnrolledRow(row=whole, turn=None, of=1)] if samples else []
    return [UnrolledRow(row=row, turn=turn, of=len(samples)) for turn, row in samples.items()]


def _trained_turns(tokenized: TokenizedChat, mask: TokenMask) -> list[int]:
    segments = tokenized.chat.segments
    turns = {segments[i].turn for i in mask.segments_T[mask.weights_T != 0].tolist()}
    return sorted(turn for turn in turns if turn is not None)


def _sample(conversation: Conversation, turn: int, whole: MaskedRow, masker: Masker) -> MaskedRow:
    tokenizer = masker.tokenizer
    template = tokenizer.template_for(conversation)
    before = replace(conversation, messages=conversation.messages[:turn])
    until = replace(conversation, messages=conversation.messages[: turn + 1])
    prompted = conversation.messages[turn]["role"] in tokenizer.model_roles
    rendered = template.render(until)
    # The policy is asked about the whole conversation: `last assistant` is the last one there, not in this sample.
    tokenized = tokenizer.encode(replace(rendered, messages=whole.chat.messages))
    if prompted:
        prompt = tokenizer.encode(template.render(before, add_generation_prompt=True)).input_ids
        if tokenized.input_ids[: len(prompt)] != prompt:
            raise RowError(
                f"message {turn} does not continue its generation prompt: the template writes it otherwise than the "
                "model would be asked for it",
                help="use a template that keeps what its generation prompt opens",
            )
    mask = apply_program(masker.program, tokenized)
    own_T = np.array([rendered.segments[i].turn == turn for i in mask.segments_T.tolist()], dtype=bool)
    only = TokenMask(
        weights_T=np.where(own_T, mask.weights_T, np.float32(0)),
        rules_T=np.where(own_T, mask.rules_T, np.int16(-1)),
        reasons_T=np.where(own_T, mask.reasons_T, np.int8(REASONS.index("structural"))),
        segments_T=mask.segments_T,
    )
    return MaskedRow(tokenized=tokenized, mask=only, program=masker.program)
