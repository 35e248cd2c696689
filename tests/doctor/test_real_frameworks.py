"""LLaMA-Factory, torchtune and verl themselves, through `doctor`: their dataset classes, collators and losses take our
rows, and the loss of a batch is the masked cross entropy computed by hand; what each cannot do is named.

Needs these packages, which `make frameworks` installs in an environment of its own.
"""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from policy_engine.adapters.torchtune import PolicyTransform  # noqa: E402
from policy_engine.builtin import sample_rows  # noqa: E402
from policy_engine.chat.loading import load_tokenizer  # noqa: E402
from policy_engine.core.errors import ConfigError  # noqa: E402
from policy_engine.doctor.examination import Examination  # noqa: E402
from policy_engine.doctor.examine import examine  # noqa: E402
from policy_engine.doctor.runners import check_names  # noqa: E402
from policy_engine.doctor.samples import read_sample  # noqa: E402
from policy_engine.mask.masker import Masker  # noqa: E402
from policy_engine.rules.compile import compile_text  # noqa: E402
from policy_engine.run.pack import pack  # noqa: E402
from tests.cli.support import cli  # noqa: E402

pytestmark = pytest.mark.usefixtures("without_sound")
PLAIN = "train assistant; train eos after assistant"
WEIGHTED = "train assistant weight 0.5; train eos after assistant weight 2"


def masker(policy: str = PLAIN) -> Masker:
    return Masker(compile_text(policy), load_tokenizer("builtin"))


def chats(count: int = 4) -> list[dict[str, Any]]:
    return list(islice((r for r in sample_rows() if isinstance(r.get("messages"), list) and not r.get("tools")), count))


def arrays(policy: str = PLAIN) -> list[dict[str, Any]]:
    return [masker(policy)(row["messages"]).arrays() for row in chats()]


def step(trainer: str, rows: list[dict[str, Any]], **settings: Any) -> Examination:
    given = [(number, {name: column.tolist() for name, column in row.items()}) for number, row in enumerate(rows, 1)]
    tokenizer = load_tokenizer("builtin").tokenizer
    return examine(read_sample(given, {}), trainer, settings=settings, tokenizer=tokenizer)


def survives(found: Examination) -> None:
    assert [] == errors(found), [f.message for f in found.findings]
    assert found.by_hand == pytest.approx(found.loss, abs=1e-5)
    assert found.holds
    assert found.version


def errors(found: Examination) -> list[str]:
    return [f.code for f in found.findings if f.severity == "error"]


@pytest.fixture(params=["llamafactory", "torchtune", "verl"])
def trainer(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    name: str = request.param
    return name


def test_labels_and_order_survive(trainer: str) -> None:
    survives(step(trainer, arrays()))


def test_the_command(trainer: str, tmp_path: Path) -> None:
    data = tmp_path / "chats.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in chats()))
    masked = tmp_path / "masked.parquet"
    assert 0 == cli("apply", str(data), "-p", "default", "-t", "builtin", "-o", str(masked)).code
    for given, options in ((data, ["-p", "default", "-t", "builtin"]), (masked, [])):
        result = cli("doctor", str(given), "--trainer", trainer, *options, "--format", "json")
        found = json.loads(result.out)
        assert 0 == result.code, found
        assert found["loss_by_hand"] == pytest.approx(found["loss"], abs=1e-5)


def test_a_name_that_is_no_setting(trainer: str) -> None:
    with pytest.raises(ConfigError, match="no setting `xqzzy`"):
        check_names(trainer, ["xqzzy"])


@pytest.mark.parametrize("name", ["llamafactory", "torchtune"])
def test_weights_are_not_supported(name: str) -> None:
    pytest.importorskip(name)
    assert "weights-ignored" in errors(step(name, arrays(WEIGHTED)))


def test_weights_in_verl() -> None:
    pytest.importorskip("verl")
    rows = arrays(WEIGHTED)
    found = step("verl", rows)
    survives(found)
    assert found.checked["weights"] == sum(len(row["input_ids"]) for row in rows)
    assert found.by_hand != pytest.approx(step("verl", arrays()).by_hand, abs=1e-3)


def test_packs_of_ours_in_verl() -> None:
    pytest.importorskip("verl")
    found = step("verl", pack(arrays(WEIGHTED), 400))
    survives(found)
    assert found.documents > found.rows


def test_verl_takes_no_longer_rows() -> None:
    pytest.importorskip("verl")
    found = step("verl", arrays(), **{"data.max_length": 20})
    assert ["refused"] == errors(found)
    assert "`max_length` is 20" in found.findings[-1].message
    cut = step("verl", arrays(), data={"max_length": 20, "truncation": "right", "train_batch_size": 9})
    assert "cut" in errors(cut)
    assert ("data.train_batch_size",) == cut.left_out


def test_packs_of_torchtune() -> None:
    pytest.importorskip("torchtune")
    settings = {"dataset": {"packed": True}, "tokenizer": {"max_seq_len": 400}}
    found = step("torchtune", arrays(), **settings)
    survives(found)
    assert found.checked["positions"] == found.checked["ids"]
    settings["dataset"]["split_across_pack"] = True
    split = step("torchtune", arrays(), **{**settings, "tokenizer": {"max_seq_len": 150}})
    assert "cut" in errors(split)
    refused = step("torchtune", arrays(), **{"dataset.packed": True, "tokenizer.max_seq_len": 20})
    assert ["refused"] == errors(refused)


@pytest.mark.parametrize("name", ["llamafactory", "torchtune"])
def test_packs_of_ours_are_not_taken(name: str) -> None:
    pytest.importorskip(name)
    found = step(name, pack(arrays(), 400))
    assert {"joined", "refused"} & set(errors(found))
    assert "not packed" in found.findings[-1].help or "do not pack" in found.findings[-1].help


def test_torchtune_masks_chats_by_a_policy() -> None:
    pytest.importorskip("torchtune")
    from torchtune.datasets._sft import SFTTransform

    transform = SFTTransform(model_transform=PolicyTransform(masker=masker()))
    made = [transform({"messages": row["messages"]}) for row in chats()]
    assert [row["labels"].tolist() for row in arrays()] == [list(map(int, sample["labels"])) for sample in made]


def test_llamafactory_packs_its_own_way() -> None:
    """Rows as its neat packing writes them: documents counted in the attention mask."""
    pytest.importorskip("llamafactory")
    rows = arrays()
    size = sum(len(row["input_ids"]) for row in rows)
    pad = load_tokenizer("builtin").tokenizer.pad_token_id
    short = -size % 8
    packed = {
        "input_ids": [i for row in rows for i in row["input_ids"].tolist()] + [pad] * short,
        "labels": [i for row in rows for i in row["labels"].tolist()] + [-100] * short,
        "attention_mask": [n for n, row in enumerate(rows, 1) for _ in row["input_ids"]] + [0] * short,
        "position_ids": [at for row in rows for at in range(len(row["input_ids"]))] + [0] * short,
    }
    survives(step("llamafactory", [{name: _Column(values) for name, values in packed.items()}], neat_packing=True))


def test_llamafactory_with_another_loss() -> None:
    pytest.importorskip("llamafactory")
    assert ["loss"] == errors(step("llamafactory", arrays(), use_dft_loss=True))
    assert ["loss"] == errors(step("llamafactory", arrays(), label_smoothing_factor=0.2))


class _Column(list[int]):
    def tolist(self) -> list[int]:
        return list(self)
