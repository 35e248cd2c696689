"""Writes the table of shipped policies: `python scripts/presets_page.py`."""

from __future__ import annotations

from pathlib import Path

from policy_engine.lang.library import read_shipped, shipped

PATH = Path(__file__).parents[1] / "docs" / "reference" / "presets.md"
_HEAD = """# Shipped policies

`use NAME` puts one into a policy, `policy-engine policies NAME` prints it with its reason and how it differs from the
system it is like. Written by `python scripts/presets_page.py`.

| policy | what is trained |
|---|---|
"""


def page() -> str:
    """The page's text."""
    rows = (f"| `{name}` | {_summary(read_shipped(name).text)} |" for name in shipped())
    return _HEAD + "\n".join(rows) + "\n"


def _summary(text: str) -> str:
    """The first paragraph of the comment that opens the policy."""
    lines: list[str] = []
    for line in text.splitlines():
        words = line.removeprefix("#").strip()
        if not line.startswith("#") or not words:
            break
        lines.append(words)
    return " ".join(lines).replace("|", "\\|")


if __name__ == "__main__":
    PATH.write_text(page(), encoding="utf-8")
