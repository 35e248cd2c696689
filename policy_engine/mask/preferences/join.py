"""Conversations masked and joined to preferences, whose prompts have to have the same ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from policy_engine.chat.segments import RenderedChat
from policy_engine.core.errors import MediaError, PolicyEngineError, RowError
from policy_engine.core.source import common_prefix
from policy_engine.data.conversation import Conversation
from policy_engine.data.pairs import Judged, Pair
from policy_engine.mask.batch import attempt, mask_rows
from policy_engine.mask.preferences.answers import MaskedAnswer, MaskedJudgement, MaskedPair, Preference
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.row_masker import RowMasker
from policy_engine.mask.unroll import unroll

_EXCERPT: Final = 40


def mask_preferences(
    preferences: Sequence[Pair | Judged | PolicyEngineError], masker: RowMasker
) -> list[Preference | PolicyEngineError]:
    """Masks preferences with one tokenizer call. A row that fails is its error, in its place.

    Raises BackendMismatch.
    """
    sides: list[Conversation] = []
    for made in preferences:
        if isinstance(made, Pair):
            sides += (made.chosen, made.rejected)
        elif isinstance(made, Judged):
            sides.append(made.conversation)
    # In the order of `sides`: two for each pair, one for each judged answer, so that `joined` takes its own from the
    # front.
    rows = iter(mask_rows(sides, masker))

    def joined(made: Pair | Judged | PolicyEngineError) -> Preference | PolicyEngineError:
        if isinstance(made, PolicyEngineError):
            return made
        # The rows are taken before `attempt` runs, so that each preference takes its own even if joining them fails.
        return attempt(join_answers, made, [next(rows) for _ in range(2 if isinstance(made, Pair) else 1)])

    return [joined(made) for made in preferences]


def mask_all_preferences(
    preferences: Sequence[Pair | Judged | PolicyEngineError], masker: RowMasker, *, unrolled: bool
) -> Sequence[Sequence[Preference] | PolicyEngineError]:
    """The masked preferences of each row: one, or if unrolled those of `unroll_answers`.

    Raises BackendMismatch.
    """
    if not unrolled:
        made = mask_preferences(preferences, masker)
        return [one if isinstance(one, PolicyEngineError) else [one] for one in made]
    return [p if isinstance(p, PolicyEngineError) else attempt(unroll_answers, p, masker) for p in preferences]


def join_answers(made: Pair | Judged, rows: Sequence[MaskedRow | PolicyEngineError]) -> Preference:
    """The preference of conversations that are masked already.

    `rows` are the chosen and the rejected one, or the only one. Raises the error of a row, and RowError where the
    prompt's ids are not those of both.
    """
    if isinstance(made, Pair):
        chosen, rejected = rows
        return _pair(made.shared, chosen, rejected)
    return _judgement(made.shared, rows[0], made.label)


def unroll_answers(made: Pair | Judged, masker: RowMasker) -> list[MaskedJudgement]:
    """The samples of a preference, one for each turn that is trained, for trainers of labels.

    Each is the answer of a prompt of its own, as in `policy_engine.mask.unroll`, and has the label of the whole. The
    turns of the prompt get no sample. A pair of which one side has no sample has no samples, under every `on empty`.

    Raises what `unroll` raises.
    """
    if isinstance(made, Judged):
        return _turns(made.conversation, made.shared, made.label, masker)
    sides = []
    for side, conversation in (("chosen", made.chosen), ("rejected", made.rejected)):
        try:
            sides.append(_turns(conversation, made.shared, side == "chosen", masker))
        except PolicyEngineError as error:
            raise error.reworded(f"`{side}`: {error.message}") from error
    return [sample for samples in sides for sample in samples] if all(sides) else []


def _turns(conversation: Conversation, shared: int, label: bool, masker: RowMasker) -> list[MaskedJudgement]:
    return [
        MaskedJudgement(
            answer=_answer(sample.row, _Prompt(sample.row, min(sample.turns, default=shared)).most),
            label=label,
            turns=sample.turns,
            of=sample.of,
        )
        for sample in unroll(conversation, masker, first=shared)
    ]


def _judgement(shared: int, row: MaskedRow | PolicyEngineError, label: bool) -> MaskedJudgement:
    if isinstance(row, PolicyEngineError):
        raise row
    return MaskedJudgement(answer=_answer(row, _Prompt(row, shared).most), label=label)


def _answer(row: MaskedRow, prompt: int) -> MaskedAnswer:
    """An answer that alone is trained: what a policy trains in the prompt carries no loss.

    Raises MediaError for an answer with media.
    """
    mask = row.mask
    outside = next((m for m in row.tokenized.media or () if m.first + m.count > prompt), None)
    if outside is not None:
        raise MediaError(
            f"the {outside.in_words} of message {outside.turn} is in the answer, and trainers of preferences take "
            "media of the prompt only",
            help="let the prompt end behind it, or drop the row",
            code="PE531",
        )
    return MaskedAnswer(row=replace(row, mask=mask.only(np.arange(len(mask.weights_T)) >= prompt)), prompt=prompt)


def _pair(shared: int, chosen: MaskedRow | PolicyEngineError, rejected: MaskedRow | PolicyEngineError) -> MaskedPair:
    for side, row in (("chosen", chosen), ("rejected", rejected)):
        if isinstance(row, PolicyEngineError):
            # A pair is one row of the data, so the error has to say which answer failed.
            raise row.reworded(f"`{side}`: {row.message}") from row
    assert isinstance(chosen, MaskedRow)
    assert isinstance(rejected, MaskedRow)
    first, second = _Prompt(chosen, shared), _Prompt(rejected, shared)
    # Texts before ids: where they differ, the error shows the words, which say more than tokens.
    _check_texts(first, second)
    ids, others = chosen.tokenized.ids_T, rejected.tokenized.ids_T
    # Tokens may merge over the end of the prompt, with one answer and not with the other.
    least, most = min(first.least, second.least), min(first.most, second.most)
    wrong = np.flatnonzero(ids[:least] != others[:least])
    if len(wrong):
        raise _parted(first, second, int(chosen.tokenized.starts_T[wrong[0]]), token=int(wrong[0]))
    # What opens the answer is of the prompt as far as it is the same: it is what a generation prompt supplies.
    differing = np.flatnonzero(ids[least:most] != others[least:most])
    prompt = least + int(differing[0]) if len(differing) else most
    return MaskedPair(chosen=_answer(chosen, prompt), rejected=_answer(rejected, prompt))


class _Prompt:
    """The prompt of a masked conversation.

    `end` is the character where its messages end. `least` tokens lie before that, and `most` before the first
    character that the answer's author writes.
    """

    def __init__(self, row: MaskedRow, shared: int) -> None:
        chat = row.chat
        answer = [s for s in chat.segments if s.turn is not None and s.turn >= shared]
        self.chat = chat
        self.end = min((s.start for s in answer), default=len(chat.text))
        # The header of the answer is prompt at inference too: the generation prompt supplies it.
        start = min((s.start for s in answer if s.part != "header"), default=len(chat.text))
        ends_T = row.tokenized.ends_T
        # Ends never decrease, so this counts the tokens that end by that character.
        self.least = int(np.searchsorted(ends_T, self.end, side="right"))
        self.most = int(np.searchsorted(ends_T, start, side="right"))

    @property
    def text(self) -> str:
        return self.chat.text[: self.end]


def _check_texts(first: _Prompt, second: _Prompt) -> None:
    if first.text != second.text:
        raise _parted(first, second, common_prefix(first.text, second.text))


def _parted(first: _Prompt, second: _Prompt, at: int, token: int | None = None) -> RowError:
    where = "the prompt" if (turn := _turn_at(first.chat, at)) is None else f"message {turn} of the prompt"
    # A few characters before the difference show where it is; line breaks would break the message.
    texts = [f"`{p.chat.text[max(0, at - 8) : at + _EXCERPT]}`".replace("\n", "↵") for p in (first, second)]
    place = f"at character {at}" if token is None else f"at token {token}"
    return RowError(
        f"both answers need the same prompt, and {where} is not: {place} it is {texts[0]} before the chosen answer and "
        f"{texts[1]} before the rejected one",
        help="use a template that writes a message the same way whatever follows it (many take thinking out of all "
        "turns but the last), or drop the row",
        code="PE533",
    )


def _turn_at(chat: RenderedChat, at: int) -> int | None:
    return next((s.turn for s in chat.segments if s.start <= at < s.end), None)
