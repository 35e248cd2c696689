"""The journal of a run that writes a folder.

It says which shards are done, so that a run that was killed can go on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from policy_engine.core.errors import DataError
from policy_engine.run.manifest import Shard, changes
from policy_engine.run.writers import SHARD_SUFFIX

try:
    import fcntl
except ImportError:  # Windows: two runs into one folder are not told apart there
    fcntl = None  # type: ignore[assignment,unused-ignore]

MANIFEST: Final = "_manifest.json"
JOURNAL: Final = "_progress.jsonl"
SHARD_PATTERN: Final = f"part-*{SHARD_SUFFIX}"
_TEMPORARY: Final = ".part-*.tmp"


class Journal:
    """The shards of a folder that are whole.

    Used as a context, which locks the folder so that no other run writes it. A shard is recorded after it has its final
    name, so a run killed in between makes it again under the same name. While a run is not finished the record is
    `_progress.jsonl`: a line that says what is made, then one per shard. A finished run has `_manifest.json` in its
    place.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity = dict(identity)
        self.shards: dict[int, Shard] = {}
        self.finished = False
        self._file: Any = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._clear_temporary()
        if self._file is not None:
            self._file.close()

    @staticmethod
    def open(folder: Path, identity: Mapping[str, Any], *, resume: bool, overwrite: bool) -> Journal:
        """Begins a run in a folder, or goes on with the one there (`resume`).

        Raises:
            DataError: the folder holds something else, another run is writing to it, or what is to be made differs from
                what the run there was making; the message names every difference.
        """
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise DataError(f"folder `{folder}` cannot be made: {error.strerror or error}") from None
        journal = Journal(folder, identity)
        is_run = (folder / MANIFEST).exists() or (folder / JOURNAL).exists()
        # A finished run without rows left only its account, which the next try may replace.
        replaces = overwrite or _has_no_rows(folder)
        # A folder of something else is never taken over, not by --overwrite either: its files would be removed.
        others = [e for e in folder.iterdir() if not e.match(_TEMPORARY)]
        if others and not is_run:
            raise DataError(f"folder `{folder}` is not empty, and what is in it is not a run's", help="give another -o")
        if is_run and not resume and not replaces:
            what = "a finished run" if (folder / MANIFEST).exists() else "a run that is not finished"
            raise DataError(
                f"folder `{folder}` holds {what}", help="--resume goes on with it, --overwrite begins again"
            )
        # A finished run is only read, so it takes no lock: two may do so at once.
        if is_run and resume and (folder / MANIFEST).exists():
            journal._take_finished()
        else:
            journal._lock(resume=resume)
        return journal

    def record(self, shard: Shard) -> None:
        """Adds a shard that is whole.

        On return it survives the end of the process, and of the machine.
        """
        self.shards[shard.index] = shard
        self._write_line(shard.to_json())

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Writes the manifest, and ends the journal."""
        self._remove_strays()
        data = {
            **self.identity,
            "summary": dict(summary),
            "shards": [self.shards[index].to_json() for index in sorted(self.shards)],
        }
        # First the manifest whole under its name, then the journal away: a run killed in between is finished.
        temporary = self.folder / f".{MANIFEST}.tmp"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / MANIFEST)
        (self.folder / JOURNAL).unlink(missing_ok=True)
        sync_folder(self.folder)
        self.finished = True

    def restart(self, identity: Mapping[str, Any]) -> None:
        """Throws away all that the run has written, and begins again as another run."""
        self.identity = dict(identity)
        self.shards = {}
        self._file.seek(0)
        self._file.truncate()
        self._write_line(self.identity)
        self._remove_strays()

    def _remove_strays(self) -> None:
        kept = {shard.file for shard in self.shards.values()}
        for path in self.folder.glob(SHARD_PATTERN):
            if path.name not in kept:
                path.unlink()

    def _take_finished(self) -> None:
        with _reading(self.folder / MANIFEST) as path:
            data = json.loads(path.read_text(encoding="utf-8"))
            self._compare(data)
            self.shards = {shard["index"]: Shard.from_json(shard) for shard in data["shards"]}
        # By digest, not by name: a finished run vouches for what is in its files.
        missing = [s for s in self.shards.values() if not self._is_whole(s)]
        if missing:
            raise DataError(
                f"`{self.folder / str(missing[0].file)}` is missing or has other contents than the manifest says",
                help="--overwrite makes the folder again",
            )
        self.finished = True

    def _lock(self, *, resume: bool) -> None:
        # "a+": the lock has to be had before anything in the file is touched.
        self._file = (self.folder / JOURNAL).open("a+b")
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise DataError(f"another run is writing to `{self.folder}`", help="wait for it, or stop it") from None
        self._clear_temporary()
        # From here on the folder belongs to an unfinished run.
        (self.folder / MANIFEST).unlink(missing_ok=True)
        self._file.seek(0)
        # A whole line ends in a newline, so that `rest` is empty or was cut off by the end of the process.
        *lines, rest = self._file.read().split(b"\n")
        if not resume or not lines:
            self.restart(self.identity)
            return
        with _reading(self.folder / JOURNAL):
            self._compare(json.loads(lines[0]))
            shards = [Shard.from_json(json.loads(line)) for line in lines[1:]]
        # A line that was cut off is of a shard that is made again.
        self._file.truncate(self._file.tell() - len(rest))
        # So is a shard whose file was removed or changed.
        self.shards = {shard.index: shard for shard in shards if self._is_whole(shard)}
        self._file.seek(0, os.SEEK_END)

    def _compare(self, old: Mapping[str, Any]) -> None:
        found = changes(old, self.identity)
        if found:
            raise DataError(
                f"the run in `{self.folder}` cannot go on, something is not as it was: {'; '.join(found)}",
                help="set it back and resume, or begin again with --overwrite or in another folder",
            )

    def _is_whole(self, shard: Shard) -> bool:
        # A span of which every row was left out has no file, and is done.
        if shard.file is None:
            return True
        path = self.folder / shard.file
        try:
            return path.stat().st_size == shard.bytes and file_digest(path) == shard.sha256
        except OSError:
            return False

    def _write_line(self, data: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _clear_temporary(self) -> None:
        if self._file is not None:
            for path in self.folder.glob(_TEMPORARY):
                with contextlib.suppress(OSError):
                    path.unlink()


def options_of(folder: Path) -> Mapping[str, Any]:
    """The options of the run in a folder; empty if they are missing or cannot be read.

    >>> options_of(Path("no-such-folder"))
    {}
    """
    for name in (MANIFEST, JOURNAL):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, StopIteration):
            with (folder / name).open(encoding="utf-8") as file:
                data = json.load(file) if name == MANIFEST else json.loads(next(file))
            return dict(data["options"])
    return {}


def _has_no_rows(folder: Path) -> bool:
    """True if the folder has a finished run that left no row."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        data = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return not any(shard["file"] for shard in data["shards"]) and not any(folder.glob(SHARD_PATTERN))
    return False


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder survive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Path]:
    """Raises DataError for a file that is no manifest or journal."""
    try:
        yield path
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        help = "begin again with --overwrite, or in another folder"
        raise DataError(f"`{path}` cannot be read: {error!r}", help=help) from None
