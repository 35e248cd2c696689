"""The built docs site in a real browser: `make site-browser`. Needs `site/`, Playwright and a Chromium."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.site.browser import browser, served
from tests.site.check import headings, place

pytest.importorskip("playwright")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
SITE = Path(os.environ.get("SITE", ROOT / "site"))
SOURCES = sorted(path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md"))
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LIGHT, DARK = "light", "dark"
LEGIBLE = 4.5
"""Contrast of text that WCAG 2 asks for (AA)."""
SHOWN = ("index.md", "how-to/recipes.md", "reference/language.md", "diagnostics/PE101.md", "explanation/conformance.md")

SEEN, CONTRAST = (Path(__file__).with_name(f"{name}.js").read_text(encoding="utf-8") for name in ("seen", "contrast"))


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    assert (SITE / "index.html").exists(), f"{SITE} has no site: run `make docs-site`"
    with served(SITE) as at:
        yield at


class Visit:
    """A page of the browser that knows what went wrong on it, and what it asked other machines for."""

    def __init__(self, opened: Browser, address: str, size: dict[str, int], scheme: str) -> None:
        self.page: Page = opened.new_page(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
        self.problems: list[str] = []
        self._address = address
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda asked: self._asked(asked.url))

    def _asked(self, url: str) -> None:
        if not url.startswith((self._address, "data:", "blob:")):
            self.problems.append(f"asked for {url}")

    def to(self, source: Path) -> Any:
        """Goes to the page built from a source, and says what is seen there."""
        built = place(SITE, source).parent.relative_to(SITE).as_posix()
        self.page.goto(self._address + ("" if built == "." else f"{built}/"))
        return self.page.evaluate(SEEN)


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, LIGHT), (PHONE, DARK)], ids=["desktop", "phone"])
def test_every_page_is_whole(opened: Browser, address: str, size: dict[str, int], scheme: str) -> None:
    visit = Visit(opened, address, size, scheme)
    for source in SOURCES:
        seen = visit.to(source)
        expected = headings((ROOT / "docs" / source).read_text(encoding="utf-8"))
        assert "`" not in seen["text"], source
        assert expected == [heading for heading in seen["headings"] if heading in expected], source
        assert ([], []) == (seen["broken"], visit.problems), source
        assert seen["wide"] <= 0, f"{source} is {seen['wide']} pixels wider than the window"


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
@pytest.mark.parametrize("source", SHOWN)
def test_text_is_legible(opened: Browser, address: str, scheme: str, source: str) -> None:
    visit = Visit(opened, address, DESKTOP, scheme)
    visit.to(Path(source))
    worst = visit.page.evaluate(CONTRAST)
    assert worst
    assert {} == {kind: found for kind, found in worst.items() if found["ratio"] < LEGIBLE}


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
def test_the_scheme_is_the_readers_until_switched(opened: Browser, address: str, scheme: str) -> None:
    visit = Visit(opened, address, DESKTOP, scheme)
    visit.to(Path("index.md"))
    shown = "() => document.body.getAttribute('data-md-color-scheme')"
    names = {LIGHT: "default", DARK: "slate"}
    assert names[scheme] == visit.page.evaluate(shown)
    visit.page.locator("header label[title^='Switch to']:visible").click()
    assert {*names.values()} - {names[scheme]} == {visit.page.evaluate(shown)}


@pytest.mark.parametrize(
    ("words", "found"),
    [("code blocks", "how-to/recipes/"), ("PE101", "diagnostics/PE101/"), ("empty thinking", "models/")],
)
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_search_finds(opened: Browser, address: str, size: dict[str, int], words: str, found: str) -> None:
    visit = Visit(opened, address, size, LIGHT)
    visit.to(Path("index.md"))
    if size is PHONE:
        visit.page.locator("label[for='__search'].md-header__button").click()
    visit.page.locator("input.md-search__input").click()
    visit.page.keyboard.type(words, delay=10)
    visit.page.locator(".md-search-result__item a").first.wait_for()
    hits = visit.page.locator(".md-search-result__item a.md-search-result__link")
    addresses = [str(hits.nth(at).get_attribute("href")) for at in range(min(3, hits.count()))]
    assert any(found in address for address in addresses), addresses
    assert [] == visit.problems


def test_the_menu_of_a_phone_leads_on(opened: Browser, address: str) -> None:
    visit = Visit(opened, address, PHONE, LIGHT)
    visit.to(Path("index.md"))
    visit.page.locator("label[for='__drawer'].md-header__button").click()
    for title in ("Tutorial", "How-to", "Models", "Reference", "Explanation"):
        assert visit.page.locator(f"nav.md-nav--primary >> text='{title}'").first.is_visible(), title
