"""Takes a sample of masked rows through one step of a trainer and compares what arrives."""

from __future__ import annotations

import contextlib
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from policy_engine.core.choices import Denominator
from policy_engine.core.errors import ConfigError, PolicyEngineError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.doctor.compare import compare, dropped, explain_loss, trap
from policy_engine.doctor.examination import Examination
from policy_engine.doctor.runners import (
    COLLATORS,
    OWN_WEIGHTS,
    WEIGHTED,
    not_installed,
    runner_of,
    settings_read,
)
from policy_engine.doctor.samples import Document, Sample
from policy_engine.doctor.seen_documents import match, stretches
from policy_engine.doctor.steps import CLOSE, TakenStep, Task, by_hand, flat_settings
from policy_engine.doctor.tiny_vocabulary import TinyVocabulary


def examine(
    sample: Sample,
    trainer: str,
    *,
    settings: Mapping[str, Any] | None = None,
    collator: str = "padding",
    denominator: Denominator | None = None,
    tokenizer: Any = None,
) -> Examination:
    """One step of `trainer` over all rows of the sample, on the CPU, with a tiny random model.

    `settings` are the trainer's own. `collator` is for transformers (`COLLATORS`). With `denominator` the weighted loss
    of `weighted_trainer` is used; trainers of `OWN_WEIGHTS` take weights without. `tokenizer` (of transformers) says
    which ids pad and end sequences.

    Raises ConfigError if the trainer is not known or not installed, or has no weights and is asked for them.
    """
    run = runner_of(trainer)
    if collator not in COLLATORS:
        raise ConfigError(f"there is no collator `{collator}`", help=f"say one of {', '.join(COLLATORS)}")
    if denominator is not None and not sample.weighted:
        raise ConfigError("the data has no `loss_weights` to divide by", help="leave the denominator out")
    if denominator is not None and trainer in OWN_WEIGHTS:
        what = "sum of the weights" if OWN_WEIGHTS[trainer] == "weights" else "number of trained tokens"
        raise ConfigError(f"`{trainer}` divides by the {what} by itself", help="leave the denominator out")
    if denominator is not None and trainer not in WEIGHTED:
        raise ConfigError(f"`{trainer}` has no per-token weights", help=f"those that have: {', '.join(WEIGHTED)}")
    given = dict(settings or {})
    vocabulary = TinyVocabulary.of(sample.documents, tokenizer, pad=_pad_of(given, tokenizer))
    rows = [_renumbered(row, vocabulary) for row in sample.rows]
    # Trainers write configurations, caches and checkpoints: all of it goes with the folder.
    with tempfile.TemporaryDirectory() as folder:
        task = Task(
            sample=sample,
            vocabulary=vocabulary,
            rows=rows,
            settings=given,
            collator=collator,
            denominator=denominator,
            folder=folder,
        )
        try:
            with contextlib.redirect_stdout(sys.stderr):  # some trainers log to where the account goes
                step = run(task)
        except ImportError as error:
            raise not_installed(trainer, " ".join(str(error).split())) from error
        except Exception as error:  # whatever a trainer raises is its answer
            return _refused(sample, trainer, given, error)
    return _account(sample, trainer, step, vocabulary, denominator)


def _pad_of(settings: Mapping[str, Any], tokenizer: Any) -> int | None:
    flat = flat_settings(settings)
    named = flat.get("pad_token", flat.get("special_tokens.pad_token"))  # the latter is axolotl's name
    if named is None or tokenizer is None:
        return None
    found = tokenizer.convert_tokens_to_ids(named)
    return found if isinstance(found, int) else None


def _renumbered(row: Mapping[str, Any], vocabulary: TinyVocabulary) -> dict[str, Any]:
    made = dict(row)
    for name in ("input_ids", "labels"):
        if made.get(name) is not None:
            made[name] = vocabulary.encode(made[name])
    return made


def _base(sample: Sample, trainer: str) -> dict[str, Any]:
    return {
        "trainer": trainer,
        "rows": len(sample.rows),
        "documents": len(sample.documents),
        "tokens": sum(len(d.ids) for d in sample.documents),
        "trained": sum(label != IGNORE_INDEX for d in sample.documents for label in d.labels),
    }


def _refused(sample: Sample, trainer: str, settings: Mapping[str, Any], error: Exception) -> Examination:
    kind = "" if isinstance(error, PolicyEngineError) else f"{type(error).__name__}: "
    said = " ".join((error.message if isinstance(error, PolicyEngineError) else str(error)).split())
    # The help of `refused` is about columns that a collator does not pad; other errors say themselves what to do.
    ragged = any(text in said for text in _RAGGED)
    finding = trap("refused", trainer, f"{trainer} refuses the data or the settings: {kind}{said[:400]}")
    if not ragged or not finding.help:
        finding = replace(finding, help=getattr(error, "help", None) or "do what it says, or leave the setting out")
    found = [*sample.findings, finding]
    # True whatever the settings are, so it is reported beside the refusal.
    if sample.weighted and trainer not in (*WEIGHTED, *OWN_WEIGHTS):
        found.append(trap("weights-ignored", trainer, "the data has `loss_weights`, and the loss does not use them"))
    flat, listed = flat_settings(settings), settings_read(trainer)
    taken = dict(settings) if listed is None else {name: value for name, value in flat.items() if name in listed}
    return Examination(
        **_base(sample, trainer),
        version="",
        loss=None,
        by_hand=None,
        settings=taken,
        left_out=() if listed is None else tuple(sorted(set(flat) - set(taken))),
        findings=tuple(found),
    )


def _account(
    sample: Sample, trainer: str, step: TakenStep, vocabulary: TinyVocabulary, denominator: Denominator | None
) -> Examination:
    numbered = [replace(d, ids=vocabulary.encode(d.ids), labels=vocabulary.encode(d.labels)) for d in sample.documents]
    carried = sorted({name for document in numbered for name in document.carried})
    matched = match(stretches(step.batch, vocabulary.pad, carried), numbered)
    # Data may have weights that the step was not asked to use; then the loss by hand does without them as well.
    weighted = sample.weighted and (denominator is not None or trainer in OWN_WEIGHTS)
    there = [document for m in matched for document in m.documents]
    wanted = there if weighted else [replace(d, weights=None) for d in there]

    def hand(documents: Sequence[Document]) -> float:
        if step.by_hand is not None:
            return step.by_hand(documents)
        return by_hand(step.model, documents, divisor=denominator or OWN_WEIGHTS.get(trainer, "tokens"))

    expected = hand(wanted)
    findings = [*sample.findings, *compare(sample, trainer, matched, numbered, vocabulary)]
    if sample.weighted and not weighted:
        findings.append(trap("weights-ignored", trainer, "the data has `loss_weights`, and the loss does not use them"))
    # One cause, one finding: labels that differ explain a loss that differs.
    if not math.isclose(step.loss, expected, abs_tol=CLOSE) and not any(
        f.severity == "error" and f.code in _EXPLAINS for f in findings
    ):
        findings.append(explain_loss(trainer, step.loss, expected, matched, wanted, hand, weighted))
    findings += dropped(sample, step)
    return Examination(
        **_base(sample, trainer),
        version=step.version,
        loss=step.loss,
        by_hand=expected,
        checked={
            "documents of the batch": len(matched),
            "ids": sum(len(m.seen.ids) for m in matched),
            "labels": sum(len(m.seen.labels) for m in matched),
            "weights": sum(len(m.seen.weights or ()) for m in matched),
            "positions": sum(len(m.seen.positions or ()) for m in matched),
            "carried": sum(len(column) for m in matched for column in m.seen.carried.values()),
        },
        settings=step.settings,
        left_out=step.left_out,
        findings=tuple(findings),
    )


_RAGGED: Final = (
    "at dim 1",
    "Unable to create tensor",
    "must match the size of tensor",
    "zero-dimensional arrays cannot be concatenated",
)
"""Words of errors about columns that no tensor can be made of."""
_EXPLAINS: Final = frozenset(
    {"joined", "labels-ignored", "labels-changed", "pad-masked", "ids-changed", "cut", "shifted"}
)
"""Findings that say why a loss differs."""
