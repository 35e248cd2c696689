"""The command line run in this process, with what it printed, and data to run it on."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from policy_engine.cli.app import run

GOOD = "train assistant\ntrain eos after assistant\nnever train user\n"
CHATS = [
    [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hi 世界."}],
    [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "Sure?"},
        {"role": "assistant", "content": "Yes.", "training": False},
    ],
    [{"role": "user", "content": "Bye"}, {"role": "assistant", "content": "Bye!"}],
]


@dataclass(frozen=True, kw_only=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.out)  # type: ignore[no-any-return]


class _Stdout(io.TextIOWrapper):
    """A standard output in memory, with the buffer below it that a real one has."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode("utf-8")  # type: ignore[attr-defined]


def cli(*arguments: str | Path, stdin: str | TextIO = "") -> Ran:
    """Runs one command. `stdin` is what standard input holds, or is."""
    out, err = _Stdout(), _Stdout()
    with contextlib.ExitStack() as opened:
        given = stdin if not isinstance(stdin, str) else opened.enter_context(_file_of(stdin))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _stdin(given):
            code = run([str(a) for a in arguments])
    return Ran(code=code, out=out.text(), err=err.text())


@contextlib.contextmanager
def _file_of(text: str) -> Iterator[TextIO]:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        file.write(text)
        file.seek(0)
        yield file


@contextlib.contextmanager
def _stdin(stream: Any) -> Iterator[None]:
    before, sys.stdin = sys.stdin, stream
    try:
        yield
    finally:
        sys.stdin = before


def write_chats(folder: Path, chats: Sequence[Any] = CHATS, *, name: str = "chats.jsonl") -> Path:
    """A JSONL file of rows with `messages`; a row that is a string is written as it is."""
    path = folder / name
    lines = [c if isinstance(c, str) else json.dumps({"messages": c}) for c in chats]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def write_policy(folder: Path, text: str = GOOD, *, name: str = "my.policy") -> Path:
    """A policy file."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
