"""Columns of preferences by trainer, and which rows make them.

dpo      prompt_ids, chosen_ids, chosen_labels, rejected_ids, rejected_labels
kto      prompt_ids, completion_ids, completion_labels, label
reward   chosen_ids, rejected_ids
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.choices import PairColumns
from policy_engine.core.errors import ConfigError
from policy_engine.mask.row import LIST_TYPES, MEDIA_COLUMN, SAMPLE_COLUMNS
from policy_engine.mask.row_masker import RowMasker

PAIR_TYPES: Final[dict[PairColumns, dict[str, str]]] = {
    "dpo": dict.fromkeys(("prompt_ids", "chosen_ids", "chosen_labels", "rejected_ids", "rejected_labels"), "int32"),
    "kto": {**dict.fromkeys(("prompt_ids", "completion_ids", "completion_labels"), "int32"), "label": "bool"},
    # Reward models score whole conversations, so there is nothing to label.
    "reward": dict.fromkeys(("chosen_ids", "rejected_ids"), "int32"),
}
"""Columns by trainer, and the type of their numbers. All are lists, one number per token, but `label`."""
PAIR_NAMES: Final = frozenset(name for types in PAIR_TYPES.values() for name in types) - {"label"}
"""Columns of ids and labels that masked preferences have."""


def pair_types(trainer: PairColumns, tokenizer: ChatTokenizer, *, unrolled: bool) -> dict[str, str]:
    """The columns of rows for a trainer, and the type of their numbers.

    A processor adds `media`, and what it makes per token of the prompt: `prompt_mm_token_type_ids`. Unrolled samples
    have names (`SAMPLE_COLUMNS`).

    >>> from policy_engine.chat.loading import load_tokenizer
    >>> list(pair_types("kto", load_tokenizer("builtin"), unrolled=True))
    ['prompt_ids', 'completion_ids', 'completion_labels', 'label', 'turn', 'samples']
    """
    types = dict(PAIR_TYPES[trainer])
    if tokenizer.media is not None:
        types |= {f"prompt_{name}": LIST_TYPES[name] for name in tokenizer.media.columns}
        types[MEDIA_COLUMN] = "list"
    return types | dict.fromkeys(SAMPLE_COLUMNS, "int32") if unrolled else types


def columns_for(
    kind: str, wanted: PairColumns | None, masker: RowMasker, *, unrolls: bool, carry: Sequence[str] = ()
) -> PairColumns:
    """The trainer that rows of a format make columns for.

    Raises ConfigError where that trainer takes no such rows, and for what it cannot take: weights, unrolled samples,
    rows of a processor, numbers per token that `carry` names.

    >>> from policy_engine.mask.masker import Masker
    >>> from policy_engine.rules.compile import compile_text
    >>> masker = Masker(compile_text("train assistant"), "builtin")
    >>> columns_for("preference", None, masker.row_masker, unrolls=False)
    'dpo'
    >>> columns_for("unpaired_preference", None, masker.row_masker, unrolls=False)
    'kto'
    """
    if kind == "unpaired_preference" and wanted not in (None, "kto"):
        raise ConfigError(
            f"answers with a label make no columns for `{wanted}`, which needs pairs",
            help="leave it out, or say `--pairs kto` (`pairs: kto` in a dataset file)",
        )
    trainer: PairColumns = wanted or ("kto" if kind == "unpaired_preference" else "dpo")
    reason = _refused(trainer, masker, unrolls=unrolls)
    if carry:
        reason = f"their trainers take no numbers per token: take `carry: [{', '.join(carry)}]` out of the dataset file"
    if reason is not None:
        raise ConfigError("the rows are preferences", help=reason)
    return trainer


def _refused(trainer: PairColumns, masker: RowMasker, *, unrolls: bool) -> str | None:
    """The reason why a trainer does not take what a masker makes; None if it does."""
    if trainer == "reward":
        if unrolls:
            return "a reward model scores a conversation as a whole: leave out --unroll"
        if masker.program.is_weighted:
            return "the policy has weights, and a reward model has no loss per token: use a policy without"
        if masker.tokenizer.media is not None:
            return "TRL's reward trainer takes no pictures: give the tokenizer in place of the processor"
        return None
    if unrolls and trainer == "dpo":
        return (
            "a sample ends with one answer, and a pair needs two behind the same prompt: leave out --unroll, or make "
            "samples with a label of them (--pairs kto)"
        )
    if masker.program.is_weighted:
        return (
            "the policy has weights, and their trainers add up an answer's log-probabilities, each of which counts "
            "once: use a policy without"
        )
    return None
