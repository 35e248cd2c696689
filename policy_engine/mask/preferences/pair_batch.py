"""Rows of preferences as the columns of a trainer, for `Masker.batch` and `Masker.pair`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from policy_engine.core.choices import PairColumns
from policy_engine.core.errors import PolicyEngineError
from policy_engine.data.formats import Format
from policy_engine.data.pairs import Pair, read_judged
from policy_engine.mask.batch import attempt
from policy_engine.mask.preferences.answers import MaskedPair
from policy_engine.mask.preferences.join import mask_all_preferences, mask_preferences
from policy_engine.mask.row import SAMPLE_COLUMNS
from policy_engine.mask.row_masker import RowMasker, nothing_to_train


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
    rows: Sequence[Mapping[str, Any]], spec: Format, masker: RowMasker, columns: PairColumns, *, unrolled: bool
) -> Iterator[list[Mapping[str, Any]] | PolicyEngineError]:
    """The columns of the samples that each row becomes, under `on empty`."""
    setting = masker.program.setting("empty")
    read = [attempt(read_judged, row, spec) for row in rows]
    for made in mask_all_preferences(read, masker, unrolled=unrolled):
        if isinstance(made, PolicyEngineError):
            yield made
            continue
        # One empty answer is enough: a pair of which one side carries no loss teaches nothing about the other.
        kept = [one for one in made if setting == "keep" or not any(answer.is_empty for answer in one.answers)]
        if not kept and setting == "error":
            yield nothing_to_train()
        else:
            yield [
                {name: _scalar(name, value) for name, value in row.items()}
                for one in kept
                for row in one.columns(columns)
            ]


def _scalar(name: str, value: Any) -> Any:
    """The values of columns that have one number a row, out of their arrays; lists as they are."""
    return bool(value[0]) if name == "label" else int(value[0]) if name in SAMPLE_COLUMNS else value
