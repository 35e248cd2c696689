"""Writes the pages of models, and removes those of families that are gone."""

from __future__ import annotations

from pathlib import Path

from scripts.models.families import FAMILIES
from scripts.models.page import index, page

FOLDER = Path(__file__).parents[2] / "docs" / "models"


def main() -> None:
    """Writes all pages."""
    pages = {f"{family.slug}.md": page(family) for family in FAMILIES} | {"index.md": index()}
    for path in FOLDER.glob("*.md"):
        if path.name not in pages:
            path.unlink()
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
