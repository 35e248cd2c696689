"""The language server under random edits of a long policy.

A real client asks it over stdio.

    python -m benchmarks.editor                       # 1,000 edits of 5,000 lines; --edits 100 for fewer
    python -m benchmarks.editor --seed 2

Prints how long answers took, by question, and compares the findings at the end with those of a server that has seen
the last text alone. Exits 1 if they differ, if the server wrote on standard error, or if an answer took longer than
`--bar`.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from lsprotocol import types as lsp

from benchmarks.results import table
from tests.support.editing import QUESTIONS, Editor, edited, long_policy

# Hovers and completions follow every key; the others are asked for now and then.
_OFTEN = (8, 8, 2, 1, 1, 1, 1)


def _key(found: lsp.Diagnostic) -> tuple[object, ...]:
    at = found.range
    return (at.start.line, at.start.character, at.end.line, at.end.character, found.code, found.severity, found.message)


async def _session(path: Path, text: str, edits: int, chance: random.Random) -> tuple[Editor, str]:
    async with Editor(path.as_uri()) as editor:
        editor.open(text)
        for _ in range(edits):
            text = edited(text, chance)
            if not chance.randrange(100):
                text = long_policy()  # what broke is undone now and then, as people do
            editor.change(text)
            await asyncio.sleep(chance.choice((0.0, 0.02, 0.1, 0.3)))
            for question in chance.choices(QUESTIONS, _OFTEN, k=chance.randrange(3)):
                await editor.ask(question, text, chance)
        start = time.monotonic()
        await editor.findings()
        editor.seconds["findings at the end"] = [time.monotonic() - start]
    return editor, text


async def _fresh(path: Path, text: str) -> list[lsp.Diagnostic]:
    async with Editor(path.as_uri()) as editor:
        editor.open(text)
        return await editor.findings()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=1_000)
    parser.add_argument("--lines", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bar", type=float, default=2.0, help="seconds that an answer may take")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "long.policy")
        path.write_text(long_policy(options.lines))
        session = _session(path, long_policy(options.lines), options.edits, random.Random(options.seed))
        editor, text = asyncio.run(session)
        fresh = asyncio.run(_fresh(path, text))
    mine = editor.published[editor.version]
    rows = [
        [
            name,
            len(took),
            f"{statistics.median(took):.3f}",
            f"{sorted(took)[int(len(took) * 0.99)]:.3f}",
            f"{max(took):.3f}",
        ]
        for name, took in sorted(editor.seconds.items())
    ]
    print(table(["question", "asked", "median s", "99 % s", "longest s"], rows))
    same = [_key(found) for found in mine] == [_key(found) for found in fresh]
    slow = [name for name, took in editor.seconds.items() if name in QUESTIONS and max(took) > options.bar]
    compared = "the same as" if same else "OTHERS THAN"
    print(f"{editor.version - 1} edits, {len(mine)} findings at the end, {compared} a fresh server's")
    print(f"refused: {len(editor.refused)}; on standard error: {len(editor.log.splitlines())} lines")
    print(editor.log[-3000:], end="")
    return int(not same or bool(slow) or bool(editor.log))


if __name__ == "__main__":
    sys.exit(main())
