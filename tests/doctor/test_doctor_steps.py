"""`doctor` with the real trainers: what is right is found right, and each trap of theirs is named.

Needs torch and trl, which no default install has: `make trainers` runs this in an environment of its own.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

from policy_engine.builtin import sample_rows
from policy_engine.chat.loading import load_tokenizer
from policy_engine.doctor.examination import Examination
from policy_engine.doctor.examine import examine
from policy_engine.doctor.samples import read_sample
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.run.pack import pack
from tests.cli.support import cli

PLAIN = "train assistant; train eos after assistant"
WEIGHTED = "train assistant weight 0.5; train eos after assistant weight 2"


def arrays(policy: str = PLAIN, count: int = 6) -> list[dict[str, Any]]:
    masker = Masker(compile_text(policy), load_tokenizer("builtin"))
    rows = [r for r in sample_rows() if isinstance(r.get("messages"), list) and not r.get("tools")]
    masked = (masker(row["messages"]) for row in rows)
    return list(islice((row.arrays() for row in masked if not row.is_empty), count))


def step(rows: list[dict[str, Any]], trainer: str, *, without: tuple[str, ...] = (), **options: Any) -> Examination:
    given = [
        (number, {name: list(map(_plain, column)) for name, column in row.items() if name not in without})
        for number, row in enumerate(rows, 1)
    ]
    tokenizer = load_tokenizer("builtin").tokenizer
    settings = options.pop("settings", {"max_length": None} if trainer == "trl" else {})
    return examine(read_sample(given, {}), trainer, tokenizer=tokenizer, settings=settings, **options)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def errors(found: Examination) -> list[str]:
    return [f.code for f in found.findings if f.severity == "error"]


def survives(found: Examination) -> None:
    assert [] == errors(found)
    assert found.by_hand == pytest.approx(found.loss, abs=1e-5)
    assert found.holds


@pytest.mark.parametrize("collator", ["padding", "seq2seq", "token_classification", "flattening"])
def test_transformers(collator: str) -> None:
    survives(step(arrays(), "transformers", collator=collator))


def test_transformers_packed_by_us() -> None:
    found = step(pack(arrays(), 200), "transformers")
    survives(found)
    assert found.documents > found.rows


@pytest.mark.parametrize("settings", [{}, {"packing": True, "max_length": 400}, {"padding_free": True}])
def test_trl(settings: dict[str, Any]) -> None:
    survives(step(arrays(), "trl", settings={"max_length": None, **settings}))


def test_trl_packed_by_us() -> None:
    packed = pack(arrays(), 200)
    survives(step(packed, "trl", settings={"max_length": None, "padding_free": True}))
    found = step(packed, "trl")
    assert ["joined"] == errors(found)
    assert "padding_free=True" in found.findings[-1].help
    assert found.by_hand != pytest.approx(found.loss, abs=1e-5)
    refused = step(packed, "trl", settings={"padding_free": True})
    assert ["refused"] == errors(refused)
    assert "max_length=None" in refused.findings[-1].message


@pytest.mark.parametrize("trainer", ["transformers", "trl"])
@pytest.mark.parametrize("denominator", ["weights", "tokens"])
def test_weights(trainer: str, denominator: Any) -> None:
    settings = {"remove_unused_columns": False, "max_length": None}
    rows = arrays(WEIGHTED)
    survives(step(rows, trainer, denominator=denominator, settings=settings))
    assert ["weights-ignored"] == errors(step(rows, trainer))
    dropped = step(rows, trainer, denominator=denominator)
    assert ["refused"] == errors(dropped)
    assert "remove_unused_columns=False" in dropped.findings[-1].help


def test_weights_of_packed_rows() -> None:
    settings = {"remove_unused_columns": False}
    survives(step(pack(arrays(WEIGHTED), 200), "transformers", denominator="weights", settings=settings))


@pytest.mark.parametrize("settings", [{"packing": True, "max_length": 400}, {"padding_free": True, "max_length": None}])
@pytest.mark.parametrize("denominator", ["weights", "tokens"])
def test_weights_ride_on_labels_where_trl_packs(settings: dict[str, Any], denominator: Any) -> None:
    found = step(arrays(WEIGHTED), "trl", denominator=denominator, settings=settings)
    survives(found)
    assert found.checked["weights"] == sum(len(row["input_ids"]) for row in arrays(WEIGHTED))
    ours = step(pack(arrays(WEIGHTED), 200), "trl", denominator=denominator, settings={**settings, "packing": False,
                "padding_free": True, "max_length": None})  # fmt: skip
    survives(ours)


def test_a_completion_mask_needs_a_setting() -> None:
    rows = [{**row, "completion_mask": (row["labels"] != -100).astype("int8")} for row in arrays()]
    found = step(rows, "trl", without=("labels",))
    assert ["labels-ignored"] == errors(found)
    assert "completion_only_loss=True" in found.findings[-1].help
    survives(step(rows, "trl", without=("labels",), settings={"max_length": None, "completion_only_loss": True}))


def test_trl_cuts_and_says_nothing() -> None:
    found = step(arrays(), "trl", settings={"max_length": 30})
    assert ["cut"] == errors(found)
    assert ["cut", "rows-lost"] == [f.code for f in found.findings]
    assert "max_length=None" in found.findings[0].help


def test_a_collator_that_makes_labels_of_its_own() -> None:
    found = step(arrays(count=1), "transformers", collator="language_modeling")
    assert errors(found) in (["labels-ignored"], ["pad-masked"])
    ragged = step(arrays(), "transformers", collator="default")
    assert ["refused"] == errors(ragged)
    assert "PaddingCollator" in ragged.findings[-1].help


def test_another_loss_is_told() -> None:
    assert ["loss"] == errors(step(arrays(), "transformers", settings={"label_smoothing_factor": 0.2}))


def test_settings_that_do_not_matter_are_said() -> None:
    found = step(arrays(), "trl", settings={"max_length": None, "bf16": True, "output_dir": "x", "mine": 1})
    survives(found)
    assert ("bf16", "mine", "output_dir") == found.left_out


def test_the_command(tmp_path: Path) -> None:
    chats = tmp_path / "chats.jsonl"
    rows = islice((r for r in sample_rows() if isinstance(r.get("messages"), list)), 6)
    chats.write_text("".join(json.dumps(row) + "\n" for row in rows))
    masked = tmp_path / "masked.parquet"
    assert 0 == cli("apply", str(chats), "-p", "default", "-t", "builtin", "-o", str(masked)).code
    for data, options in ((chats, ["-p", "default", "-t", "builtin"]), (masked, [])):
        result = cli("doctor", str(data), "--trainer", "trl", "--set", "max_length=null", *options, "--format", "json")
        found = json.loads(result.out)
        assert 0 == result.code
        assert found["loss_by_hand"] == pytest.approx(found["loss"], abs=1e-5)
    config = tmp_path / "sft.yaml"
    config.write_text("max_length: 20\nlearning_rate: 1.0e-4\n")
    result = cli("doctor", str(masked), "--trainer", "trl", "--config", str(config))
    assert 1 == result.code
    assert "the trainer cut" in result.err
