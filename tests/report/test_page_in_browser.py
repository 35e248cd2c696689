"""The page of `show --html` in a real browser: `make play-browser`. Needs Playwright and a Chromium."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from policy_engine import Masker, policy_from_text
from policy_engine.mask.explain import explain_pieces
from policy_engine.report.html.page import html_page
from policy_engine.report.runs import FailedRow, ShownRow
from tests.site.browser import browser

pytest.importorskip("playwright")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

EVIL = "<img src=x onerror='window.hit=1'></pre><script>window.hit=1</script> 世界 👩‍👩‍👧"
LONG = " ".join(f"word{n}" for n in range(300))
CHATS: tuple[list[dict[str, Any]], ...] = (
    [{"role": "user", "content": "Hi\n"}, {"role": "assistant", "content": "Hello there."}],
    [{"role": "user", "content": LONG}, {"role": "assistant", "content": "Short."}],
    [{"role": "user", "content": EVIL}],
    [{"role": "user", "content": "zebra"}, {"role": "assistant", "content": EVIL}],
)


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with browser() as chromium:
        yield chromium


@pytest.fixture
def page(opened: Browser, tmp_path: Path) -> Iterator[Page]:
    masker = Masker(policy_from_text("train assistant; train eos of assistant"), "builtin")
    rows: list[ShownRow | FailedRow] = []
    for number, chat in enumerate(CHATS, 1):
        row = masker(chat)
        pieces = explain_pieces(row.program, row.chat)
        rows.append(ShownRow(number=number, tokenized=row.tokenized, mask=row.mask, pieces=pieces))
    rows.append(FailedRow(number=5, code="PE501", message=EVIL, help="add it"))
    file = tmp_path / "page.html"
    file.write_text(html_page(rows, masker.program.policy, title=EVIL), encoding="utf-8")
    made = opened.new_page(viewport={"width": 1280, "height": 900})
    problems: list[str] = []
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on("console", lambda said: problems.append(said.text) if said.type == "error" else None)
    made.on("request", lambda asked: problems.append(asked.url) if asked.url != file.as_uri() else None)
    made.goto(file.as_uri())
    yield made
    assert [] == problems
    assert made.evaluate("window.hit") is None
    made.close()


def shown(page: Page) -> list[int]:
    numbers = page.evaluate("[...document.querySelectorAll('article')].filter(a => !a.hidden).map(a => +a.dataset.row)")
    return list(numbers)


def test_a_token_says_what_decided_it(page: Page) -> None:
    masker = Masker(policy_from_text("train assistant; train eos of assistant"), "builtin")
    row = masker(CHATS[0])
    page.locator("#row1 .trained").first.hover()
    tokens = page.locator("#row1 .trained b")
    ids = [i for i, weight in zip(row.input_ids, row.mask.weights_T) if weight]
    assert ids == [
        int(i) for run in page.locator("#row1 .trained").all() for i in _split(page, run)
    ]  # runs become tokens where they are looked at
    tokens.first.hover()
    tip = page.locator("#tip")
    assert f"id {ids[0]}" in tip.inner_text()
    assert "1 · train assistant (<string>:1)" in tip.inner_text()
    assert "decided by" in tip.inner_text()
    tokens.first.click()
    page.keyboard.press("ArrowRight")
    assert f"id {ids[1]}" in tip.inner_text()
    page.keyboard.press("Escape")
    assert tip.is_hidden()


def _split(page: Page, run: Any) -> list[str]:
    run.hover()
    return [i for b in run.locator("b").all() for i in str(b.get_attribute("data-ids")).split(",")]


def test_text_is_whole_after_it_became_tokens(page: Page) -> None:
    read = "a => [...document.querySelectorAll('article pre')].map(pre => pre.textContent)"
    before = page.evaluate(read)
    page.locator("input[name=edges]").check()
    page.locator("#row4").scroll_into_view_if_needed()
    # Not `wait_for_function`, which evaluates text: the page's Content-Security-Policy forbids that.
    page.locator("#row3 .t[data-d], #row4 .t[data-d]").first.wait_for(state="detached")
    assert before == page.evaluate(read)
    assert EVIL in page.locator("#row3 pre").first.evaluate("pre => pre.textContent.replaceAll('↵', '')")


def test_long_masked_text_is_folded(page: Page) -> None:
    middle = page.locator("#row2 .middle")
    assert middle.is_hidden()
    page.locator("#row2 .more").click()
    assert middle.is_visible()


def test_rows_are_jumped_to_sorted_filtered_and_searched(page: Page) -> None:
    assert [1, 2, 3, 4, 5] == shown(page)
    page.locator("select[name=sort]").select_option("tokens")
    assert 2 == shown(page)[0]
    page.locator("select[name=sort]").select_option("row")
    page.locator("select[name=flag]").select_option("failed")
    assert [5] == shown(page)
    page.locator("select[name=flag]").select_option("empty")
    assert [3] == shown(page)
    assert "1 of 5 rows" == page.locator("#finder output").inner_text()
    page.locator("select[name=jump]").select_option("2")
    assert page.url.endswith("#row2")
    assert [2, 3] == shown(page)
    page.locator("select[name=flag]").select_option("")
    page.locator("input[name=text]").fill("ZEBRA")
    assert [4] == shown(page)
    page.locator("input[name=text]").fill("")
    page.locator(".histogram li").first.click()
    assert [3] == shown(page)
    page.locator(".histogram li").first.click()
    page.locator(".failures a").click()
    assert page.url.endswith("#row5")


def test_tokens_are_coloured_by_what_is_asked_for(page: Page) -> None:
    run = page.locator("#row1 .trained").first
    colours = set()
    for by in ("effect", "rule", "role", "part", "reason"):
        page.locator("select[name=by]").select_option(by)
        colours.add(run.evaluate("run => getComputedStyle(run).backgroundColor"))
    assert len(colours) >= 3
    page.locator("select[name=by]").select_option("part")
    assert "header" in page.locator(".key[data-by=part]").inner_text()
    page.locator("tr.pick").nth(1).click()
    faded = page.locator("#row1 .t").first.evaluate("run => getComputedStyle(run).opacity")
    assert "0.2" == faded


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_it_fits_phones_and_desktops(opened: Browser, page: Page, width: int, scheme: Any) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
