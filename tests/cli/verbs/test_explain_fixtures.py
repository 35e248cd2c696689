"""`explain` in print: each file of `tests/fixtures/explain` has a policy, a conversation, options, and what is printed.

A case is added by adding a file; nothing here changes.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.support import cli

FOLDER = Path(__file__).parents[2] / "fixtures" / "explain"


def _parts(path: Path) -> dict[str, str]:
    found = re.split(r"^=== (\w+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(found[1::2], found[2::2], strict=True))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_printed(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = _parts(path)
    (tmp_path / "a.policy").write_text(parts["policy"], encoding="utf-8")
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": json.loads(parts["messages"])}) + "\n")
    monkeypatch.chdir(tmp_path)
    ran = cli("explain", "chats.jsonl", "-p", "a.policy", "-t", "builtin", *parts["options"].split())
    assert parts["expected"].strip() == ran.out.strip()
