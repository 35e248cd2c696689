"""Hooks of the docs site, which `mkdocs.yml` names.

Fences of the pages tell the tests what is in them, and Python-Markdown does not read a fence that has more than a
language. The hooks keep the language and turn what readers want to know into a title:

    ```yaml conversation=chat   →   ```yaml title="conversation: chat"
    ```policy on=chat weights   →   ```policy
    ```text, with ⟦ ⟧ in it     →   ```masked, whose trained text is coloured

Pages of models have ```parts, the parts of a conversation line by line, which are drawn in colour.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from pygments.lexers import get_all_lexers

_OPENING = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<info>[^`\n]*)$")
_TABLE = re.compile(r"<table>.*?</table>", re.DOTALL)
_CODE = re.compile(r"<code>([^<]*)</code>")
_WHOLE = r'<span class="option">\g<0></span>'
_OPTION = re.compile(r"(?<![\w-])--?[a-z][\w-]*")
_TITLES = {"conversation": "conversation: {}", "file": "{}"}
FOLDERS = re.compile(r"^(?P<folder>[\w-]+)/\*$")
"""Navigation: `models/*` is the pages of that folder, named by the beginning of their headings."""


def on_config(config: Any, **_: Any) -> Any:
    """Writes out the navigation, and says how ```masked is drawn.

    Raises LookupError where Pygments does not know policies: they would lose their colours without a word.
    """
    if "policy" not in {alias for _, aliases, *_ in get_all_lexers() for alias in aliases}:
        raise LookupError("this environment has no lexer of policies: install the checkout, pip install -e '.[docs]'")
    config.nav = list(_navigation(config.nav, Path(config.docs_dir)))
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {}).setdefault("custom_fences", [])
    fences.append({"name": "masked", "class": "masked", "format": masked})
    fences.append({"name": "parts", "class": "parts", "format": parts})
    return config


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with fences that Python-Markdown reads, and its first heading as its title."""
    page.meta.setdefault("title", _heading(markdown))
    return plain_fences(markdown)


def on_post_page(output: str, **_: Any) -> str:
    """The built page: long names in the code of tables may break, and options may not."""
    return _CODE.sub(_whole_options, _TABLE.sub(lambda table: _CODE.sub(_breakable, table[0]), output))


def _whole_options(code: re.Match[str]) -> str:
    # A browser may break a line behind any hyphen: `-` at the end of one, and `-dataset` on the next.
    return f"<code>{_OPTION.sub(_WHOLE, code[1])}</code>"


def _breakable(code: re.Match[str]) -> str:
    return f"<code>{re.sub(r'(?<=[._/=])(?=[A-Za-z])', '<wbr>', code[1])}</code>"


def plain_fences(markdown: str) -> str:
    """The text with the attributes of its fences taken off.

    Raises ValueError for a fence that is not closed.
    """
    lines = markdown.split("\n")
    out: list[str] = []
    at = 0
    while at < len(lines):
        opening = _OPENING.match(lines[at])
        if opening is None:
            out.append(_row(lines[at]))
            at += 1
            continue
        end = _closing(lines, at, opening["indent"], opening["fence"])
        body = lines[at + 1 : end]
        out += [opening["indent"] + opening["fence"] + _info(opening["info"].split(), body), *body, lines[end]]
        at = end + 1
    return "\n".join(out)


def _row(line: str) -> str:
    """A row of a table, with `|` in code as it is: GitHub wants it escaped."""
    if not line.lstrip().startswith("|"):
        return line
    return re.sub(r"(`+)(.+?)\1", lambda code: code[0].replace("\\|", "|"), line)


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


def parts(source: str, *_: Any, **__: Any) -> str:
    """The HTML of a conversation in parts.

    A line `2 assistant` opens a turn, a line `  text "…"` is a part of it.
    """
    turns: list[tuple[str, list[str]]] = []
    seen: dict[str, None] = {}
    for line in source.splitlines():
        if not line.startswith(" "):
            turns.append((line.partition(" ")[2] or "template", []))
            continue
        part, _space, text = line.strip().partition(" ")
        kind = part.partition(".")[0]
        seen[kind] = None
        shown = escape(json.loads(text)).replace("\n", "<u>⏎</u><br>")
        turns[-1][1].append(f'<span class="p {kind}" title="{escape(turns[-1][0])}: {escape(part)}">{shown}</span>')
    body = "".join(f"<div><b>{escape(who)}</b><code>{''.join(spans)}</code></div>" for who, spans in turns)
    legend = "".join(f'<span class="p {kind}">{kind}</span>' for kind in seen)
    return f'<div class="parts">{body}<p>{legend}</p></div>'


def _navigation(entries: list[Any], docs: Path) -> Iterator[Any]:
    for entry in entries:
        if isinstance(entry, dict):
            yield {
                title: list(_navigation(below, docs)) if isinstance(below, list) else below
                for title, below in entry.items()
            }
        elif found := FOLDERS.match(entry):
            pages = sorted(path for path in (docs / found["folder"]).glob("*.md") if path.name != "index.md")
            for page in pages:
                heading = _heading(page.read_text(encoding="utf-8"))
                yield {heading.removeprefix("Fine-tuning ").partition(":")[0]: f"{found['folder']}/{page.name}"}
        else:
            yield entry


def _heading(markdown: str) -> str:
    found = re.search(r"^# (.+)$", markdown, re.MULTILINE)
    if found is None:
        raise ValueError("a page has no heading: begin it with `# `")
    return found[1].replace("`", "")
