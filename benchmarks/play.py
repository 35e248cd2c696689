"""Measures the live page in a real browser: from a key to the new colours.

    python -m benchmarks.play [--rows 50] [--tokens 1600] [--edits 10]

Makes rows of about so many tokens, opens the page in Chromium, edits the policy, and prints how long it takes until the
browser has drawn a frame in which the last row has its new colours (milliseconds: least, median, most). Needs what
`make play-browser` needs.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
from pathlib import Path

from policy_engine.chat.loading import load_tokenizer
from policy_engine.play.gradio_page import build, launch_options
from policy_engine.play.loaded_rows import load_board
from tests.site.browser import browser

TEXT = "the model answers with a list of items and explains why each one matters to the reader in rows of words"
WORDS = TEXT.split()
TURNS = 5
SIDES = (
    "train user.text",
    "train assistant.text",
    "train assistant; mask /the \\w+/ in assistant.text; never train user",
)
DRAWN = """([row, before]) => {
  const runs = [...document.querySelectorAll(`#play-row${row} .t`)].map((run) => run.className).join();
  return runs && runs !== before ? performance.now() : false;
}"""
RUNS = "row => [...document.querySelectorAll(`#play-row${row} .t`)].map((run) => run.className).join()"


def rows(count: int, tokens: int) -> list[dict[str, object]]:
    """Conversations of `TURNS` questions and answers, about a token a word."""
    rng = random.Random(1)
    words = round((tokens / (2 * TURNS) - 6) / 1.27)  # the built-in tokenizer's tokens a word

    def text() -> str:
        return " ".join(rng.choice(WORDS) for _ in range(words))

    turns = [{"role": "user"}, {"role": "assistant"}] * TURNS
    return [{"messages": [{**turn, "content": text()} for turn in turns]} for _ in range(count)]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.play", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50)
    parser.add_argument("--tokens", type=int, default=1600)
    parser.add_argument("--edits", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chats.jsonl"
        made = rows(arguments.rows, arguments.tokens)
        path.write_text("".join(f"{json.dumps(row)}\n" for row in made), encoding="utf-8")
        board = load_board(str(path), load_tokenizer("builtin"), limit=arguments.rows, opening=SIDES[0])
    total = sum(len(row.tokenized.input_ids) for row in board.rows if row.tokenized is not None)
    page = build(board)
    _, address, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, **launch_options())
    taken = []
    try:
        with browser() as chromium:
            tab = chromium.new_page(viewport={"width": 1360, "height": 1000})
            tab.goto(address)
            last = board.rows[-1].number
            tab.locator(f"#play-row{last}").wait_for(timeout=60_000, state="attached")
            tab.wait_for_timeout(3000)
            for edit in range(1, arguments.edits + 1):
                tab.locator("#play-policy .cm-content").click()
                tab.keyboard.press("Control+a")
                before = tab.evaluate(RUNS, last)
                start = tab.evaluate("performance.now()")
                # The number makes each text one that was never decided before.
                tab.keyboard.insert_text(f"{SIDES[edit % len(SIDES)]}  # {edit}")
                drawn = tab.wait_for_function(DRAWN, arg=[last, before], polling="raf", timeout=60_000).json_value()
                taken.append(drawn - start)
                tab.wait_for_timeout(1500)
    finally:
        page.close(verbose=False)
    least, middle, most = min(taken), statistics.median(taken), max(taken)
    print(f"{len(board.rows)} rows, {total:,} tokens, {len(taken)} edits: {least:.0f} / {middle:.0f} / {most:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
