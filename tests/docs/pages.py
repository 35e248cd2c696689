"""Runs the pages that are walked through: files, commands and Python, from top to bottom, in an empty folder.

A fence says what it is:

    ```jsonl file=chats.jsonl     a file, written before what follows is run
    ```console                    commands; `exit=1` if the last one says no
    ```text                       behind commands or Python: what they print
    ```python                     run in one namespace a page
    ```python file=train.py       a file, too, which `python train.py` runs

`python -m tests.docs.pages` writes what comes out into the pages.
"""

from __future__ import annotations

import contextlib
import glob
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.cli.support import cli

DOCS = Path(__file__).parents[2] / "docs"
PAGES = (
    "index.md", "tutorial/index.md", "tutorial/tool-calls.md", "tutorial/trl.md", "tutorial/axolotl.md", "how-to/ci.md",
    "how-to/large-data.md",
)  # fmt: skip
NEEDS = {"tutorial/trl.md": ("torch", "trl"), "tutorial/axolotl.md": ("torch", "axolotl")}
"""Packages that a page needs beside ours; it is run where they are."""
NOT_RUN = ("pip ", "make ", "git ", "pre-commit ")
"""Commands that are not a page's to test: installing, a checkout, hooks."""
TRAINERS = ("axolotl",)
"""Commands of trainers, which are run as they are."""
_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n]*)\n(?P<body>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fence of a page: its language, its attributes, its text without indentation, and where the text is."""

    language: str
    attributes: dict[str, str]
    text: str
    indent: str
    start: int
    end: int


def blocks(page: str) -> Iterator[Block]:
    """The fences of a page's text, in order."""
    for match in _FENCE.finditer(page):
        language, *words = match["info"].split() or [""]
        indent = match["indent"]
        yield Block(
            language=language,
            attributes={name: value for name, _, value in (word.partition("=") for word in words)},
            text="".join(line.removeprefix(indent) for line in match["body"].splitlines(keepends=True)),
            indent=indent,
            start=match.start("body"),
            end=match.end("body"),
        )


def run(name: str, told: Callable[[Block, str], None]) -> None:
    """Runs a page in the current folder; `told` is given each block of output, and what was printed before it."""
    names: dict[str, object] = {"__name__": "__main__"}
    printed: str | None = None
    for block in blocks((DOCS / name).read_text(encoding="utf-8")):
        if "file" in block.attributes:
            path = Path(block.attributes["file"])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            printed = _commands(block)
        elif block.language == "python":
            printed = _printed(lambda code=block.text: exec(compile(code, name, "exec"), names))
        elif block.language == "text" and printed is not None:
            told(block, printed)
            printed = None


def _commands(block: Block) -> str:
    expected = int(block.attributes.get("exit", "0"))
    out = []
    commands = [c for c in block.text.replace("\\\n", " ").splitlines() if c.split("#")[0].strip()]
    for at, command in enumerate(commands):
        if command.startswith(NOT_RUN):
            continue
        program, *words = shlex.split(command, comments=True)
        arguments = [path for word in words for path in (sorted(glob.glob(word)) if "*" in word else [word])]
        if program == "policy-engine":
            ran = cli(*arguments)
            last = at == len(commands) - 1
            assert ran.code == (expected if last else 0), f"{command}: {ran.code}\n{ran.out}{ran.err}"
            out.append(ran.out + ran.err)
        elif program == "python":
            out.append(_printed(lambda script=arguments[0]: runpy.run_path(script, run_name="__main__")))
        elif program in TRAINERS:
            out.append(_trainer(program, arguments))
        elif program == "cat":
            out.append(Path(arguments[0]).read_text(encoding="utf-8"))
        else:
            raise AssertionError(f"no test runs `{command}`")
    return "".join(out)


def _trainer(program: str, arguments: list[str]) -> str:
    """Output of a trainer's own command, offline, and without a word to its makers."""
    quiet = {"AXOLOTL_DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **quiet, "PATH": path, "PYTHONPATH": str(DOCS.parent)}
    command = [str(Path(sys.executable).parent / program), *arguments]
    ran = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False, timeout=600)
    assert ran.returncode == 0, f"{program} {' '.join(arguments)}\n{ran.stdout[-3000:]}{ran.stderr[-3000:]}"
    return ran.stdout


def _printed(work: Callable[[], object]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        work()
    return out.getvalue()


def shown(text: str) -> str:
    """Output as a page shows it: without blanks at the ends of lines, and without empty lines around."""
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines()) + "\n"


def agrees(expected: str, printed: str) -> bool:
    """Whether a page shows what was printed; a line `…` stands for any lines."""
    pattern = "".join(r"(?:.*\n)*?" if line == "…" else re.escape(line) + r"\n" for line in expected.splitlines())
    return re.fullmatch(pattern, shown(printed)) is not None


@contextlib.contextmanager
def folder() -> Iterator[None]:
    """An empty folder as the current one."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as made:
        os.chdir(made)
        try:
            yield
        finally:
            os.chdir(before)


def accept(name: str) -> None:
    """Writes what comes out into a page. Output that leaves lines out is left as it is, if it agrees."""
    found: list[tuple[Block, str]] = []
    with folder():
        run(name, lambda block, printed: found.append((block, printed)))
    page = (DOCS / name).read_text(encoding="utf-8")
    for block, printed in reversed(found):
        if not agrees(block.text, printed):
            body = "".join(f"{block.indent}{line}".rstrip() + "\n" for line in shown(printed).splitlines())
            page = page[: block.start] + body + page[block.end :]
    (DOCS / name).write_text(page, encoding="utf-8")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or [page for page in PAGES if page not in NEEDS]:
        accept(chosen)
