"""Preferences masked: both answers by one policy, behind a prompt of the same ids.

    prompt            <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎      prompt_ids
    chosen            Hello<|im_end|>⏎                                        chosen_ids, chosen_labels
    rejected          What?<|im_end|>⏎                                        rejected_ids, rejected_labels

An answer of several turns carries loss where the policy says: results of tools and users in it do not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.chat.segments import RenderedChat
from policy_engine.core.choices import PairColumns
from policy_engine.core.errors import ConfigError, PolicyEngineError, RowError
from policy_engine.data.conversation import Conversation
from policy_engine.data.formats import Format
from policy_engine.data.pairs import Judged, Pair, read_judged
from policy_engine.mask.batch import Sample, attempt, mask_rows
from policy_engine.mask.labels import labels_of
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.row_masker import RowMasker, nothing_to_train
from policy_engine.mask.unrendered import lost_of

PAIR_TYPES: Final[dict[PairColumns, dict[str, str]]] = {
    "dpo": dict.fromkeys(("prompt_ids", "chosen_ids", "chosen_labels", "rejected_ids", "rejected_labels"), "int32"),
    "kto": {**dict.fromkeys(("prompt_ids", "completion_ids", "completion_labels"), "int32"), "label": "bool"},
    # Reward models score whole conversations, so there is nothing to label.
    "reward": dict.fromkeys(("chosen_ids", "rejected_ids"), "int32"),
}
"""Columns by trainer, and the type of their numbers. All are lists, one number per token, but `label`."""
_EXCERPT: Final = 40


@dataclass(frozen=True, kw_only=True)
class MaskedAnswer:
    """One conversation whose first `prompt` tokens are the prompt, and the rest an answer to it."""

    row: MaskedRow
    prompt: int

    @property
    def prompt_ids(self) -> npt.NDArray[np.int32]:
        """Ids of the prompt, with what opens the answer."""
        return self.row.tokenized.ids_T[: self.prompt]

    @property
    def ids(self) -> npt.NDArray[np.int32]:
        """Ids of the answer."""
        return self.row.tokenized.ids_T[self.prompt :]

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """Labels of the answer: its trained ids, -100 elsewhere."""
        labels: npt.NDArray[np.int32] = labels_of(self.row.tokenized.ids_T, self.row.mask)[self.prompt :]
        return labels

    @property
    def is_empty(self) -> bool:
        """True if nothing of the answer is trained."""
        return not self.row.mask.weights_T[self.prompt :].any()


@dataclass(frozen=True, kw_only=True)
class MaskedPair(Mapping[str, Any]):
    """A pair masked: the preferred answer, and the other. Both have the same prompt.

    Also a mapping of the columns that TRL's DPO trainer takes, and the labels beside them: `pair["chosen_labels"]`,
    `dict(pair)`.

    >>> from policy_engine.mask.masker import Masker
    >>> from policy_engine.rules.compile import compile_text
    >>> masker = Masker(compile_text("train assistant; train eos after assistant"), "builtin")
    >>> pair = masker.pair(prompt="Hi", chosen="Hello", rejected="What?")
    >>> pair
    <MaskedPair: 9 tokens of prompt, chosen 3 tokens (2 trained), rejected 4 tokens (3 trained)>
    >>> list(pair)
    ['prompt_ids', 'chosen_ids', 'chosen_labels', 'rejected_ids', 'rejected_labels']
    """

    chosen: MaskedAnswer
    rejected: MaskedAnswer

    @property
    def answers(self) -> tuple[MaskedAnswer, ...]:
        """Both answers."""
        return self.chosen, self.rejected

    def columns(self, trainer: PairColumns) -> list[dict[str, Any]]:
        """The rows that the pair becomes for a trainer, as arrays: two for `kto`, else one."""
        if trainer == "kto":
            return [_completion(self.chosen, wanted=True), _completion(self.rejected, wanted=False)]
        # Both whole, prompt included, as the trainer scores them.
        if trainer == "reward":
            return [{"chosen_ids": self.chosen.row.tokenized.ids_T, "rejected_ids": self.rejected.row.tokenized.ids_T}]
        return [
            {
                "prompt_ids": self.chosen.prompt_ids,
                "chosen_ids": self.chosen.ids,
                "chosen_labels": self.chosen.labels,
                "rejected_ids": self.rejected.ids,
                "rejected_labels": self.rejected.labels,
            }
        ]

    @property
    def _names(self) -> list[str]:
        """Names of the columns."""
        return list(PAIR_TYPES["dpo"])

    def __getitem__(self, key: str) -> list[int]:
        found: list[int] = self.columns("dpo")[0][key].tolist()
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        sizes = [f"{len(a.ids)} tokens ({int((a.labels >= 0).sum())} trained)" for a in self.answers]
        return f"<MaskedPair: {self.chosen.prompt} tokens of prompt, chosen {sizes[0]}, rejected {sizes[1]}>"


@dataclass(frozen=True, kw_only=True)
class MaskedJudgement:
    """An answer masked, and whether it is wanted."""

    answer: MaskedAnswer
    label: bool

    @property
    def answers(self) -> tuple[MaskedAnswer, ...]:
        """The answer."""
        return (self.answer,)

    def columns(self, trainer: PairColumns) -> list[dict[str, Any]]:
        """The row for TRL's KTO trainer, as arrays."""
        # `columns_for` has refused the others for answers with a label.
        assert trainer == "kto"
        return [_completion(self.answer, wanted=self.label)]


Preference = MaskedPair | MaskedJudgement


def _completion(answer: MaskedAnswer, *, wanted: bool) -> dict[str, Any]:
    return {
        "prompt_ids": answer.prompt_ids,
        "completion_ids": answer.ids,
        "completion_labels": answer.labels,
        # An array as the other columns are, so that one writer serves all of them.
        "label": np.array([wanted]),
    }


def columns_for(kind: str, wanted: PairColumns | None, masker: RowMasker, *, unrolls: bool) -> PairColumns:
    """The trainer that rows of a format make columns for.

    Raises ConfigError where that trainer takes no such rows, and for what no trainer of preferences takes: weights,
    unrolled samples, and rows of a processor.

    >>> from policy_engine.mask.masker import Masker
    >>> from policy_engine.rules.compile import compile_text
    >>> masker = Masker(compile_text("train assistant"), "builtin")
    >>> columns_for("preference", None, masker.row_masker, unrolls=False)
    'dpo'
    >>> columns_for("unpaired_preference", None, masker.row_masker, unrolls=False)
    'kto'
    """
    reason = None
    if unrolls:
        reason = "samples of one turn are not made of them: leave out --unroll"
    elif masker.program.is_weighted:
        reason = "the policy has weights, and their trainers add up log-probabilities: use a policy without"
    elif masker.tokenizer.media is not None:
        reason = "they have no columns for media: give the tokenizer in place of the processor"
    if reason is not None:
        raise ConfigError("the rows are preferences", help=reason)
    if kind == "unpaired_preference" and wanted not in (None, "kto"):
        raise ConfigError(
            f"answers with a label make no columns for `{wanted}`, which needs pairs",
            help="leave out `pairs`, or say `pairs: kto`",
        )
    return wanted or ("kto" if kind == "unpaired_preference" else "dpo")


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


def join_answers(made: Pair | Judged, rows: Sequence[MaskedRow | PolicyEngineError]) -> Preference:
    """The preference of conversations that are masked already.

    `rows` are the chosen and the rejected one, or the only one. Raises the error of a row, and RowError where the
    prompt's ids are not those of both.
    """
    if isinstance(made, Pair):
        chosen, rejected = rows
        return _pair(made.shared, chosen, rejected)
    return _judgement(made.shared, rows[0], made.label)


def samples_of(made: Preference) -> list[Sample]:
    """The masked conversations of a preference; what the prompt of both lost is with the first."""
    first, *others = made.answers
    samples = [Sample(first.row, {}, lost_of(first.row.chat))]
    for answer in others:
        lost, messages = lost_of(answer.row.chat), answer.row.chat.messages
        if lost:
            pairs = zip(first.row.chat.messages, messages)
            # One answer may be the beginning of the other.
            shared = next((turn for turn, (a, b) in enumerate(pairs) if a != b), len(first.row.chat.messages))
            lost = lost_of(answer.row.chat, range(shared, len(messages)))
            # Tools and columns are those of the row.
            lost = Counter({key: count for key, count in lost.items() if key[0]})
        samples.append(Sample(answer.row, {}, lost))
    return samples


def with_rows(made: Preference, rows: Sequence[MaskedRow], *, start: int = 0) -> Preference | None:
    """The same with truncated rows; None if an answer or the prompt has no token left.

    `start` is how many tokens were cut off the prompt.
    """
    answers = [
        replace(answer, row=row, prompt=answer.prompt - start) for answer, row in zip(made.answers, rows, strict=True)
    ]
    # A trainer of preferences adds up an answer's log-probabilities, and an answer without tokens has no sum. Nothing
    # predicts an answer's first token where no prompt is before it.
    if any((start and answer.prompt < 1) or len(answer.ids) == 0 for answer in answers):
        return None
    if isinstance(made, MaskedPair):
        return replace(made, chosen=answers[0], rejected=answers[1])
    return replace(made, answer=answers[0])


def _judgement(shared: int, row: MaskedRow | PolicyEngineError, label: bool) -> MaskedJudgement:
    if isinstance(row, PolicyEngineError):
        raise row
    return MaskedJudgement(answer=_answer(row, _Prompt(row, shared).most), label=label)


def _answer(row: MaskedRow, prompt: int) -> MaskedAnswer:
    """An answer that alone is trained: what a policy trains in the prompt carries no loss."""
    mask = row.mask
    # What is masked in the prompt keeps its own reason; only what was trained becomes `structural`.
    own_T = (np.arange(len(mask.weights_T)) >= prompt) | (mask.weights_T == 0)
    return MaskedAnswer(row=replace(row, mask=mask.only(own_T)), prompt=prompt)


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
        begin = min((s.start for s in answer if s.part != "header"), default=len(chat.text))
        ends_T = row.tokenized.ends_T
        # Ends never decrease, so this counts the tokens that end by that character.
        self.least = int(np.searchsorted(ends_T, self.end, side="right"))
        self.most = int(np.searchsorted(ends_T, begin, side="right"))

    @property
    def text(self) -> str:
        return self.chat.text[: self.end]


def _check_texts(first: _Prompt, second: _Prompt) -> None:
    if first.text != second.text:
        pairs = enumerate(zip(first.text, second.text))
        raise _parted(first, second, next((i for i, (a, b) in pairs if a != b), min(first.end, second.end)))


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


def mask_pair(given: Mapping[str, Any], spec: Format, beside: Mapping[str, Any], masker: RowMasker) -> MaskedPair:
    """Masks one pair that is given with its tools and sample, `beside` it.

    Raises what reading and masking raise.
    """
    read = read_judged(given, spec)
    assert isinstance(read, Pair)
    # Tools and sample are given as objects, so they do not come from columns of the row.
    read = replace(read, chosen=replace(read.chosen, **beside), rejected=replace(read.rejected, **beside))
    made = mask_preferences([read], masker)[0]
    if isinstance(made, PolicyEngineError):
        raise made
    assert isinstance(made, MaskedPair)
    return made


def preference_rows(
    rows: Sequence[Mapping[str, Any]], spec: Format, masker: RowMasker, columns: PairColumns
) -> Iterator[list[Mapping[str, Any]] | PolicyEngineError]:
    """The columns of the samples that each row becomes, under `on empty`."""
    setting = masker.program.setting("empty")
    for made in mask_preferences([attempt(read_judged, row, spec) for row in rows], masker):
        if isinstance(made, PolicyEngineError):
            yield made
        # One empty answer is enough: a pair of which one side carries no loss teaches nothing about the other.
        elif setting != "keep" and any(answer.is_empty for answer in made.answers):
            yield nothing_to_train() if setting == "error" else []
        else:
            yield [
                {name: bool(value[0]) if name == "label" else value for name, value in row.items()}
                for row in made.columns(columns)
            ]
