"""Differences between a batch and the data, each with a name and the setting to change."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.core.wording import counted
from policy_engine.doctor.examination import Finding, Severity
from policy_engine.doctor.samples import Document, Sample
from policy_engine.doctor.seen_documents import Matched
from policy_engine.doctor.steps import CLOSE, TakenStep
from policy_engine.doctor.tiny_vocabulary import TinyVocabulary
from policy_engine.mask.row import SAMPLE_COLUMNS

_HELP: Final[dict[str, dict[str, str]]] = {
    "joined": {
        "trl": "set `padding_free=True` and `max_length=None`",
        "transformers": "keep `position_ids` and give no `attention_mask` (in `doctor`: rows of `apply --pack`)",
        "llamafactory": "give it rows that are not packed: only a mask that counts documents keeps them apart",
        "torchtune": "give it rows that are not packed, and let it pack: `dataset.packed=true`",
        "axolotl": "give it rows that are not packed, and with `sample_packing` name an `attn_implementation`, such as "
        "`sdpa`: without one, its packs keep an attention mask",
        "": "keep the positions that begin again in each document, and give no attention mask beside them",
    },
    "cut": {
        "trl": "set `max_length=None`, and cut with `apply --max-length`: the trainer cuts ids and labels only",
        "torchtune": "set `dataset.split_across_pack=false`, and cut with `apply --max-length`",
        "": "cut with `apply --max-length`, which cuts all columns together",
    },
    "labels-ignored": {
        "trl": "give `labels`; a `completion_mask` counts only with `completion_only_loss=True`",
        "transformers": "use a collator that keeps labels: `PaddingCollator` or `DataCollatorForSeq2Seq`",
        "": "use a collator that keeps labels",
    },
    "weights-ignored": {
        "trl": "use `weighted_trainer(SFTTrainer, denominator=…)`: with `remove_unused_columns=False` and "
        "`PaddingCollator` where TRL neither packs nor cuts rows, else with the weights on the labels (`WeightCodes`)",
        "transformers": "use `weighted_trainer(Trainer, denominator=…)` and set `remove_unused_columns=False`",
        "swift": "leave `is_binary_loss_scale` and `label_smoothing_factor` out: with either it drops weights",
        "": "this trainer has no per-token weights: leave them out of the policy",
    },
    "ids-changed": {"": "give data that the trainer leaves alone, and packs of `apply --pack`"},
    "rows-lost": {"": "drop rows yourself (`on empty drop`), so that the count is known"},
    "positions": {"": "use a collator that makes them from `seq_lengths`, or keeps `position_ids`"},
    "pad-masked": {"": "give the tokenizer a padding token of its own, or use a collator that pads with -100"},
    "labels-changed": {"": "use a collator that only pads labels, with -100"},
    "carried-changed": {"": "mask the rows again, with `carry` in the dataset file; something moved the column"},
    "columns-dropped": {
        "": "only to be fixed if the loss needs them: `remove_unused_columns=False`, and a collator that pads"
    },
    "loss": {"": "look at the trainer's loss settings (smoothing, another loss, another denominator)"},
    "refused": {
        "transformers": "this collator does not pad labels: use `PaddingCollator` or `DataCollatorForSeq2Seq`",
        "trl": "this collator does not pad labels: use `PaddingCollator` or `DataCollatorForSeq2Seq`",
        "axolotl": "with `sample_packing` every column reaches its collator: leave weights out of the policy, and "
        "write with `--no-row-numbers`",
        "llamafactory": "its collator pads `input_ids`, `attention_mask` and `labels` and takes no other column: leave "
        "weights out of the policy, do not pack, and write with `--no-row-numbers`",
    },
}


_WARNINGS: Final = frozenset({"rows-lost", "columns-dropped"})


def trap(code: str, trainer: str, message: str) -> Finding:
    """A finding about a batch, with the trainer's own help where it has one.

    >>> trap("joined", "trl", "2 documents see each other").help
    'set `padding_free=True` and `max_length=None`'
    """
    known = _HELP[code]
    severity: Severity = "warning" if code in _WARNINGS else "error"
    return Finding(code=code, severity=severity, message=message, help=known.get(trainer, known.get("", "")))


def compare(
    sample: Sample,
    trainer: str,
    matched: Sequence[Matched],
    documents: Sequence[Document],
    vocabulary: TinyVocabulary,
) -> list[Finding]:
    """Compares documents, labels, weights and positions of a batch with the data's.

    All ids are of the vocabulary.
    """
    found: list[Finding] = []
    strange = [m for m in matched if not m.documents]
    if strange:
        what = "are not in the data: ids were changed, cut in the middle, or put in another order"
        found.append(trap("ids-changed", trainer, f"{counted(len(strange), 'document')} of the batch {what}"))
    cut = [m for m in matched if m.cut]
    if cut:
        found.append(trap("cut", trainer, f"the trainer cut {counted(len(cut), 'document')}"))
    joined = sum(len(m.documents) for m in matched if len(m.documents) > 1)
    if joined:
        found.append(trap("joined", trainer, f"{joined} documents of packed rows see each other in one sequence"))
    there = sum(len(m.documents) for m in matched)
    # With strange documents the lost ones may be among them, changed: then nothing is known of losses.
    if there < len(documents) and not strange:
        lost = f"{counted(len(documents) - there, 'document')} of {len(documents)} did not reach the batch"
        found.append(trap("rows-lost", trainer, lost))
    found += _labels(trainer, matched, vocabulary)
    found += _weights(trainer, matched)
    found += _carried(trainer, matched)
    # A cut document may rightly begin at another position.
    placed = [m for m in matched if m.seen.positions and not m.cut]
    wrong = [m for m in placed if m.seen.positions != list(range(len(m.seen.positions or ())))]
    if wrong:
        found.append(trap("positions", trainer, f"positions of {counted(len(wrong), 'document')} do not count from 0"))
    return found


def _labels(trainer: str, matched: Sequence[Matched], vocabulary: TinyVocabulary) -> list[Finding]:
    differing: list[tuple[int, int, int]] = []  # id, label in the data, label in the batch
    everything = True
    for m in matched:
        if not m.documents or m.cut:
            continue
        want = [label for d in m.documents for label in d.labels]
        # Nothing predicts the first token of a part.
        pairs = list(zip(m.seen.ids, want, m.seen.labels, strict=True))[1:]
        differing += [(i, w, s) for i, w, s in pairs if w != s]
        everything = everything and all(s == i or i == vocabulary.pad for i, _, s in pairs)
    if not differing:
        return []
    # Most telling first: a collator that copies ids into labels differs in every way below, too.
    if everything and any(w == IGNORE_INDEX for _, w, _ in differing):
        return [trap("labels-ignored", trainer, "every token of the batch is trained, whatever the data says")]
    if all(i == vocabulary.pad and s == IGNORE_INDEX for i, _, s in differing):
        what = "of the padding token are masked in the batch, though it is also an end marker that is trained"
        return [trap("pad-masked", trainer, f"{counted(len(differing), 'label')} {what}")]
    masked = sum(s == IGNORE_INDEX for _, _, s in differing)
    what = f"are not the data's: {masked} masked, {len(differing) - masked} trained or other ids"
    return [trap("labels-changed", trainer, f"{counted(len(differing), 'label')} of the batch {what}")]


def _weights(trainer: str, matched: Sequence[Matched]) -> list[Finding]:
    differing = 0
    for m in matched:
        if m.seen.weights is None or m.cut or not m.documents:
            continue
        want = [w for d in m.documents for w in (d.weights or [1.0] * len(d.ids))]
        # Weights are float32 in a batch: 0.1 comes back as 0.10000000149.
        differing += sum(abs(w - s) > 1e-6 for w, s in list(zip(want, m.seen.weights, strict=True))[1:])
    if not differing:
        return []
    return [trap("weights-ignored", trainer, f"{counted(differing, 'weight')} of the batch are not the data's")]


def _carried(trainer: str, matched: Sequence[Matched]) -> list[Finding]:
    """Compares columns of the data's own, bit for bit, wherever a token has loss."""
    differing: dict[str, int] = {}
    for m in matched:
        if m.cut or len(m.documents) != 1:
            continue
        (document,) = m.documents
        for name in m.seen.carried.keys() & document.carried.keys():
            want_T, seen_T = (np.array(column, np.float32) for column in (document.carried[name], m.seen.carried[name]))
            trained_T = np.array(document.labels) != IGNORE_INDEX
            differing[name] = differing.get(name, 0) + int((want_T != seen_T)[trained_T].sum())
    what = "are not at the tokens that they belong to"
    return [
        trap("carried-changed", trainer, f"{counted(number, 'number')} of `{name}` {what}")
        for name, number in sorted(differing.items())
        if number
    ]


def explain_loss(
    trainer: str,
    loss: float,
    expected: float,
    matched: Sequence[Matched],
    wanted: Sequence[Document],
    hand: Callable[[Sequence[Document]], float],
    weighted: bool,
) -> Finding:
    """The reason why a loss differs, if it can be found."""
    seen = [replace(m.seen, weights=m.seen.weights if weighted else None, positions=None) for m in matched]
    # Losses that a usual mistake would give: the one that is equal names the mistake.
    tries = {
        "of every token, trained or not": [replace(d, labels=[IGNORE_INDEX, *d.ids[1:]], weights=None) for d in wanted],
        "without weights": [replace(d, weights=None) for d in wanted],
        "of what is in the batch, whose labels differ": seen,
        "of the documents that a packed row has, read as one": [
            _read_as_one([d for d in wanted if d.row == row]) for row in sorted({d.row for d in wanted})
        ],
        "of the documents that a row of the batch has, read as one": [
            _read_as_one(
                [d for m in matched if m.seen.row == row for d in m.documents],
                [p for m in matched if m.seen.row == row for p in m.seen.positions or range(len(m.seen.ids))],
            )
            for row in sorted({m.seen.row for m in matched})
            if not any(m.cut for m in matched)
        ],
    }
    what = next((name for name, documents in tries.items() if math.isclose(loss, hand(documents), abs_tol=CLOSE)), None)
    if what == "without weights":
        return trap("weights-ignored", trainer, f"the trainer's loss, {loss:.6f}, is the loss without weights")
    message = f"the trainer's loss is {loss:.6f}, by hand it is {expected:.6f}"
    message += f"; it is the loss {what}" if what else ""
    if what is not None and "read as one" in what:
        return trap("joined", trainer, message)
    return trap("loss", trainer, message)


def _read_as_one(documents: Sequence[Document], positions: list[int] | None = None) -> Document:
    return Document(
        row=0,
        ids=[i for d in documents for i in d.ids],
        labels=[label for d in documents for label in d.labels],
        weights=[w for d in documents for w in d.weights or ()] or None,
        positions=positions,
    )


def dropped(sample: Sample, step: TakenStep) -> list[Finding]:
    """Columns of the data that are missing in the batch.

    Those whose absence means nothing, or is reported elsewhere, are left out; so are the numbers of rows and samples
    that `apply` writes for people, which no loss needs.
    """
    given = {name for row in sample.rows for name in row}
    missing = sorted(given - set(step.batch) - {"input_ids", "labels", "attention_mask", "seq_lengths", "position_ids"})
    known = {"loss_weights", "row", *SAMPLE_COLUMNS, sample.mask_column}
    missing = [name for name in missing if name not in known]
    if not missing:
        return []
    return [trap("columns-dropped", "", f"not in the batch: {', '.join(f'`{name}`' for name in missing)}")]
