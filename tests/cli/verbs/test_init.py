from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from policy_engine.chat.loading import load_tokenizer
from policy_engine.data.dataset import load_dataset_spec
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from tests.cli.support import CHATS, cli, write_chats

SHAREGPT = '{"conversations": [{"from": "human", "value": "Hi", "weight": 0.5}, {"from": "gpt", "value": "Hello"}]}'


def test_writes_what_it_saw_and_it_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chats = write_chats(tmp_path)
    ran = cli("init", chats, "-t", "builtin")
    assert ran.code == 0
    policy = (tmp_path / "chats.policy").read_text()
    assert "train eos of assistant" in policy
    assert "never train system\nnever train user\n" in policy
    assert "# mask turn where message.training == false" in policy
    assert "assistant (4)" in policy
    fields = load_dataset_spec("chats.yaml").fields or {}
    assert ("string", "string", "boolean") == tuple(fields[f"message.{n}"] for n in ("role", "content", "training"))
    assert cli("check", "chats.policy", "--dataset", "chats.yaml", "--strict").code == 0
    shown = cli("show", chats, "--dataset", "chats.yaml")
    assert shown.code == 0
    assert "⟦Hi 世界." in shown.out


def _answer(text: str, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "reasoning_content": "Hm.", "content": text, **fields}


_ASK = {"role": "user", "content": "And?"}
_SPAN = {"begin_offset": 0, "end_offset": 4}
# Answers that a suggestion masks whole, by what that suggestion says.
_MASKED = {
    "message.train == false": _answer("Flag.", train=False),
    "message.training == false": _answer("Other.", training=False),
    "message.loss == false": _answer("Void.", loss=False),
    "turn by message.weight": _answer("Zero.", weight=0),
    "turn by message.loss_scale": _answer("Scale.", loss_scale=0.0),
}
_IN_PARTS = {
    "part.train == false": {"role": "assistant", "content": [{"type": "text", "text": "Part.", "train": False}]},
    "assistant by part.weight": {"role": "assistant", "content": [{"type": "text", "text": "None.", "weight": 0}]},
    "spans message.training_detail": {
        "role": "assistant", "content": "Span.", "training_detail": [{**_SPAN, "train": False}],
    },
}  # fmt: skip
_HALF = {"role": "assistant", "content": "Half.", "weight": 0.5, "loss_scale": 0.5, "train": True}
_PLAIN = {"role": "assistant", "content": "Plain."}


@pytest.mark.parametrize("pieces", [{}, _IN_PARTS], ids=["messages", "messages and parts"])
def test_suggestions_are_right_alone_and_together(
    pieces: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    masked = {**_MASKED, **pieces}
    messages = [m for answer in (*masked.values(), _HALF, _PLAIN) for m in (_ASK, answer)]
    assert 0 == cli("init", write_chats(tmp_path, [messages]), "-t", "builtin").code
    lines = (tmp_path / "chats.policy").read_text().splitlines()
    schema, tokenizer = load_dataset_spec("chats.yaml").to_schema(), load_tokenizer("builtin")
    suggested = [line for line in lines if line.startswith(("# mask ", "# train ", "# scale "))]
    # Each has to be there, and the two about thinking are one choice.
    assert len(masked) + 2 == len(suggested)
    thinking, choices = suggested[:2], suggested[2:]
    assert all("assistant.reasoning" in line for line in thinking)
    tried = [thinking, *([line] for line in choices), *itertools.combinations(choices, 2), suggested]
    tried += [[*thinking, line] for line in choices]
    for chosen in tried:
        text = "\n".join(line.removeprefix("# ") if line in chosen else line for line in lines)
        mask = (row := Masker(compile_text(text, schema=schema), tokenizer)(messages)).mask
        weights: dict[int, set[float]] = {}
        for segment, weight in zip(mask.segments_T.tolist(), mask.weights_T.tolist(), strict=True):
            if weight:
                weights.setdefault(row.chat.segments[segment].turn, set()).add(weight)
        left = [answer for means, answer in masked.items() if not any(means in line for line in chosen)]
        assert [messages[turn] for turn in sorted(weights)] == [*left, _HALF, _PLAIN], chosen
        # The end of an answer weighs what its text weighs.
        assert weights[len(messages) - 3] == {0.5 ** sum("by message" in line for line in chosen)}, chosen


def test_sharegpt_roles(tmp_path: Path) -> None:
    chats = write_chats(tmp_path, [SHAREGPT])
    ran = cli("init", chats, "-t", "builtin", "-o", tmp_path / "out", "--format", "json")
    assert ran.code == 0
    assert {"user": 1, "assistant": 1} == ran.document["roles"]
    assert [str(tmp_path / "out.yaml"), str(tmp_path / "out.policy")] == ran.document["wrote"]
    assert "sharegpt" == load_dataset_spec(tmp_path / "out.yaml").kind
    assert cli("show", chats, "--dataset", tmp_path / "out.yaml").code == 0


def test_tokenizer_path_is_kept_as_seen_from_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from policy_engine import builtin

    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    chats = write_chats(tmp_path)
    assert cli("init", chats, "-t", builtin.FOLDER, "-o", "sub/d").code == 0
    monkeypatch.chdir(tmp_path / "sub")
    assert cli("show", chats, "--dataset", "d.yaml").code == 0


def test_replaces_nothing_unless_told(tmp_path: Path) -> None:
    chats, out = write_chats(tmp_path), tmp_path / "out"
    assert cli("init", chats, "-t", "builtin", "-o", out).code == 0
    ran = cli("init", chats, "-t", "builtin", "-o", out)
    assert ran.code == 2
    assert "--overwrite" in ran.err
    assert cli("init", chats, "-t", "builtin", "-o", out, "--overwrite").code == 0


def test_broken_rows_are_warnings(tmp_path: Path) -> None:
    chats = write_chats(tmp_path, [CHATS[0], "{", '{"messages": 3}'])
    ran = cli("init", chats, "-t", "builtin", "-o", tmp_path / "out")
    assert ran.code == 0
    assert "chats.jsonl:2: " in ran.err
    assert "chats.jsonl:3: " in ran.err


def test_nothing_to_read(tmp_path: Path) -> None:
    ran = cli("init", write_chats(tmp_path, ['{"a": 1}']), "-t", "builtin", "-o", tmp_path / "out")
    assert ran.code == 2
    assert not (tmp_path / "out.yaml").exists()


def test_a_pipe_cannot_be_read_twice(tmp_path: Path) -> None:
    ran = cli("init", "-", "-t", "builtin", "-o", tmp_path / "out")
    assert 2 == ran.code
    assert "`init` reads the data more than once, which a pipe cannot give" in ran.err
    assert not list(tmp_path.iterdir())


def test_a_role_that_is_no_word_of_policies_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    roles = ("Zoé", "text", "assistant")
    messages = ", ".join(f'{{"role": "{role}", "content": "Hi"}}' for role in roles)
    ran = cli("init", write_chats(tmp_path, [f'{{"messages": [{messages}]}}']), "-t", "builtin")
    assert ran.code == 0, ran.err
    policy = (tmp_path / "chats.policy").read_text(encoding="utf-8")
    assert 'never train "Zoé"\nnever train "text"\n' in policy
    assert cli("check", "chats.policy", "--dataset", "chats.yaml", "--no-prove").code == 0
