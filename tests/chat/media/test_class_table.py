"""The table of all processor classes, beside what the code says of them; `make media-classes` measures it again."""

from __future__ import annotations

import json

import pytest
import transformers

from benchmarks.media_classes import EQUAL, PAGE, RESULT, page
from policy_engine.chat.media.classes import kinds_of, why_refused

TABLE = json.loads(RESULT.read_text(encoding="utf-8"))
ROWS = {row["class"]: row for row in TABLE["classes"]}


def test_the_page_shows_the_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(TABLE)


def test_classes_that_are_taken_were_measured_and_none_differs() -> None:
    for row in ROWS.values():
        if row["refused"] is None:
            assert list(row["rows"]) == row["kinds"]
            for found in row["rows"].values():
                assert found == EQUAL or found.startswith(("refused when used: ", "not measured: "))


@pytest.mark.parametrize(
    "name",
    [
        "Qwen2VLProcessor", "LlavaNextProcessor", "Idefics3Processor", "Idefics2Processor", "MllamaProcessor",
        "CLIPProcessor", "Qwen2AudioProcessor", "NemotronH_Omni_Reasoning_V3Processor", "Gemma3Processor",
    ],
)  # fmt: skip
def test_the_table_says_what_the_code_says(name: str) -> None:
    cls = getattr(transformers, name)
    assert (ROWS[name]["refused"], ROWS[name]["kinds"]) == (why_refused(cls), list(kinds_of(cls)))


def test_classes_that_are_refused_when_they_are_used_are_not_called_taken() -> None:
    for name in ("ChameleonProcessor", "Molmo2Processor", "Qwen3ASRProcessor"):
        assert all(found.startswith("refused when used: ") for found in ROWS[name]["rows"].values())
