"""A policy under random edits: a real server answers everything, and ends with the findings of one that saw no edit."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

pytest.importorskip("pygls")

from tests.support.editing import QUESTIONS, Editor, edited, long_policy


async def _edit(uri: str, edits: int) -> Editor:
    chance = random.Random(7)
    text = long_policy(60)
    async with Editor(uri) as editor:
        editor.open(text)
        for number in range(edits):
            text = edited(text, chance)
            editor.change(text)
            if number % 5 == 0:
                await editor.ask(QUESTIONS[number // 5 % len(QUESTIONS)], text, chance)
        mine = await editor.findings()
    async with Editor(uri) as fresh:
        fresh.open(text)
        assert mine == await fresh.findings()
    return editor


def test_a_server_under_edits(tmp_path: Path) -> None:
    editor = asyncio.run(_edit((tmp_path / "a.policy").as_uri(), 140))
    assert set(QUESTIONS) == set(editor.seconds)
    assert "" == editor.log
    assert len(editor.published[editor.version]) > 20


async def _many_large_answers(uri: str) -> list[object]:
    chance = random.Random(7)
    text = long_policy(1_000)
    async with Editor(uri) as editor:
        editor.open(text)
        asked = []
        for _ in range(8):
            text = f"# {text}"
            editor.change(text)
            asked += [editor.ask(question, text, chance) for question in ("symbols", "formatting", "symbols", "hover")]
        answers = await asyncio.gather(*asked)
        await editor.findings()
    assert "" == editor.log
    return answers


def test_large_answers_do_not_run_into_each_other(tmp_path: Path) -> None:
    assert 32 == len(asyncio.run(_many_large_answers((tmp_path / "a.policy").as_uri())))
