"""Media as the views show them: one cell with kind, size and token count; a small picture on the page."""

from __future__ import annotations

import json
from pathlib import Path

from policy_engine import Masker, MediaOptions, policy_from_text
from policy_engine.cli.records import ShowOptions
from policy_engine.cli.work.inputs import MaskerInputs
from policy_engine.cli.work.show import show_rows
from tests.support.pictures import draw, processor

POLICY = policy_from_text("train assistant; train eos after assistant; never train user")


def inputs(root: Path) -> MaskerInputs:
    masker = Masker(POLICY, processor("qwen2_vl"), media=MediaOptions(root=root))
    return MaskerInputs(masker=masker, policy="p", tokenizer="t")


def data(root: Path, name: str) -> str:
    draw(root, "cat.png", 112, 56)
    row = {
        "messages": [
            {"role": "user", "content": [{"type": "image", "path": name}, {"type": "text", "text": "What?"}]},
            {"role": "assistant", "content": "A cat."},
        ]
    }
    (root / "data.jsonl").write_text(json.dumps(row) + "\n")
    return str(root / "data.jsonl")


def test_a_medium_is_one_cell_of_the_terminal(tmp_path: Path) -> None:
    from rich.console import Console

    shown = show_rows(data(tmp_path, "cat.png"), inputs(tmp_path), ShowOptions(limit=5))
    console = Console(record=True, width=200)
    for line in shown.body:
        console.print(line)
    text = console.export_text()
    assert "[image cat.png, 112 × 56: 8 tokens]" in text
    assert "<|image_pad|>" not in text


def test_the_page_has_a_small_picture_of_its_own_making(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    show_rows(data(tmp_path, "cat.png"), inputs(tmp_path), ShowOptions(limit=5, html=page))
    text = page.read_text()
    assert "img-src data:;" in text
    assert 1 == text.count("<img class='medium' alt='' src='data:image/png;base64,")
    assert "[image cat.png, 112 × 56: 8 tokens]" in text


def test_names_of_files_are_escaped(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    name = "a'><script>x<b>.png"
    draw(tmp_path, "plain.png", 112, 56)
    (tmp_path / "plain.png").rename(tmp_path / name)
    show_rows(data(tmp_path, name), inputs(tmp_path), ShowOptions(limit=5, html=page))
    assert "<script>x" not in page.read_text()
    assert "&lt;script&gt;x" in page.read_text()
