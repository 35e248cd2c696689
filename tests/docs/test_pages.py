"""Pages that are walked through do what they say, command by command, and show what comes out."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs import pages


@pytest.mark.parametrize("name", pages.PAGES)
def test_a_page_runs_and_shows_what_comes_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it; a page shows what a pipe gets
    missing = [package for package in pages.NEEDS.get(name, ()) if find_spec(package) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: `make trainers` and `make frameworks` have them")
    monkeypatch.chdir(tmp_path)

    def compare(block: pages.Block, printed: str) -> None:
        again = f"docs/{name}: run python -m tests.docs.pages {name}"
        assert pages.agrees(block.text, printed), f"{again}\n{pages.shown(printed)}"

    pages.run(name, compare)


def test_output_may_leave_lines_out() -> None:
    assert pages.agrees("a\n…\nd\n", "a  \nb\nc\nd\n\n")
    assert pages.agrees("a\n…\n", "a\n")
    assert not pages.agrees("a\n…\nd\n", "b\nd\n")
    assert not pages.agrees("a\n", "a\nb\n")
