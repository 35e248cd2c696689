"""The rows that a trainer is given, their documents, and faults that are there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from policy_engine.core.errors import RowError
from policy_engine.core.habits import HABITS
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.data.prepared import CUT, MASK_COLUMNS, are_shifted, check_lengths, mask_of, own_columns, spans_of
from policy_engine.doctor.examination import Finding, Severity

_PER_TOKEN: Final = ("attention_mask", "loss_weights", "position_ids", *MASK_COLUMNS)
_WANTED: Final = {"input_ids": pa.int32(), "labels": pa.int32(), "loss_weights": pa.float32()}


@dataclass(frozen=True, kw_only=True)
class Document:
    """One conversation, as the data has it or as a batch does.

    Per token it has its id, its label (-100: no loss; the first one always) and its weight (0 where masked; None if the
    data has no weights). `row` is the row's place in the sample. `positions` are those of several conversations that
    see each other; None if it is alone, counted from 0. `carried` are columns of the data's own with a number per
    token, such as log-probabilities.
    """

    row: int
    ids: list[int]
    labels: list[int]
    weights: list[float] | None
    positions: list[int] | None = None
    carried: Mapping[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Rows for a trainer, columns as in the data.

    `documents` are in their order; `packed` is True if a row holds several.
    """

    rows: list[dict[str, Any]]
    documents: list[Document]
    mask_column: str
    findings: list[Finding]
    types: Mapping[str, pa.DataType]

    @property
    def packed(self) -> bool:
        """True if a row holds several documents."""
        return len({d.row for d in self.documents}) < len(self.documents)

    @property
    def weighted(self) -> bool:
        """True if the data has weights."""
        return any(d.weights is not None for d in self.documents)


def read_sample(rows: Sequence[tuple[int, Mapping[str, Any]]], types: Mapping[str, pa.DataType]) -> Sample:
    """Numbered rows of a masked dataset, and the types of its list columns as far as declared.

    Raises RowError for a row without ids or mask, or with columns of different lengths.

    >>> sample = read_sample([(1, {"input_ids": [5, 6, 7], "labels": [5, 6, -100]})], {})
    >>> sample.documents[0].labels, [finding.code for finding in sample.findings]
    ([-100, 6, -100], ['first-token'])
    """
    documents: list[Document] = []
    numbers = _carried([row for _, row in rows])
    first, shifted, rewritten, empty = [], [], [], []
    columns: set[str] = set()
    for place, (number, row) in enumerate(rows):
        ids, labels, trained, column = mask_of(row, number)
        columns.add(column)
        _same_lengths(row, number, len(ids))
        at = [i for i, flag in enumerate(trained) if flag]
        if not at:
            empty.append(number)
        # Shifted labels are not the ids' either: the sharper finding is the one to report.
        if are_shifted(ids, labels):
            shifted.append(number)
        elif any(labels[i] != ids[i] for i in at):
            rewritten.append(number)
        for start, end in spans_of(row, number, len(ids)):
            if labels[start] != IGNORE_INDEX:
                first.append(number)
            weights = row.get("loss_weights")
            documents.append(
                Document(
                    row=place,
                    ids=list(ids[start:end]),
                    # Nothing predicts the first token of a document, whatever its label says.
                    labels=[IGNORE_INDEX, *labels[start + 1 : end]],
                    weights=None if weights is None else [0.0, *map(float, weights[start + 1 : end])],
                    carried={name: list(map(float, row[name][start:end])) for name in numbers},
                )
            )
    if len(columns) > 1:
        raise RowError(
            f"rows say in different columns what is trained: {', '.join(sorted(columns))}", help="give all of them one"
        )
    findings = [
        *_found("first-token", "warning", first),
        *_found("shifted", "error", shifted),
        *_found("rewritten", "error", rewritten),
    ]
    # Some empty rows are usual; when every row is, there is nothing to learn from.
    if empty and len(empty) == len(rows):
        help = "there is nothing to learn from: `policy-engine show` prints what a policy trains"
        message = f"{HABITS['all-masked'].message}, in {_rows(empty)}"
        findings.append(Finding(code="all-masked", severity="error", message=message, help=help))
    else:
        findings += _found("all-masked", "warning", empty)
    mask_column = columns.pop() if columns else "labels"
    return Sample(
        rows=[dict(row) for _, row in rows],
        documents=documents,
        mask_column=mask_column,
        findings=[*findings, *_types(types)],
        types=types,
    )


def _carried(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Columns of the data's own that have a number for each token, in every row."""
    each = [own_columns(row, len(row.get("input_ids") or ())) for row in rows]
    return [name for name in (each[0] if each else []) if all(name in others for others in each)]


def _found(code: str, severity: Severity, rows: list[int]) -> list[Finding]:
    if not rows:
        return []
    habit = HABITS[code]
    message = f"{habit.message}, in {_rows(rows)}"
    return [Finding(code=code, severity=severity, message=message, help=habit.help)]


def _rows(numbers: Sequence[int]) -> str:
    different = sorted(set(numbers))
    named = ", ".join(map(str, different[:5]))
    return f"row {named}" if len(different) == 1 else f"rows {named}{', …' if len(different) > 5 else ''}"


def _same_lengths(row: Mapping[str, Any], number: int, size: int) -> None:
    help = f"{CUT}: cut all columns together, with `apply --max-length`"
    check_lengths(row, _PER_TOKEN, size, f"row {number}", help=help)


def _types(types: Mapping[str, pa.DataType]) -> list[Finding]:
    wrong = [f"`{n}` is {types[n]} ({t} does)" for n, t in _WANTED.items() if n in types and types[n] != t]
    # Wider integers are wasteful; ids that became floats break a step.
    floats = [n for n in ("input_ids", "labels") if n in types and not pa.types.is_integer(types[n])]
    if not wrong:
        return []
    return [
        Finding(
            code="types",
            severity="error" if floats else "warning",
            message="types drifted: " + ", ".join(wrong),
            help="declare the features: Python lists of numbers become int64 and float64",
        )
    ]
