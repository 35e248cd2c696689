"""The run that a command line asks for, and what is refused before a tokenizer is loaded.

Nothing here imports pyarrow: what that holds would add to the memory of loading a tokenizer, the peak of a first run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from policy_engine.core.choices import Keep
from policy_engine.core.errors import ConfigError
from policy_engine.run.output.places import check_folder, check_output, is_folder
from policy_engine.run.run_options import RunOptions
from policy_engine.run.truncate import Truncation


@dataclass(frozen=True, kw_only=True)
class Request:
    """The data, the output and the options of a run."""

    data: str
    out: str | Path
    """A file, or a folder if it ends in a slash or exists."""
    options: RunOptions = field(default_factory=RunOptions)
    unroll: bool = False
    ray: bool = False

    def check(self) -> None:
        """Refuses what cannot be done, before a tokenizer is loaded.

        Raises ConfigError or DataError.
        """
        inputs = () if self.data == "-" else (Path(self.data),)
        if is_folder(self.out):
            check_folder(Path(self.out), inputs)
            return
        if self.options.resume or self.ray:
            name = "--resume" if self.options.resume else "--engine ray"
            raise ConfigError(f"{name} needs a folder to write into", help="end its name in a slash: -o NAME/")
        check_output(Path(self.out), overwrite=self.options.overwrite, inputs=inputs)


def truncation_of(max_length: int | None, keep: str | None, *, packed: bool) -> Truncation | None:
    """The truncation that `--max-length` and `--truncate` ask for.

    Raises ConfigError for one without its length.

    >>> truncation_of(512, None, packed=False)
    Truncation(max_length=512, keep='keep_start')
    """
    if max_length is not None:
        return Truncation(max_length=max_length, keep=cast(Keep, keep or "keep_start"))
    if keep is not None or packed:
        name = "--truncate" if keep is not None else "--pack"
        raise ConfigError(f"{name} needs a length", help="give one with --max-length")
    return None
