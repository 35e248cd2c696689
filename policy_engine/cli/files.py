"""Files that verbs write: whole under their final name, or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from policy_engine.core.errors import DataError


def write_text_file(path: Path, text: str, *, overwrite: bool = False, option: str = "-o") -> None:
    """Writes UTF-8 text beside the file and swaps, so that a kill leaves what was there.

    `option` is the option that names the file.

    Raises DataError if the file exists and may not be replaced, or cannot be written.
    """
    if not overwrite and path.exists():
        raise exists(path, option)
    target = path.resolve()  # a link stays a link
    temporary = None
    try:
        # In the same folder: only within one file system is the swap one step.
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        # Lone surrogates, which JSON can bring, have no UTF-8; and the same text is the same file on Windows.
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
            file.write(text)
        # `mkstemp` lets only the owner read. The file keeps the rights of the one before it, or gets the usual ones.
        os.chmod(temporary, target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask())
        os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(
            f"cannot write `{path}`: {reason.lower()}", help="check that its folder exists, is writable and has room"
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def exists(path: Path, option: str = "-o") -> DataError:
    """The error for an output that is there already; `option` is what names it.

    >>> exists(Path("chats.yaml")).message
    '`chats.yaml` exists'
    """
    return DataError(f"`{path}` exists", help=f"name another output with {option}, or pass --overwrite to replace it")


def _umask() -> int:
    # There is no way to read the mask without setting it.
    mask = os.umask(0)
    os.umask(mask)
    return mask
