"""Hooks of the docs site, which `mkdocs.yml` names.

Fences of the pages tell the tests what is in them, and Python-Markdown does not read a fence that has more than a
language. The hooks keep the language and turn what readers want to know into a title:

    ```yaml conversation=chat   →   ```yaml title="conversation: chat"
    ```policy on=chat weights   →   ```policy
    ```text, with ⟦ ⟧ in it     →   ```masked, whose trained text is coloured
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

_OPENING = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_TITLES = {"conversation": "conversation: {}", "file": "{}"}
FOLDERS = re.compile(r"^(?P<folder>[\w-]+)/\*$")
"""In the navigation, `diagnostics/*` stands for the pages of that folder, its index first."""


def on_config(config: Any, **_: Any) -> Any:
    """Writes out the navigation, and says how ```masked is drawn."""
    config.nav = list(_navigation(config.nav, Path(config.docs_dir)))
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "masked", "class": "masked", "format": masked})
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with fences that Python-Markdown reads."""
    return plain_fences(markdown)


def plain_fences(markdown: str) -> str:
    """The text with the attributes of its fences taken off. Raises ValueError for a fence that is not closed."""
    lines = markdown.split("\n")
    out: list[str] = []
    at = 0
    while at < len(lines):
        opening = _OPENING.match(lines[at])
        if opening is None:
            out.append(lines[at])
            at += 1
            continue
        end = _closing(lines, at, opening["indent"], opening["fence"])
        body = lines[at + 1 : end]
        out += [opening["indent"] + opening["fence"] + _info(opening["info"].split(), body), *body, lines[end]]
        at = end + 1
    return "\n".join(out)


def _closing(lines: list[str], start: int, indent: str, fence: str) -> int:
    closing = re.compile(rf"^ {{0,{len(indent)}}}{re.escape(fence)}{re.escape(fence[0])}*\s*$")
    for at in range(start + 1, len(lines)):
        if closing.match(lines[at]):
            return at
    raise ValueError(f"the fence on line {start + 1} of the page is not closed: {lines[start]}")


def _info(words: list[str], body: list[str]) -> str:
    if not words:
        return ""
    language, attributes = words[0], words[1:]
    if language == "text" and any("⟦" in line for line in body):
        language = "masked"
    for attribute in attributes:
        name, _, value = attribute.partition("=")
        if name in _TITLES and value:
            return f'{language} title="{_TITLES[name].format(value)}"'
    return language


def masked(source: str, *_: Any, **__: Any) -> str:
    """The HTML of a masked conversation: the text between ⟦ and ⟧ is in `mark` elements."""
    marked = escape(source).replace("⟦", "<mark><i>⟦</i>").replace("⟧", "<i>⟧</i></mark>")
    return f'<div class="highlight masked"><pre><code>{marked}</code></pre></div>'


def _navigation(entries: list[Any], docs: Path) -> Iterator[Any]:
    for entry in entries:
        if isinstance(entry, dict):
            yield {
                title: list(_navigation(below, docs)) if isinstance(below, list) else below
                for title, below in entry.items()
            }
        elif found := FOLDERS.match(entry):
            pages = sorted(path.name for path in (docs / found["folder"]).glob("*.md") if path.name != "index.md")
            yield from (f"{found['folder']}/{name}" for name in pages)
        else:
            yield entry
