"""Faults between a dataset's labels and a trainer's loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from policy_engine.core.habits import HABITS

Severity = Literal["error", "warning"]

TRAPS: Final[dict[str, str]] = {
    **{code: HABITS[code].message for code in ("first-token", "shifted", "rewritten", "all-masked")},
    "no-labels": "a mask says what is trained, and there is no column `labels`",
    "types": "columns of other types than are needed",
    "ids-changed": "the batch has documents that are not in the data",
    "cut": "the trainer cut documents",
    "rows-lost": "rows of the data did not reach the batch",
    "joined": "documents of a packed row see each other",
    "positions": "positions do not begin at 0 in each document",
    "labels-ignored": "every token is trained, whatever the labels say",
    "pad-masked": "labels of a token that is also the padding are masked",
    "labels-changed": "labels in the batch are not those of the data",
    "weights-ignored": "the weights do not reach the loss",
    "carried-changed": "numbers that the data carries per token are at other tokens in the batch",
    "columns-dropped": "columns of the data that do not reach the batch",
    "loss": "the loss is not that of the data's labels",
    "media": "media and their tokens do not agree in a batch",
    "refused": "the trainer refuses the data or the settings",
}
"""Code of each finding, and what it says."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One fault that was found.

    `code` is of `TRAPS`, `message` says what was seen, `help` what to set. An `error` changes what is trained; a
    `warning` does not, or not with these settings.
    """

    code: str
    severity: Severity
    message: str
    help: str


@dataclass(frozen=True, kw_only=True)
class Examination:
    """The account of one step. Losses are None where the trainer refused.

    `by_hand` is the masked cross entropy of the data's own labels, every document by itself; `loss` the trainer's.
    `checked` counts what was compared, by name; `settings` are those the trainer was given, and `left_out` keys of the
    configuration that say nothing about batch and loss.
    """

    trainer: str
    version: str
    rows: int
    documents: int
    tokens: int
    trained: int
    loss: float | None
    by_hand: float | None
    checked: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def holds(self) -> bool:
        """True if labels, weights and order survive.

        >>> counts = {"rows": 1, "documents": 1, "tokens": 9, "trained": 4}
        >>> Examination(trainer="trl", version="1.16", loss=2.5, by_hand=2.5, **counts).holds
        True
        """
        return not any(finding.severity == "error" for finding in self.findings)
