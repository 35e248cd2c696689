"""axolotl itself, through `doctor`: from its configuration over its preparation of tokenized rows to a step of its
trainer, packed by it and not, the loss of the batch is the one computed by hand; what goes wrong there is named.

Needs the package, which `make frameworks` installs in an environment of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("axolotl")
pytest.importorskip("bitsandbytes")

from policy_engine.builtin import sample_rows
from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import ConfigError
from policy_engine.doctor.examination import Examination, Finding
from policy_engine.doctor.examine import examine
from policy_engine.doctor.runners import check_names
from policy_engine.doctor.samples import read_sample
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.run.pack import pack
from tests.cli.support import cli

PLAIN = "train assistant; train eos after assistant"
WEIGHTED = "train assistant weight 0.5; train eos after assistant weight 2"
CLOSE = 1e-5
PACKED = {"sample_packing": True, "sequence_len": 160, "attn_implementation": "sdpa"}


def chats(count: int = 6) -> list[dict[str, Any]]:
    return list(islice((r for r in sample_rows() if isinstance(r.get("messages"), list) and not r.get("tools")), count))


def arrays(policy: str = PLAIN) -> list[dict[str, Any]]:
    masker = Masker(compile_text(policy), load_tokenizer("builtin"))
    return [masker(row["messages"]).arrays() for row in chats()]


def step(rows: Sequence[dict[str, Any]], **settings: Any) -> Examination:
    given = [(number, {name: column.tolist() for name, column in row.items()}) for number, row in enumerate(rows, 1)]
    tokenizer = load_tokenizer("builtin").tokenizer
    return examine(read_sample(given, {}), "axolotl", settings=settings, tokenizer=tokenizer)


def errors(found: Examination) -> list[Finding]:
    return [f for f in found.findings if f.severity == "error"]


def survives(found: Examination) -> None:
    assert () == found.findings
    assert found.by_hand == pytest.approx(found.loss, abs=CLOSE)
    assert "0.19.0" == found.version


def test_clean_rows() -> None:
    found = step(arrays(), sequence_len=256, learning_rate=1e-4, deepspeed="zero2.json", datasets=[{"path": "chats"}])
    survives(found)
    assert 6 == found.checked["documents of the batch"]
    assert ("datasets", "deepspeed", "learning_rate") == found.left_out
    assert {"sequence_len": 256} == found.settings


@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
def test_packed_by_axolotl(attention: str) -> None:
    found = step(arrays(), **{**PACKED, "attn_implementation": attention})
    survives(found)
    assert 6 == found.checked["documents of the batch"]
    assert found.checked["ids"] == found.checked["positions"] > 160  # several packs
    assert (attention if attention == "eager" else "sdpa") == found.settings["attn_implementation"]


def test_older_names_of_attention() -> None:
    settings = {**PACKED, "flash_attention": True}
    del settings["attn_implementation"]
    found = step(arrays(), **settings)
    survives(found)
    assert "sdpa" == found.settings["attn_implementation"]


def test_without_a_named_attention_its_packs_see_each_other() -> None:
    settings = {**PACKED}
    del settings["attn_implementation"]
    (finding,) = errors(step(arrays(), **settings))
    assert "joined" == finding.code
    assert "attn_implementation" in finding.help


@pytest.mark.parametrize("settings", [{"sequence_len": 256}, PACKED])
def test_an_end_marker_that_is_the_padding(settings: dict[str, Any]) -> None:
    end = load_tokenizer("builtin").tokenizer.eos_token
    assert any(row["labels"].tolist().count(load_tokenizer("builtin").tokenizer.eos_token_id) for row in arrays())
    survives(step(arrays(), special_tokens={"pad_token": end}, **settings))


def test_what_it_does_with_long_rows() -> None:
    assert 116 == max(len(row["input_ids"]) for row in arrays())
    dropped = step(arrays(), sequence_len=60)
    assert [("rows-lost", "warning")] == [(f.code, f.severity) for f in dropped.findings]
    assert dropped.by_hand == pytest.approx(dropped.loss, abs=CLOSE)
    assert ["cut"] == [f.code for f in errors(step(arrays(), sequence_len=60, excess_length_strategy="truncate"))]
    (refused,) = errors(step(arrays(), sequence_len=60, excess_length_strategy="raise"))
    assert "116 tokens, which exceeds the maximum 60" in refused.message
    (nothing,) = errors(step(arrays(), sequence_len=20))
    assert ("no row is left" in nothing.message, "sequence_len" in nothing.help) == (True, True)


@pytest.mark.parametrize("packed", [False, True])
def test_further_columns(packed: bool) -> None:
    """Left out without sample packing, where its truncation cuts them not; with it, its collator cannot join them."""
    rows = [{**row, "source_row": np.array(number)} for number, row in enumerate(arrays())]
    found = step(rows, **(PACKED if packed else {"sequence_len": 60, "excess_length_strategy": "truncate"}))
    if packed:
        (finding,) = errors(found)
        assert ("refused", True) == (finding.code, "--no-row-numbers" in finding.help)
    else:
        assert ["cut", "columns-dropped"] == [f.code for f in found.findings]


@pytest.mark.parametrize("packed", [False, True])
def test_weights_are_not_supported(packed: bool) -> None:
    found = step(arrays(WEIGHTED), **(PACKED if packed else {"sequence_len": 256}))
    assert (["refused"] if packed else []) + ["weights-ignored"] == [f.code for f in errors(found)]


def test_packs_of_ours_are_not_taken() -> None:
    packed = pack(arrays(), 200)
    (finding,) = errors(step(packed, sequence_len=256))
    assert ("refused", True) == (finding.code, "without `--pack`" in finding.help)
    masked = [{**row, "attention_mask": np.ones_like(row["input_ids"])} for row in packed]
    for settings in ({"sequence_len": 256}, {**PACKED, "sequence_len": 512}):
        (finding,) = errors(step(masked, **settings))
        assert ("joined", True) == (finding.code, "not packed" in finding.help)


def test_other_losses_and_settings_it_refuses() -> None:
    assert ["loss"] == [f.code for f in errors(step(arrays(), sequence_len=256, use_eaft=True))]
    survives(step(arrays(), sequence_len=256, chunked_cross_entropy=True))
    for settings, said in (
        ({"attn_implementation": "best"}, "is not a recognized backend"),
        ({"batch_flattening": True}, "flash attention"),
    ):
        (finding,) = errors(step(arrays(), **settings))
        assert "refused" == finding.code
        assert said in finding.message


def test_the_command(tmp_path: Path) -> None:
    data, masked, config = tmp_path / "chats.jsonl", tmp_path / "masked.parquet", tmp_path / "config.yml"
    data.write_text("".join(json.dumps(row) + "\n" for row in chats()))
    assert 0 == cli("apply", str(data), "-p", "default", "-t", "builtin", "-o", str(masked), "--no-row-numbers").code
    config.write_text(
        "base_model: org/model\nsequence_len: 256\nsample_packing: true\nflash_attention: true\n"
        "datasets:\n  - path: masked.parquet\n"
    )
    result = cli("doctor", str(masked), "--trainer", "axolotl", "--config", str(config), "--format", "json")
    found = json.loads(result.out)
    assert 0 == result.code, found
    assert found["loss_by_hand"] == pytest.approx(found["loss"], abs=CLOSE)
    assert ["base_model", "datasets", "flash_attention"] == sorted({*found["settings_left_out"], "flash_attention"})
    example = Path(__file__).parents[2] / "examples" / "axolotl.yml"
    assert 0 == cli("doctor", str(masked), "--trainer", "axolotl", "--config", str(example)).code
    with pytest.raises(ConfigError, match="doctor reads no setting `sample_pack`"):
        check_names("axolotl", ["sample_pack"])
