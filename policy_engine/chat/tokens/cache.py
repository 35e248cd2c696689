"""A cache of loaded tokenizers on disk, keyed by the content of their files.

Loading a tokenizer of 150,000 tokens takes 4 s of CPU time: transformers is imported, its class rewrites what the files
say, and every token's bytes are read. All of that depends on the files and on the installed versions only, so what it
gave is kept: never guessed from the files, only what transformers made of them.

    ~/.cache/policy-engine/tokenizers/5f0c…/
        meta.json        special tokens, added tokens, templates, what the pipeline does; a checksum of each other file
        vocab.json …     the backend, as transformers made it: see `chat.tokens.cached`
        tokenizer.json   the same in one file, for models that have no such form
        lengths.npy      bytes of each token, -1 where unknown (int32, by id)
        pieces.bin       those bytes, one token after the other
        proven           empty; there once a run found that the files make the same backend again

What is kept of a backend has to make the same backend again before ids come from it (`chat.tokens.cached`).

An entry is written whole or not at all, is readable by its owner only, and holds no pickles. One that is damaged, or
that somebody else could have written, is not read.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from policy_engine.core.versions import version_of

FOLDER_VARIABLE: Final = "POLICY_ENGINE_CACHE"
"""Environment variable with the cache's folder; `off` switches the cache off."""
MOST_ENTRIES: Final = 12
"""Entries kept; the one that was used longest ago goes first.

An entry of a large vocabulary takes 8 MB.
"""
# Another layout of an entry gets another number, and entries of the old one are not read.
_FORMAT: Final = "2"
_META: Final = "meta.json"
_PROVEN: Final = "proven"
# One of the largest, that of Gemma 3, has 33 MB.
_LARGEST: Final = 64 << 20
"""Files of a tokenizer's folder that are larger, in bytes, are a model's weights."""
_PART: Final = 1 << 16
"""Bytes of a file that are read at a time for its checksum."""
_WEIGHTS: Final = frozenset({".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack"})


def cache_folder() -> Path | None:
    """Folder of the cache; None where it is switched off or no home folder is known."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named is not None:
        # An empty variable is how a shell unsets one for a single command.
        return None if named in ("", "off") else Path(named).expanduser() / "tokenizers"
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        home = Path(base) if base else Path.home() / ".cache"
    # `Path.home` raises it where a container's user has no home folder.
    except RuntimeError:
        return None
    return home / "policy-engine" / "tokenizers"


@contextlib.contextmanager
def switched_off() -> Iterator[None]:
    """Reads and keeps nothing, in this process and in those that it starts.

    >>> with switched_off():
    ...     print(cache_folder())
    None
    """
    # By the environment, not by a flag: worker processes inherit it.
    before = os.environ.get(FOLDER_VARIABLE)
    os.environ[FOLDER_VARIABLE] = "off"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FOLDER_VARIABLE]
        else:
            os.environ[FOLDER_VARIABLE] = before


@dataclass(frozen=True, kw_only=True)
class CacheEntry:
    """One tokenizer in the cache. `meta` is the content of its `meta.json`."""

    folder: Path
    meta: Mapping[str, Any]

    def path(self, name: str) -> Path:
        """Path of one of its files."""
        return self.folder / name

    @property
    def of(self) -> str:
        """The tokenizer as it was named when the entry was made."""
        return str(self.meta.get("of", ""))

    @property
    def kind(self) -> str:
        """Content of the entry: `tokenizer`, or the check of a backend."""
        return str(self.meta.get("kind", ""))

    @property
    def used(self) -> str:
        """The day and minute of its last use, local time (`2026-11-29 16:40`)."""
        return datetime.fromtimestamp(self.folder.stat().st_mtime).strftime("%Y-%m-%d %H:%M")

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    @property
    def is_proven(self) -> bool:
        """True if a run found that the files of the backend make it again."""
        return self.path(_PROVEN).exists()

    def set_proven(self) -> None:
        """Says so to later runs; passed over where the folder cannot be written."""
        with contextlib.suppress(OSError):
            self.path(_PROVEN).touch()

    def is_whole(self, name: str) -> bool:
        """True if that file is what was written, by its checksum."""
        return self.read(name) is not None

    def read(self, name: str) -> bytes | None:
        """The content of that file; None if it is not what was written, by its checksum."""
        try:
            content = self.path(name).read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == self.meta["files"].get(name) else None


def key_of(files: Iterable[Path]) -> str:
    """Name of the entry for these files: a hash of their contents and of the code (hex).

    The names of the files and the versions of transformers and tokenizers go into it too.

    Raises OSError if a file cannot be read.
    """
    # What transformers makes of the same files has changed between its releases, so an entry belongs to one.
    versions = [version_of(name) for name in ("transformers", "tokenizers")]
    found = hashlib.sha256(json.dumps([_FORMAT, *versions, own_code()]).encode())
    # Sorted: a folder lists its files in any order.
    for path in sorted(files):
        # The name too: `chat_template.jinja` and `extra.jinja` of one content are not the same tokenizer.
        found.update(f"\n{path.name}\n{_digest(path)}".encode())
    return found.hexdigest()


@functools.cache
def own_code() -> str:
    """Checksum of this folder's modules: other code makes other entries."""
    return hashlib.sha256(b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py")))).hexdigest()


def tokenizer_files(folder: Path) -> list[Path]:
    """Files of a tokenizer's folder that count, with those of `additional_chat_templates/`."""
    extra = folder / "additional_chat_templates"
    found = [*folder.iterdir(), *(extra.iterdir() if extra.is_dir() else ())]
    return [p for p in found if p.is_file() and p.suffix not in _WEIGHTS and p.stat().st_size <= _LARGEST]


def find(key: str) -> CacheEntry | None:
    """The entry of that name, if there is one that only this user could have written."""
    root = cache_folder()
    found = None if root is None else _read(root / key)
    if found is not None:
        with contextlib.suppress(OSError):
            os.utime(found.folder)  # used now, so it is not the next one to go
    return found


def _read(folder: Path) -> CacheEntry | None:
    try:
        # The folder above too: who may write there can put a folder of any content in place of this one.
        if not (_is_own(folder.parent) and _is_own(folder)):
            return None
        meta = json.loads((folder / _META).read_text(encoding="utf-8"))
        if meta["format"] != _FORMAT or not isinstance(meta["files"], dict):
            return None
    # A damaged entry is as good as no entry: the tokenizer is loaded, and the entry written again.
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return CacheEntry(folder=folder, meta=meta)


def keep(key: str, meta: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Writes an entry, whole or not at all.

    A cache that cannot be written is passed over: it only saves time.
    """
    root = cache_folder()
    if root is None:
        return
    with contextlib.suppress(OSError):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_own(root):
            return
        made = Path(tempfile.mkdtemp(prefix=".new-", dir=root))  # readable by its owner only
        try:
            for name, content in files.items():
                (made / name).write_bytes(content)
            digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
            # Written last: an entry without it is not read, should the process die before.
            whole = {**meta, "format": _FORMAT, "files": digests}
            (made / _META).write_text(json.dumps(whole), encoding="utf-8")
            shutil.rmtree(root / key, ignore_errors=True)  # a damaged one
            made.rename(root / key)
        finally:
            # After the rename there is nothing left to remove; after an error there is.
            shutil.rmtree(made, ignore_errors=True)
        _make_room(root)


def entries() -> list[CacheEntry]:
    """All entries that can be read, the one that was used last first."""
    root = cache_folder()
    return [] if root is None else [entry for path in _by_use(root) if (entry := _read(path)) is not None]


def clear() -> int:
    """Removes the cache and returns the number of its entries.

    Raises OSError if it cannot be removed.
    """
    root = cache_folder()
    if root is None or not root.is_dir():
        return 0
    number = len(_by_use(root))
    shutil.rmtree(root)
    return number


def _make_room(root: Path) -> None:
    for path in _by_use(root)[MOST_ENTRIES:]:
        shutil.rmtree(path, ignore_errors=True)


def _by_use(root: Path) -> list[Path]:
    """Folders of entries, the one that was used last first."""
    # `.new-…` are entries that another process writes now.
    found = [p for p in root.iterdir() if not p.name.startswith(".")] if root.is_dir() else []
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def _is_own(path: Path) -> bool:
    found = path.stat()
    # Windows has no user ids here; its home folders are private by default.
    mine = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    return mine and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _digest(path: Path) -> str:
    # A part at a time: the memory of a whole file takes as long to get as its checksum does.
    found = hashlib.sha256()
    part = memoryview(bytearray(_PART))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(part):
            found.update(part[:size])
    return found.hexdigest()
