"""`import swift` held against ms-swift's own loss scales: the weight of every character of generated answers.

Needs the package, which `make frameworks` installs in an environment of its own.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

pytest.importorskip("modelscope")
pytest.importorskip("swift.template")

from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import ConfigError
from policy_engine.importers.imported import Imported
from policy_engine.importers.swift import from_swift
from policy_engine.mask.explain import explain_pieces
from policy_engine.mask.masker import Masker
from policy_engine.mask.row import MaskedRow
from policy_engine.rules.compile import compile_file, compile_text

PLAIN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
BESIDE = ("header", "eot", "separator")
PIECES = (
    "Action:", "Action Input:", "Thought:", "Final Answer:", "Observation:", "Next:", "✿FUNCTION✿:", "✿ARGS✿:",
    "✿RETURN✿:", "✿RESULT✿:", "Name:", "Command", "action input", "<tool_call>", "</tool_call>", "\n", " so ", "a: b",
    "\n\n", " look(1) ", ".",
)  # fmt: skip
FILES = (
    {"Thought:": [0.5, 1.0], "Action:": [2.0, 2.0]},
    {"Thought:": [0.0, 1.5], "Action:": [1.0, 0.0], "Observation:": [0.0, 0.0]},
    {"Action:": [2.0, 3.0], "<tool_call>.+?</tool_call>": [2.0]},
    {"so": [0.5], "look\\(\\d\\)": [0.0]},
)


def answers(count: int = 150) -> list[str]:
    picks = random.Random(7)
    made = ["".join(picks.choice(PIECES) for _ in range(picks.randint(1, 9))).strip() for _ in range(count)]
    thought = [
        "<think>\n\n</think>\n\nso",
        "</think>\n\nso",
        "<think>\nhm\n</think>\n\nThought: a\nb",
        "Thought: a\nAction:",
    ]
    return [text for text in made if text] + thought


def chat_end(row: MaskedRow) -> float:
    """The weight of the end marker of the answer."""
    ends = [p.weight for p in explain_pieces(row.program, row.chat) if p.turn == 1 and p.part == "eot"]
    return ends[0]


def weights_of(masker: Masker, text: str) -> list[float]:
    """Per character of an answer."""
    row = masker([{"role": "user", "content": "x"}, {"role": "assistant", "content": text}])
    pieces = [p for p in explain_pieces(masker.program, row.chat) if p.turn == 1 and p.part not in BESIDE]
    found = [piece.weight for piece in pieces for _ in piece.text]
    assert len(text) == len(found)
    assert chat_end(row) == 1, "the end marker is the suffix, which has a weight of its own"
    return found


def masker_of(made: Imported) -> Masker:
    return Masker(compile_text(made.policy_text), load_tokenizer("builtin", template=PLAIN))


def theirs(scale: object, text: str) -> list[float]:
    contexts, weights = scale.get_loss_scale(text, query="x")  # type: ignore[attr-defined]
    return [float(weight) for context, weight in zip(contexts, weights) for _ in context]


@pytest.mark.parametrize(
    "name",
    ["react", "qwen", "alpha_umi", "hermes", "ignore_empty_think", "ignore_think_prefix", "hermes+ignore_empty_think",
     "react+ignore_think_prefix", "base"],
)  # fmt: skip
def test_names(name: str) -> None:
    from swift.loss_scale import get_loss_scale

    (made,) = from_swift(name)
    masker, scale = masker_of(made), get_loss_scale(name)
    for text in answers():
        assert theirs(scale, text) == weights_of(masker, text), text


@pytest.mark.parametrize("config", FILES)
def test_files(config: dict[str, list[float]], tmp_path: Path) -> None:
    from swift.loss_scale.utils import calculate_loss_scale

    path = tmp_path / "w.json"
    path.write_text(json.dumps(config))
    (made,) = from_swift(str(path))
    masker = masker_of(made)
    for text in answers():
        contexts, weights = calculate_loss_scale(None, text, config)
        expected = [float(weight) for context, weight in zip(contexts, weights) for _ in context]
        assert expected == weights_of(masker, text), text


def test_every_name_is_known() -> None:
    from swift.loss_scale import loss_scale_map

    for name in sorted({*loss_scale_map} - {"agentflan"}):
        assert from_swift(name)
    with pytest.raises(ConfigError, match="cannot be carried over"):
        from_swift("agentflan")


@pytest.mark.parametrize(
    ("preset", "name"),
    [("swift_react", "react"), ("swift_hermes", "hermes"), ("swift_ignore_empty_think", "ignore_empty_think")],
)
def test_presets(preset: str, name: str) -> None:
    from swift.loss_scale import get_loss_scale

    masker = Masker(compile_file(preset), load_tokenizer("builtin", template=PLAIN))
    for text in answers():
        assert theirs(get_loss_scale(name), text) == weights_of(masker, text), text
