"""Looks through the built docs site: `python -m tests.site.check site/`. Part of `make docs-site`.

Each page has the headings of its source, no backtick in its text, and links that lead somewhere. Nothing is loaded from
elsewhere.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_OPENING = re.compile(r"^ *(`{3,}|~{3,})")
_BULLET = re.compile(r"^ *[*-] *$", re.MULTILINE)
"""A line of text with nothing but a bullet, behind which comes code: Python-Markdown did not begin an item there."""
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_LOADED = {"script": "src", "img": "src", "link": "href", "source": "src"}
_EMPTY = ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr")
_CODE = ("pre", "code", "script", "style", "svg", "kbd")


@dataclass(kw_only=True)
class Page(HTMLParser):
    """One built page: its headings, the text of its article outside of code, its ids, links and what it loads."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    escaped: list[str] = field(default_factory=list)
    title: str = ""
    _open: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given and "article" in self._open:
            if "headerlink" in given.get("class", ""):
                tag = "headerlink"
            self.links.append(given["href"])
        if given.get(_LOADED.get(tag, "")) and given.get("rel") not in ("canonical", "next", "prev"):
            self.loads.append(given[_LOADED[tag]])
        if tag in _HEADINGS and "article" in self._open:
            self.headings.append("")
        if tag not in _EMPTY:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._open and self._open[-1] == "headerlink" and tag == "a":
            tag = "headerlink"
        while tag in self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "title" in self._open and "article" not in self._open and "svg" not in self._open:
            self.title += data
        if "article" not in self._open or "headerlink" in self._open:
            return
        if any(tag in _HEADINGS for tag in self._open):
            self.headings[-1] += data
        if not any(tag in _CODE for tag in self._open):
            self.text.append(data)
        elif "table" in self._open and "\\|" in data:
            self.escaped.append(data)


def read(path: Path) -> Page:
    """A built page."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    return page


def headings(markdown: str) -> list[str]:
    """The headings of a source page as plain text, in order; lines of fences are no headings."""
    found, fence = [], ""
    for line in markdown.split("\n"):
        opening = _OPENING.match(line)
        if fence:
            if opening and opening[1].startswith(fence) and line.strip() == opening[1]:
                fence = ""
        elif opening:
            fence = opening[1]
        elif match := re.match(r"^#{1,6} (.+?)(?:\s+\{[^}]*\})?$", line):
            found.append(plain(match[1]))
    return found


def plain(heading: str) -> str:
    """A heading without the marks of Markdown; blanks as one."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    codes = re.split(r"(`[^`]*`)", text)
    bare = (
        code.strip("`") if code.startswith("`") else re.sub(r"\*\*|\\(?=[^A-Za-z0-9\s])", "", code) for code in codes
    )
    return " ".join("".join(bare).split())


def place(site: Path, source: Path) -> Path:
    """Where a source page, relative to docs/, is built."""
    if source.stem == "index":
        return site / source.with_suffix(".html")
    return site / source.with_suffix("") / "index.html"


def problems(site: Path, docs: Path) -> Iterator[str]:
    """What is wrong with the site, a sentence each."""
    pages = {path: read(path) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site} has no page: build it with `make docs-site`"
    for source in sorted(docs.rglob("*.md")):
        name = source.relative_to(docs)
        path = place(site, name)
        if path not in pages:
            yield f"{name}: was not built"
            continue
        expected = headings(source.read_text(encoding="utf-8"))
        found = [" ".join(heading.split()) for heading in pages[path].headings]
        if not expected:
            yield f"{name}: has no heading"
        if missing := [heading for heading in expected if heading not in found]:
            yield f"{name}: headings that are not in the page: {missing}"
        if "".join(found[:1]) not in pages[path].title:
            yield f"{name}: the title `{pages[path].title}` is not the first heading"
    for path, page in pages.items():
        yield from (f"{path.relative_to(site)}: {problem}" for problem in _problems(path, page, site, pages))
    yield from _search(site, docs)


def _problems(path: Path, page: Page, site: Path, pages: dict[Path, Page]) -> Iterator[str]:
    for text in page.text:
        if "`" in text:
            yield f"a backtick in the text: {text.strip()[:80]!r}"
        if _BULLET.search(text):
            yield f"a bullet that is text: {text.strip()[:80]!r}"
    yield from (f"the code `{text}` in a table shows the backslash of its \\|" for text in page.escaped)
    for address in page.loads:
        if urlsplit(address).netloc:
            yield f"loads {address} from elsewhere"
        elif _target(path, address, site) is None:
            yield f"loads {address}, which is not there"
    for address in page.links:
        parts = urlsplit(address)
        if parts.scheme in ("http", "https", "mailto"):
            continue
        target = _target(path, address, site)
        if target is None:
            yield f"the link {address} leads nowhere"
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
            yield f"the link {address} leads to a place that is not in its page"


def _target(path: Path, address: str, site: Path) -> Path | None:
    """The file of the site that an address means; None if there is none."""
    parts = urlsplit(address)
    name = unquote(parts.path)
    if not name:
        return path
    target = (site / name.lstrip("/") if name.startswith("/") else path.parent / name).resolve()
    if target.is_dir():
        target = target / "index.html"
    return target if target.is_file() and site.resolve() in target.parents else None


def _search(site: Path, docs: Path) -> Iterator[str]:
    index = site / "search" / "search_index.json"
    if not index.exists():
        yield "the site has no search index"
        return
    known = {entry["location"].partition("#")[0] for entry in json.loads(index.read_text(encoding="utf-8"))["docs"]}
    for source in sorted(docs.rglob("*.md")):
        parent = place(site, source.relative_to(docs)).parent.relative_to(site).as_posix()
        if ("" if parent == "." else f"{parent}/") not in known:
            yield f"{source.relative_to(docs)}: search does not find it"


def main(site: str) -> int:
    """The command: prints what is wrong; 1 if anything is."""
    found = list(problems(Path(site).resolve(), Path(__file__).parents[2] / "docs"))
    for problem in found:
        print(problem)
    print(f"{site}: {len(found)} problems in {len(list(Path(site).rglob('*.html')))} pages")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
