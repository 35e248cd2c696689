"""The fates of a row under two maskings, counted: written, dropped or failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.source import Place
from policy_engine.mask.row import MaskedRow
from policy_engine.rules.program import Program

_FAILURES: Final = 5
"""Failed rows that are kept in full."""

Fate = Literal["masked", "empty", "failed"]
"""The fates of a row: it is masked, it is dropped since nothing of it is trained, or it fails."""

FATES: Final[dict[Fate, str]] = {"masked": "written", "empty": "dropped, nothing to train", "failed": "fails"}
"""Fates in words."""


@dataclass(kw_only=True)
class RowFates:
    """Counts over rows that were masked twice, by `old` and by `new`.

    Of those that change, the first `most` are listed.
    """

    old: Program
    new: Program
    most: int
    description: str = ""
    rows: int = 0
    rows_changed: int = 0
    fates: dict[tuple[Fate, Fate], int] = field(default_factory=dict)
    """Rows by what became of them on either side."""
    failures: list[tuple[Place, PolicyEngineError]] = field(default_factory=list)

    only: ClassVar[str] = "under the {} policy only"
    """Words for what happens on one side, the old or the new one."""

    @property
    def failed(self) -> int:
        """Rows that fail on both sides, so that nothing can be said of them."""
        return self.fates.get(("failed", "failed"), 0)

    def count(
        self, place: Place, old: MaskedRow | PolicyEngineError, new: MaskedRow | PolicyEngineError
    ) -> tuple[Fate, Fate]:
        """Counts a row, and gives its two fates."""
        self.rows += 1
        fates = _fate(old, self.old), _fate(new, self.new)
        self.fates[fates] = self.fates.get(fates, 0) + 1
        for error, name in ((old, "old"), (new, "new")):
            if isinstance(error, PolicyEngineError) and len(self.failures) < _FAILURES:
                # A failure on one side is a difference; on both it is the row's own, and listed once.
                if fates != ("failed", "failed"):
                    error = error.reworded(f"{error.message} ({self.only.format(name)})")
                elif name == "new":
                    continue
                self.failures.append((place, error))
        return fates


def _fate(row: MaskedRow | PolicyEngineError, program: Program) -> Fate:
    if isinstance(row, PolicyEngineError):
        return "failed"
    # Under `on empty keep` it is written, and under `on empty error` it failed before.
    return "empty" if row.is_empty and program.setting("empty") == "drop" else "masked"
