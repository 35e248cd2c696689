"""Draws `docs/assets/play.png`, the live page in a real browser: `make play-picture`.

Needs Gradio, Playwright, Pillow and a Chromium.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from PIL import Image

from policy_engine import builtin
from policy_engine.chat.loading import load_tokenizer
from policy_engine.play.gradio_page import build, launch_options
from policy_engine.play.loaded_rows import load_board
from tests.site.browser import browser

PATH = Path(__file__).parents[1] / "docs" / "assets" / "play.png"
POLICY = """\
train assistant           # its answers
train eos of assistant    # and their ends
mask assistant.reasoning  # no thinking
never train user, tool    # proven
on media ignore
"""
SHOWN = "reasoning-1"
"""The row that is shown, by its id."""
SIZE = {"width": 1200, "height": 820}
COLOURS = 200
"""Colours of the picture: enough for smooth text, at a third of the bytes."""
WAIT = 60_000


def main() -> int:
    """The command."""
    board = load_board(str(builtin.SAMPLE), load_tokenizer("builtin"), limit=200, opening=POLICY)
    page = build(board)
    _, address, _ = page.launch(server_name="127.0.0.1", prevent_thread_lock=True, **launch_options())
    try:
        with browser() as chromium:
            tab = chromium.new_page(viewport=SIZE)  # type: ignore[arg-type]
            row = [sample.get("id") for sample in builtin.sample_rows()].index(SHOWN) + 1
            tab.goto(f"{address}?row={row}")
            tab.locator("#play-rows article").wait_for(timeout=WAIT)
            tab.locator("#play-guards .holds").wait_for(timeout=WAIT)
            tab.wait_for_timeout(500)
            shot = tab.screenshot()
    finally:
        page.close(verbose=False)
    few = Image.open(io.BytesIO(shot)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(PATH, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
