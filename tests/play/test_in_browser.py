"""The live page in a real browser: `make play-browser`. Needs Gradio, Playwright and a Chromium."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.play.boards import CHATS, POLICY, board
from tests.site.browser import browser

pytest.importorskip("playwright")
pytest.importorskip("gradio")

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
EVIL = "</pre></script><script>window.hit=1</script><img src=x onerror='window.hit=1'>${window.hit=1}{{value}}"
HOSTILE = (
    *CHATS,
    {"messages": [{"role": "user", "content": EVIL}, {"role": f"r{EVIL}", "content": EVIL, EVIL: EVIL}]},
    {"messages": [{EVIL: 1}]},
)
WAIT = 15_000
CONTRAST = (ROOT / "tests" / "site" / "contrast.js").read_text(encoding="utf-8")
LEGIBLE = 4.5
"""Contrast of text that WCAG 2 asks for (AA)."""


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from policy_engine.play.gradio_page import build, launch_options

    folder = tmp_path_factory.mktemp("play")
    (folder / "own.policy").write_text(POLICY)
    (folder / "secret.policy").write_text("train user")
    (folder / "in").mkdir()
    loaded = board(folder, HOSTILE, file="a'<img src=x>${x}.jsonl", name=str(folder / "own.policy"))
    made = build(loaded)
    _, at, _ = made.launch(server_name="127.0.0.1", prevent_thread_lock=True, **launch_options())
    yield at
    made.close(verbose=False)


class Visit:
    """The live page in a tab, and what went wrong on it."""

    def __init__(self, opened: Browser, address: str, query: str = "", **options: Any) -> None:
        size = options.pop("viewport", {"width": 1360, "height": 1000})
        self.page: Page = opened.new_page(viewport=size, **options)
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda said: self.problems.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda asked: self._asked(asked.url, address))
        self.page.goto(address + query)
        self.page.locator("#play-rows article").first.wait_for(timeout=4 * WAIT)

    def _asked(self, url: str, address: str) -> None:
        if not url.startswith((address, "data:", "blob:")):
            self.problems.append(f"asked for {url}")

    def type(self, text: str, *, into: str = "#play-policy") -> None:
        self.page.locator(f"{into} .cm-content").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(text)

    def waits_for(self, selector: str, text: str) -> str:
        found = self.page.locator(selector).filter(has_text=text).first
        found.wait_for(timeout=WAIT)
        return found.inner_text()

    def pick(self, selector: str, option: str) -> None:
        self.page.locator(f"{selector} input").click()
        self.page.locator("[role=option]").filter(has_text=option).first.click()

    def trained(self, row: int) -> str:
        script = "row => [...document.querySelectorAll(`#play-row${row} .trained`)].map(t => t.textContent).join('')"
        return str(self.page.evaluate(script, row))

    def waits_for_trained(self, row: int, text: str) -> None:
        script = (
            "([row, text]) => [...document.querySelectorAll(`#play-row${row} .trained`)]"
            ".map(t => t.textContent).join('') === text"
        )
        self.page.wait_for_function(script, arg=[row, text], timeout=WAIT)

    def rows(self) -> list[int]:
        numbers = self.page.evaluate("[...document.querySelectorAll('#play-rows article')].map(a => +a.dataset.row)")
        return list(numbers)

    def waits_for_rows(self, rows: list[int]) -> None:
        script = "rows => [...document.querySelectorAll('#play-rows article')].map(a => a.dataset.row).join() === rows"
        self.page.wait_for_function(script, arg=",".join(map(str, rows)), timeout=WAIT)

    def close(self) -> None:
        assert self.page.evaluate("window.hit") is None
        assert [] == self.problems
        self.page.close()


@pytest.fixture
def visit(opened: Browser, address: str) -> Iterator[Visit]:
    made = Visit(opened, address)
    yield made
    made.close()


def test_colours_follow_what_is_typed(visit: Visit) -> None:
    visit.waits_for_trained(1, "Hello, friend.<|im_end|>")
    visit.type("train user.text")
    visit.waits_for_trained(1, "Hi there")
    visit.page.keyboard.insert_text("; train assistant.text")
    visit.waits_for_trained(1, "Hi thereHello, friend.")
    visit.waits_for("#play-rules", "2")
    assert "train user.text" in visit.page.locator("#play-rules").inner_text()


def test_a_broken_text_keeps_the_colours_and_says_where(visit: Visit) -> None:
    visit.type("train user.text")
    visit.waits_for_trained(1, "Hi there")
    visit.type("train user.text; train asistant wher")
    said = visit.waits_for("#play-findings .error", "PE101")
    assert "| train user.text; train asistant wher" in said
    line, caret = visit.page.locator("#play-findings .error pre").inner_text().splitlines()
    assert line.index("wher") == caret.index("^")
    assert "keep the colours" in visit.page.locator("#play-findings").inner_text()
    assert "Hi there" == visit.trained(1)
    visit.type("train assistant.text")
    visit.waits_for_trained(1, "Hello, friend.")


def test_a_guard_shows_its_witness(visit: Visit) -> None:
    visit.type("train everything; never train user")
    visit.waits_for("#play-guards .fails", "never train user")
    assert visit.page.locator("#play-guards mark").first.is_visible()
    visit.page.locator("#play-guards summary").first.click()
    assert '"role": "user"' in visit.page.locator("#play-guards details").first.inner_text()
    visit.waits_for("#play-rows .failed", "PE301")
    assert "Hi there" in visit.trained(1)
    visit.type(f"{POLICY}; never train user")
    visit.waits_for("#play-guards .holds", "never train user")


def test_the_proof_of_the_last_text_is_shown(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the proof of an earlier text is at work, a later text is typed."""
    from policy_engine.play import editions

    fast = editions.prove

    def slow(*arguments: Any, **options: Any) -> Any:
        time.sleep(1.5)
        return fast(*arguments, **options)

    monkeypatch.setattr(editions, "prove", slow)
    visit.type("train assistant; never train user  # slow")
    visit.waits_for_trained(1, "Hello, friend.")
    visit.type("train user.text; never train user  # slow")
    visit.waits_for_trained(1, "Hi there")
    visit.waits_for("#play-guards .fails", "never train user")


def test_rows_are_filtered_searched_and_picked(visit: Visit) -> None:
    everything = visit.rows()
    assert [1, 2, 3, 4, 5, 6, 7] == everything
    visit.pick("#play-filter", "nothing trained")
    visit.waits_for_rows([3, 6])
    visit.pick("#play-filter", "failed")
    visit.waits_for_rows([4, 7])
    visit.pick("#play-filter", "all rows")
    visit.page.locator("#play-search input, #play-search textarea").fill("zebra")
    visit.waits_for_rows([2])
    visit.page.locator("#play-search input, #play-search textarea").fill("")
    visit.waits_for_rows(everything)  # else the one row of the search is taken for what is left below
    visit.page.locator("#play-low input").fill("50")
    visit.page.locator("#play-low input").press("Tab")
    visit.page.wait_for_function("document.querySelectorAll('#play-rows article').length < 5", timeout=WAIT)
    assert 3 not in visit.rows()
    visit.page.locator("#play-low input").fill("0")
    visit.page.locator("#play-low input").press("Tab")
    visit.waits_for_rows(everything)
    visit.pick("#play-row", "row 5")
    visit.waits_for_rows([5])
    visit.page.locator("#play-rows .trained").first.hover()
    visit.page.locator("#play-rows .trained b").first.hover()
    tip = visit.waits_for("#tip", "decided by")
    assert "train assistant" in tip


def test_overview_and_table(visit: Visit) -> None:
    visit.page.get_by_role("tab", name="Overview").click()
    visit.waits_for("#play-overview", "7 rows, 2 failed")
    assert "assistant" in visit.page.locator("#play-overview .places").inner_text()
    visit.page.locator("#play-table [role=gridcell]").filter(has_text="A zebra?").first.click()
    visit.page.get_by_role("tab", name="Rows").click()
    visit.waits_for_rows([2])


def test_colours_by_part_and_edges(visit: Visit) -> None:
    visit.page.get_by_label("part", exact=True).check()
    visit.page.wait_for_function("document.documentElement.dataset.by === 'part'")
    assert visit.page.locator("#play-rows .key[data-by=part]").is_visible()
    assert visit.page.locator("#play-rows .key[data-by=role]").is_hidden()
    visit.page.get_by_label("token edges").check()
    visit.page.wait_for_function("document.querySelectorAll('#play-row1 b[data-token]').length > 5")
    visit.type("train user.text")
    visit.waits_for_trained(1, "Hi there")
    visit.page.wait_for_function("document.querySelectorAll('#play-row1 b[data-token]').length > 5")


def test_two_policies_side_by_side(visit: Visit) -> None:
    visit.page.get_by_role("tab", name="Compare").click()
    visit.type("train assistant.text", into="#play-other")
    visit.waits_for("#play-changes", "of 7 rows change")
    assert visit.page.locator("#play-changes .changed").count() > 2
    visit.waits_for("#play-proof", "the policy trains more")
    visit.type("train asistant wher", into="#play-other")
    visit.waits_for("#play-changes", "PE101")


def test_a_link_opens_with_policy_and_row(visit: Visit, opened: Browser, address: str) -> None:
    visit.type("train user.text  # 世界 & <b>")
    visit.waits_for_trained(1, "Hi there")
    visit.pick("#play-row", "row 2")
    visit.waits_for_rows([2])
    visit.page.locator("#play-share").click()
    visit.page.wait_for_function("location.search.includes('policy=')", timeout=WAIT)
    query = urlsplit(visit.page.url).query
    assert {"policy": ["train user.text  # 世界 & <b>"], "row": ["2"]} == parse_qs(query)
    visit.page.locator("#play-link").wait_for(timeout=WAIT)
    other = Visit(opened, address, f"?{query}")
    other.waits_for_rows([2])
    other.waits_for_trained(2, "A zebra?")
    assert "train user.text" in other.page.locator("#play-policy").inner_text()
    other.close()


def test_downloads(visit: Visit) -> None:
    visit.type("train user.text  # mine")
    visit.waits_for_trained(1, "Hi there")
    with visit.page.expect_download() as policy:
        visit.page.locator("#play-save").click()
    assert "my.policy" == policy.value.suggested_filename
    assert "train user.text  # mine" == Path(policy.value.path()).read_text()
    with visit.page.expect_download() as page:
        visit.page.locator("#play-save-page").click()
    text = Path(page.value.path()).read_text()
    assert text.startswith("<!doctype html>")
    assert "id='row1'" in text


def test_payloads_of_links_and_policies_stay_text(opened: Browser, address: str) -> None:
    from urllib.parse import quote

    visit = Visit(opened, address, f"?policy={quote('train user  # ' + EVIL)}&row={quote(EVIL)}&other={quote(EVIL)}")
    visit.type(f"train {EVIL}\n{EVIL}")
    visit.waits_for("#play-findings .error", "window.hit=1")
    assert EVIL in visit.page.locator("#play-row6").evaluate("row => row.textContent.replaceAll('↵', '')")
    visit.page.get_by_role("tab", name="Overview").click()
    visit.waits_for("#play-overview", "rows")
    visit.page.get_by_role("tab", name="Compare").click()
    visit.page.wait_for_timeout(300)
    assert 0 == visit.page.locator("#play-rows img, #play-overview img, #play-findings img").count()
    visit.close()


def test_policies_reach_no_file_outside_their_folder(visit: Visit) -> None:
    visit.type('use "secret.policy"')
    visit.waits_for_trained(1, "Hi there")
    visit.type('use "../secret.policy"')
    visit.waits_for("#play-findings .error", "PE233")


def test_files_of_the_machine_are_not_served(address: str) -> None:
    for path in ("gradio_api/file=/etc/passwd", f"gradio_api/file={ROOT / 'README.md'}", "file=/etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(address + path)
        assert refused.value.code in (403, 404)


@pytest.mark.parametrize(("width", "scheme"), [(1360, "light"), (1360, "dark"), (390, "light"), (390, "dark")])
def test_it_fits_phones_and_desktops(opened: Browser, address: str, width: int, scheme: Any) -> None:
    visit = Visit(opened, address, viewport={"width": width, "height": 844}, color_scheme=scheme)
    assert visit.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    dark = visit.page.locator("#play-rows article").first.evaluate("node => getComputedStyle(node).backgroundColor")
    assert ("rgb(30, 32, 36)" if scheme == "dark" else "rgb(255, 255, 255)") == dark
    visit.type("train everything; never train user")
    visit.waits_for("#play-rows .failed", "PE301")
    worst = visit.page.evaluate(CONTRAST)
    assert worst
    assert {} == {kind: found for kind, found in worst.items() if found["ratio"] < LEGIBLE}
    visit.close()


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


def answers(url: str, process: subprocess.Popen[Any]) -> bool:
    for _ in range(240):
        if process.poll() is not None:
            return False
        try:
            return bool(urllib.request.urlopen(url, timeout=5).status == 200)
        except OSError:
            time.sleep(0.5)
    return False


def test_a_space_serves(tmp_path: Path) -> None:
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GRADIO_SERVER_PORT": str(port)}
    command = [sys.executable, str(ROOT / "examples" / "space" / "app.py")]
    with (tmp_path / "said").open("w") as said, subprocess.Popen(command, env=environment, stderr=said) as process:
        try:
            assert answers(f"http://127.0.0.1:{port}/", process), (tmp_path / "said").read_text()
        finally:
            process.terminate()


def test_the_verb_serves_until_it_is_ended() -> None:
    start = "from policy_engine.cli.main import main; main()"
    command = [sys.executable, "-c", start, "play", "--no-browser", "--port", str(free_port())]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = next(line for line in process.stderr if "serving" in line)
        with urllib.request.urlopen(said.split()[1]) as answer:
            assert 200 == answer.status
        process.send_signal(signal.SIGINT)
        assert 0 == process.wait(timeout=60)
    assert said.endswith("– Ctrl-C ends it\n")
