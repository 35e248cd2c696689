"""One sample per turn, for templates that rewrite history.

Each answer is in the context that inference gives it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from policy_engine.chat.continuation import after_prompt
from policy_engine.chat.label.markers import delimiters_in
from policy_engine.chat.segments import RenderedChat, TokenizedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import PolicyEngineError, RowError
from policy_engine.core.vocabulary import MESSAGE_FIELDS
from policy_engine.data.conversation import Conversation
from policy_engine.mask.row import SAMPLE_COLUMNS, MaskedRow
from policy_engine.mask.row_masker import RowMasker
from policy_engine.mask.token_mask import TokenMask
from policy_engine.mask.unrendered import Lost, lost_of, refuse_unrendered


@dataclass(frozen=True, kw_only=True)
class UnrolledRow:
    """One sample of a conversation.

    `turns` are the messages it trains (from 0); the last one names it. `of` is the number of samples that the
    conversation became: divide weights by it, and the conversation counts once.
    """

    row: MaskedRow
    turns: tuple[int, ...]
    of: int

    @property
    def names(self) -> dict[str, int]:
        """The values of `SAMPLE_COLUMNS`."""
        return dict(zip(SAMPLE_COLUMNS, (self.turns[-1] if self.turns else -1, self.of)))


def unroll(conversation: Conversation, masker: RowMasker, *, first: int = 0) -> list[UnrolledRow]:
    """The samples of a conversation, in order.

    Together they train every turn that the policy trains, each once. Every sample of an answer starts with exactly the
    ids of the messages before it with `add_generation_prompt=True`; the policy decides on the whole conversation. A
    sample whose ids are the start of another's is not made: the other trains its turns too. So a template that leaves
    history as it was gives one sample, the whole conversation. Where nothing is trained there is no sample; under
    `on empty keep`, one that trains no turn. Turns before `first` get no sample: they are the prompt of a preference.

    Raises RowError if a turn, even as the last one, does not continue its generation prompt; else what `RowMasker.mask`
    raises.

    >>> from policy_engine.mask.masker import Masker
    >>> from policy_engine.rules.compile import compile_text
    >>> masker = Masker(compile_text("train assistant; train eos of assistant"), "builtin")
    >>> chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}] * 2
    >>> [sample.turns for sample in unroll(Conversation(messages=tuple(chat)), masker.row_masker)]
    [(1, 3)]
    """
    # Given ids are of one context, so no other sample can be made of them.
    if conversation.given is not None:
        return _of_given(conversation, masker, first)
    tokenizer = masker.tokenizer
    whole = tokenizer.encode(masker.settled(tokenizer.render(conversation)))
    # Turns of other roles may be trained too (`train user`).
    everywhere = {turn for turn in _trained(masker.decide(whole)) if turn >= first}
    asked = [
        turn
        for turn, message in enumerate(conversation.messages)
        # An answer is asked about even if the whole conversation trains nothing of it: the template may drop it there,
        # and writes it as the last turn.
        if turn in everywhere or (turn >= first and message["role"] in tokenizer.model_roles)
    ]
    found: list[tuple[MaskedRow, list[int]]] = []
    for turn in asked:
        row = masker.decide(_sample(conversation, turn, masker))
        if turn in _trained(row):
            # Only what is lost of the turn itself: history is as inference has it.
            _check_lost(masker, row.chat, turn)
            found.append((row, [turn]))
    if not found:
        return _of_nothing(masker.mask(conversation))  # raises under `on empty error`
    samples = _joined(found)
    if len(samples) == 1 and _starts(samples[0][0].tokenized, whole):
        # The whole conversation has the turns behind the last trained one too, as without unrolling.
        samples = [(masker.decide(whole), samples[0][1])]
    return [
        UnrolledRow(row=replace(row, mask=_only(row, turns)), turns=tuple(turns), of=len(samples))
        for row, turns in samples
    ]


def _of_given(conversation: Conversation, masker: RowMasker, first: int) -> list[UnrolledRow]:
    """The one sample of a row with given ids, whose context has to be that of each turn."""
    row = masker.mask(conversation)
    turns = tuple(sorted(turn for turn in _trained(row) if turn >= first))
    if not turns:
        return _of_nothing(row)
    assert conversation.given is not None
    # Turns that are given as ids are not rendered, so no template rewrites what is before them.
    for turn in turns if conversation.given.turns is None else ():
        if conversation.messages[turn]["role"] not in masker.tokenizer.model_roles or turn == 0:
            continue
        template = masker.tokenizer.template_for(conversation)
        if not row.chat.text.startswith(template.render(conversation.until(turn), add_generation_prompt=True).text):
            raise RowError(
                f"the ids of {conversation.given.source} are those of the whole conversation, in which the template "
                f"writes what is before message {turn} otherwise than for the model that was asked for it",
                help="give a row of its own for each turn, with the messages and ids up to it",
            )
    return [UnrolledRow(row=row, turns=turns, of=1)]


def _of_nothing(row: MaskedRow) -> list[UnrolledRow]:
    return [UnrolledRow(row=row, turns=(), of=1)] if row.program.setting("empty") == "keep" else []


def unrolling_writes(piece: str, tokenizer: ChatTokenizer, template_kwargs: Mapping[str, Any]) -> bool:
    """True if unrolled rows have thinking that the template does not write in every turn.

    `piece` is a lost piece of a message in words (`reasoning_content`, `thinking_blocks[0].text`; `reasoning` for
    thinking in the content, too), and False is the answer for one that is no thinking. A short conversation is rendered
    to find out.

    >>> from policy_engine.chat.loading import load_tokenizer
    >>> unrolling_writes("tool_calls[1]", load_tokenizer("builtin"), {})
    False
    """
    name = re.split(r"[.\[]", piece)[0]
    if MESSAGE_FIELDS.get(name) != "reasoning":
        return False
    answers: list[dict[str, Any]] = [{"content": "Four.", name: "Easy."}]
    if piece == "reasoning":
        pairs = delimiters_in(tokenizer.template.source)
        answers += [{"content": f"{open_}\nEasy.\n{close}\n\nFour."} for open_, close in pairs]
    return any(_is_unrolled(answer, tokenizer, template_kwargs) for answer in answers)


def _is_unrolled(answer: Mapping[str, Any], tokenizer: ChatTokenizer, template_kwargs: Mapping[str, Any]) -> bool:
    """True if an answer, behind its generation prompt, has all its thinking."""
    role = min(tokenizer.model_roles, default="assistant")
    messages = ({"role": "user", "content": "Two and two?"}, {"role": role, **answer})
    probe = Conversation(messages=messages, template_kwargs=dict(template_kwargs))
    try:
        template = tokenizer.template_for(probe)
        chat = after_prompt(template, probe, template.render(probe.until(1), add_generation_prompt=True))
    except PolicyEngineError:
        return False
    return chat is not None and not any(lost.turn == 1 and lost.kind == "reasoning" for lost in chat.unrendered)


def lost_fields(sample: UnrolledRow) -> Lost:
    """Fields of the messages a sample trains that never reached its text.

    What a template drops from the turns before them is what it drops at inference.
    """
    return lost_of(sample.row.chat, sample.turns)


def _joined(found: Sequence[tuple[MaskedRow, list[int]]]) -> list[tuple[MaskedRow, list[int]]]:
    """Samples of which no one is the start of another; their turns go to that other."""
    kept: list[tuple[MaskedRow, list[int]]] = []
    # From the last: it is the longest, and what it starts with needs no sample of its own.
    for row, turns in reversed(found):
        if kept and _starts(row.tokenized, kept[-1][0].tokenized):
            # In front, so that turns stay in order.
            kept[-1][1][:0] = turns
        else:
            kept.append((row, list(turns)))
    return kept[::-1]


def _starts(short: TokenizedChat, long: TokenizedChat) -> bool:
    return list(long.input_ids[: len(short.input_ids)]) == list(short.input_ids)


def _trained(row: MaskedRow) -> set[int]:
    mask = row.mask
    # By the segment of a token's first character, as the mask has it.
    turns = {row.chat.segments[i].turn for i in set(mask.segments_T[mask.weights_T != 0].tolist())}
    return {turn for turn in turns if turn is not None}


def _check_lost(masker: RowMasker, chat: RenderedChat, turn: int) -> None:
    own = tuple(unrendered for unrendered in chat.unrendered if unrendered.turn == turn)
    refuse_unrendered(masker.program, replace(chat, unrendered=own))


def _sample(conversation: Conversation, turn: int, masker: RowMasker) -> TokenizedChat:
    tokenizer = masker.tokenizer
    template = tokenizer.template_for(conversation)
    until = conversation.until(turn + 1)
    # The policy is asked about the whole conversation: `last assistant` is the last one there, not in this sample.
    if conversation.messages[turn]["role"] not in tokenizer.model_roles or turn == 0:
        return tokenizer.encode(replace(masker.settled(template.render(until)), messages=conversation.messages))
    before = conversation.until(turn)
    prompt = template.render(before, add_generation_prompt=True)
    # The answer as the last turn, with the prompt's own text in front of it.
    rendered = after_prompt(template, until, prompt)
    if rendered is None:
        raise RowError(
            f"message {turn} does not continue its generation prompt: the template writes it otherwise than the "
            "model would be asked for it",
            help="use a template that keeps what its generation prompt opens; thinking that it takes out has to be "
            "in the content, with its delimiters, as the model writes it",
        )
    ids = list(tokenizer.encode(prompt).input_ids)
    tokenized = tokenizer.encode(replace(masker.settled(rendered), messages=conversation.messages))
    # Checked by ids, not by text: a tokenizer may join the prompt's last character with the answer's first.
    if list(tokenized.input_ids[: len(ids)]) != ids:
        raise RowError(
            f"the tokens of the generation prompt before message {turn} merge with what the message begins with, so "
            "that inference would see others",
            help="strip blanks from the start of the content, or drop the row",
        )
    return tokenized


def _only(row: MaskedRow, turns: Sequence[int]) -> TokenMask:
    # Per segment first, as there are far fewer than tokens.
    own_S = np.array([segment.turn in turns for segment in row.chat.segments], dtype=bool)
    return row.mask.only(own_S[row.mask.segments_T])
