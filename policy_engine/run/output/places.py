"""Places that outputs are written to, checked before any work is done.

Nothing here imports pyarrow: a command line asks before it loads a tokenizer, and Arrow would add to that peak.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from policy_engine.core.errors import DataError

OUTPUT_SUFFIXES: Final = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst")
"""The extensions that `OUTPUT_FORMATS` in `policy_engine.run.writers` has a writer for."""


def is_folder(output: str | Path) -> bool:
    """True if an output names a folder: it ends in a slash, or is one.

    >>> is_folder("out/"), is_folder("out.parquet")
    (True, False)
    """
    return str(output).endswith(("/", os.sep)) or Path(output).is_dir()


def check_folder(folder: Path, inputs: tuple[Path, ...]) -> None:
    """Checks that a folder can be made there, before any work is done. Raises DataError."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"`{folder}` is a file", help="give another -o")
    if not folder.parent.is_dir():
        raise DataError(f"folder `{folder.parent}` does not exist", help=f"make it: mkdir -p {folder.parent}")
    # `--overwrite` removes shards of a folder, so that the input in it could be among what is removed.
    for file in inputs:
        if folder.exists() and file.exists() and (file.samefile(folder) or folder in file.parents):
            raise DataError(f"the input is in `{folder}`", help="write to another folder")


def check_output(path: Path, *, overwrite: bool, inputs: tuple[Path, ...] = ()) -> None:
    """Checks that an output can be made there, before any work is done.

    Raises DataError if its extension says no format, or if it exists and may not be overwritten.
    """
    suffix_of(path)
    if path.is_dir():
        raise DataError(f"`{path}` is a folder", help=f"name a file in it: {path / 'masked.parquet'}")
    if not path.parent.is_dir():
        raise DataError(f"folder `{path.parent}` does not exist", help=f"make it: mkdir -p {path.parent}")
    if path.exists():
        for file in inputs:
            if file.exists() and path.samefile(file):
                raise DataError(f"`{path}` is also the input", help="write to another file")
        if not overwrite:
            raise DataError(f"`{path}` exists", help="give another -o, or --overwrite to replace it")
    if not overwrite and partial_of(path).exists():
        raise DataError(
            f"`{partial_of(path)}` has the rows of a run that broke off, which this run would replace if it does",
            help="move or remove it, or --overwrite",
        )


def partial_of(path: Path) -> Path:
    """The file for the rows that a run finished before it broke off.

    >>> partial_of(Path("masked.jsonl.gz")).name
    'masked.partial.jsonl.gz'
    """
    suffix = suffix_of(path)
    return path.with_name(f"{path.name.removesuffix(suffix)}.partial{suffix}")


def suffix_of(path: Path) -> str:
    """The extension that names the format of an output. Raises DataError for a name without one.

    >>> suffix_of(Path("masked.jsonl.gz"))
    '.jsonl.gz'
    """
    for suffix in OUTPUT_SUFFIXES:
        if path.name.endswith(suffix) and path.name != suffix:
            return suffix
    raise DataError(f"`{path}` says no output format", help=f"its name has to end in {', '.join(OUTPUT_SUFFIXES)}")
