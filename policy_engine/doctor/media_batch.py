"""Rows with media: the batch that `MediaCollator` makes of them, before the trainer's step.

The step itself is that of a small text model over the rows' ids, which have placeholders of the media. Its findings on
labels, weights and order hold for a model that sees the media, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from policy_engine.chat.media.processor import TOKEN_COLUMNS
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import ConfigError, PolicyEngineError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.doctor.examination import Finding
from policy_engine.doctor.samples import Sample
from policy_engine.mask.row import MEDIA_COLUMN


def has_media(sample: Sample) -> bool:
    """True if a row of the sample has an image, a sound or a video.

    >>> has_media(Sample(rows=[{"input_ids": [5]}], documents=[], mask_column="labels", findings=[], types={}))
    False
    """
    return any(row.get(MEDIA_COLUMN) for row in sample.rows)


def without_media(sample: Sample) -> Sample:
    """The sample with the columns that a text model takes."""
    left_out = {MEDIA_COLUMN, *TOKEN_COLUMNS}
    rows = [{name: value for name, value in row.items() if name not in left_out} for row in sample.rows]
    types = {name: kind for name, kind in sample.types.items() if name not in left_out}
    return replace(sample, rows=rows, types=types)


def compare_media(sample: Sample, tokenizer: ChatTokenizer | None) -> list[Finding]:
    """Faults of the batch that `MediaCollator` makes of the rows.

    Raises ConfigError where no processor is given, or torch is not installed.
    """
    if tokenizer is None or tokenizer.media is None:
        raise ConfigError(
            "rows have media, and no processor is given that makes their features",
            help="name the processor's folder with -t, and where the files are with --media-root",
        )
    from policy_engine.adapters.media import MediaCollator

    collator = MediaCollator(tokenizer.media.processor, options=tokenizer.media.options)
    try:
        batch = collator(sample.rows)
    except ImportError as error:
        raise ConfigError(f"features of media cannot be made: {error}", help="install what it names") from None
    except PolicyEngineError as error:
        return [_fault(error.message, error.help or "mask the rows again")]
    found = []
    if missing := _trained_placeholders(sample.rows, tokenizer.media_ids):
        what = f"row {missing} trains tokens in whose place the model puts what it sees"
        found.append(_fault(what, "mask the rows with a policy that says `never train media`"))
    for at, (row, labels) in enumerate(zip(sample.rows, batch["labels"].tolist())):
        own = list(row["labels"])
        # Behind the row's own labels there may only be padding.
        if labels[: len(own)] != own or any(label != IGNORE_INDEX for label in labels[len(own) :]):
            what = f"labels of row {at + 1} of the batch are not those of the data"
            found.append(_fault(what, "give rows as `apply` writes them"))
    return found


def _fault(message: str, help: str) -> Finding:
    return Finding(code="media", severity="error", message=message, help=help)


def _trained_placeholders(rows: Sequence[Mapping[str, Any]], marks: frozenset[int]) -> int | None:
    """The first row of the batch (from 1) with a trained placeholder.

    >>> _trained_placeholders([{"input_ids": [5, 9], "labels": [-100, 9]}], frozenset({9}))
    1
    """
    for at, row in enumerate(rows, 1):
        if any(i in marks and label != IGNORE_INDEX for i, label in zip(row["input_ids"], row["labels"])):
            return at
    return None
