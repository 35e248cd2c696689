"""Finds the grammar, the shipped policies, and policies in folders.

What is shipped is in the packaged copy, else in the checkout.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

from policy_engine.core.errors import DataError
from policy_engine.core.source import Source
from policy_engine.core.suggest import did_you_mean, file_meant

_PACKAGE = Path(__file__).resolve().parents[1]
_SUFFIX = ".policy"
_PREFIX = "policies/"
"""Names of shipped sources start with it: `policies/default`."""
_ONLY_TEXT = "this is a policy's text: write it into a file and name that, or give it to `policy_from_text` in Python"
_STATEMENT = re.compile(r"(train|mask|scale|never|always|use|let|on)\s+[\w/(\"]")
"""The start of a policy's text, given where a path belongs."""
# Well above the bytes of `parse.MAX_CHARACTERS`, so that a policy that is only too long gets the parser's message.
_MAX_BYTES = 4_000_000


def _folder(name: str) -> Path:
    # A wheel carries copies inside the package; an editable install and a checkout have the folders themselves.
    packaged = _PACKAGE / f"_{name}"
    return packaged if packaged.is_dir() else _PACKAGE.parent / name


@functools.cache
def grammar_text() -> str:
    """The text of `grammars/policy.lark`."""
    return (_folder("grammars") / "policy.lark").read_text(encoding="utf-8")


def tables_path() -> Path:
    """The file in which an installation saves the parser's tables; it may not exist."""
    return _folder("grammars") / "policy.tables"


def policies_folder() -> Path:
    """The folder of the shipped policies and their dataset files."""
    return _folder("policies")


@functools.cache
def shipped() -> tuple[str, ...]:
    """Names of the shipped policies, sorted.

    >>> "default" in shipped()
    True
    """
    return tuple(sorted(path.stem for path in policies_folder().glob(f"*{_SUFFIX}")))


def read_shipped(name: str) -> Source:
    """The shipped policy of that bare name.

    Raises `DataError` if there is no such policy.

    >>> read_shipped("default").name
    'policies/default'
    """
    if name not in shipped():
        listed = f"`policy-engine policies` lists those that are; a file is given by its path, such as `./{name}`"
        help = did_you_mean(name, shipped()) or listed
        raise DataError(f"there is no shipped policy `{name}`", help=help)
    return Source(name=_PREFIX + name, text=_read(policies_folder() / f"{name}.policy"))


def read_policy(path_or_name: str | os.PathLike[str]) -> Source:
    """A policy's text: of a shipped policy by its bare name (`default`), else of a file.

    A string without a slash and without a suffix is a name; write `./default` for a file of that name.
    Raises `DataError` if there is no such policy, or if the file cannot be read as UTF-8.

    >>> read_policy("default").name
    'policies/default'
    """
    text = os.fspath(path_or_name)
    # A Path is always a file, whatever its name: it cannot be meant as a name of the library.
    if isinstance(path_or_name, str) and text.replace("_", "a").isalnum() and not is_policy_folder(text):
        return read_shipped(text)
    return Source(name=text, text=_read(Path(text)))


def is_policy_folder(name: str) -> bool:
    """True for a folder, but not for a shipped policy's bare name: `./default` is a folder.

    >>> is_policy_folder("default"), is_policy_folder(".")
    (False, True)
    """
    return name not in shipped() and os.path.isdir(name)


def policies_below(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """Paths of the policies in a folder and below it: of all files that end in `.policy`.

    See `files_below`.

    >>> "default.policy" in [os.path.basename(path) for path in policies_below(policies_folder())]
    True
    """
    return files_below(folder, (_SUFFIX,))


def files_below(folder: str | os.PathLike[str], suffixes: tuple[str, ...]) -> tuple[str, ...]:
    """Paths of the files with one of these suffixes in a folder and below it, sorted.

    Folders below it whose names begin with a dot (`.git`, `.venv`) are left out.
    Raises `DataError` if a folder cannot be read.
    """
    found: list[str] = []
    for below, folders, files in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.normpath(os.path.join(below, name)) for name in files if name.endswith(suffixes)]
    return tuple(sorted(found))


def _unreadable(error: OSError) -> None:
    raise DataError(
        f"the folder `{error.filename}` cannot be read: {error.strerror}", help="check its permissions"
    ) from error


def _no_file(folder: Path) -> DataError:
    """The error for a folder where one policy is needed, or policies are and it has no policy."""
    inside = policies_below(folder)
    if not inside:
        return DataError(
            f"there is no policy in the folder `{folder}`", help=f"policies are files that end in `{_SUFFIX}`"
        )
    return DataError(f"`{folder}` is a folder, not a policy", help=f"name a policy in it, such as `{inside[0]}`")


def path_of(source: Source) -> Path | None:
    """The resolved path of the file a policy was read from; None for a text that is in no file.

    Quoted paths of its `use` statements start from that file's folder.

    >>> path_of(read_shipped("default")).name, path_of(Source(name="<string>", text="")) is None
    ('default.policy', True)
    """
    name = source.name.removeprefix(_PREFIX)
    # A user's own folder may be called `policies/` too: the text decides if it is the shipped one.
    if source.name.startswith(_PREFIX) and name in shipped() and read_shipped(name).text == source.text:
        return policies_folder().resolve() / f"{name}.policy"
    # `<string>`, `<stdin>`: names that no file was read from, though a file could have them.
    if source.name.startswith("<"):
        return None
    try:
        path = Path(source.name).resolve()
        return path if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # a name that no file can have
        return None


def _read(path: Path) -> str:
    # Not `path.is_dir()`, which raises for names that no file can have.
    if os.path.isdir(path):
        raise _no_file(path)
    try:
        # Asked first: a dataset of gigabytes given by mistake is not read into memory.
        size = path.stat().st_size
        # Windows editors write a byte order mark, which is not part of the policy.
        text = path.read_text(encoding="utf-8-sig") if size <= _MAX_BYTES else None
    except UnicodeDecodeError as error:
        raise DataError(
            f"`{path}` is not UTF-8 text: {error.reason} at byte {error.start}", help="save it as UTF-8"
        ) from error
    except FileNotFoundError as error:
        raise DataError(
            f"there is no file `{path}`",
            help=_ONLY_TEXT
            if _STATEMENT.match(str(path))
            else file_meant(path) or "check the path; a shipped policy is named without a suffix",
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"`{path}` cannot be read: {reason}", help="a policy is a readable text file") from error
    if text is None:
        raise DataError(f"`{path}` has {size:,} bytes, too many for a policy", help="is this the data instead?")
    return text
