"""The options of a run over a dataset.

`apply` takes them, workers get them, and the manifest keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.choices import Backend
from policy_engine.core.errors import ConfigError
from policy_engine.run.backends import BACKENDS
from policy_engine.run.truncate import Truncation

SPAN_BYTES: Final = 32 << 20
"""Input of one span: what a run that is killed has to do again, per worker."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options for how rows become an output, and for how the run works.

        RunOptions(truncation=Truncation(max_length=4096), packed=True, workers=4)

    Raises ConfigError for options that mean nothing, or do not fit each other.

    >>> RunOptions().workers
    1
    """

    strict: bool = False
    """End at the first row that fails; else it is counted, and reported in the summary."""
    limit: int | None = None
    """Take the first rows only, this many."""
    truncation: Truncation | None = None
    packed: bool = False
    """Put several rows in one sequence of `truncation.max_length` tokens."""
    row_numbers: bool = True
    """Write a column `row`: the number of the row in the input, from 1."""
    batch_size: int = 256
    """Rows of one tokenizer call."""
    span_bytes: int = SPAN_BYTES
    """Bytes of input, about, of one shard of a folder."""
    backend: Backend = "reference"
    """The source of ids: the tokenizer (`reference`), kitoken where it gives the same (`auto`), or kitoken or an
    error (`kitoken`)."""

    overwrite: bool = False
    """Replace what exists under the output's name."""
    resume: bool = False
    """Go on with the run in the output folder that was stopped."""
    workers: int = 1
    """Processes; the output is the same for any number."""

    def __post_init__(self) -> None:
        if self.packed and self.truncation is None:
            raise ConfigError(
                "packing needs the length of a sequence", help="give --max-length (truncation=… in Python)"
            )
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"a limit of {self.limit} rows leaves nothing", help="give 1 or more, or no limit")
        if self.workers < 1:
            raise ConfigError(f"{self.workers} workers do nothing", help="give 1 or more")
        for name in ("batch_size", "span_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", help="give 1 or more")
        if self.backend not in BACKENDS:
            raise ConfigError(f"there is no backend `{self.backend}`", help=f"say one of {', '.join(BACKENDS)}")

    @property
    def capacity(self) -> int | None:
        """Tokens of a packed sequence; None where rows are not packed.

        >>> RunOptions(packed=True, truncation=Truncation(max_length=4096)).capacity
        4096
        """
        return self.truncation.max_length if self.packed and self.truncation is not None else None

    # `workers`, `overwrite` and `resume` are missing on purpose: the output is the same for any of them. `backend` is
    # added by the run, as the backend that was used and not the one that was wanted.
    def to_json(self) -> dict[str, Any]:
        """Those that decide what is written, as JSON values: a run resumes only with the same.

        >>> RunOptions(workers=4).to_json() == RunOptions(workers=1).to_json()
        True
        """
        return {
            "strict": self.strict,
            "limit": self.limit,
            "max_length": None if self.truncation is None else self.truncation.max_length,
            "truncate": None if self.truncation is None else self.truncation.keep,
            "packed": self.packed,
            "row_numbers": self.row_numbers,
            "batch_size": self.batch_size,
            "span_bytes": self.span_bytes,
        }
