"""torchtune's dataset from a configuration: the labels a `Masker` gives, and what torchtune cannot take refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from policy_engine.adapters.torchtune import PolicyTransform, policy_dataset
from policy_engine.builtin import FOLDER, TOKENIZER
from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import ConfigError, DataError
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_file
from tests.cli.support import cli

ROOT = Path(__file__).parents[2]
CHATS = ROOT / "examples" / "chats.jsonl"
TOKENS = load_tokenizer("builtin").tokenizer


def recipe_tokenizer(**changed: Any) -> Any:
    """What a recipe passes on."""

    def encode(text: str, add_bos: bool, add_eos: bool) -> list[int]:
        return [1, 2, *TOKENS.encode(text, add_special_tokens=False)[2:]]  # an opening of its own

    return SimpleNamespace(**{"encode": encode, "max_seq_len": 512, "pad_id": TOKENS.pad_token_id, **changed})


def made(tokenizer: Any = None, **changed: Any) -> Any:
    given = {"source": "json", "data_files": str(CHATS), "policy": "default", "chat_tokenizer": "builtin"}
    given |= changed
    return policy_dataset(
        recipe_tokenizer() if tokenizer is None else tokenizer, **{k: v for k, v in given.items() if v is not None}
    )


def test_rows_are_what_a_masker_makes() -> None:
    masker = Masker(compile_file("default"), "builtin")
    rows = made()
    chats = [json.loads(line)["messages"] for line in CHATS.read_text().splitlines()]
    assert len(chats) == len(rows)
    for at, chat in enumerate(chats):
        row = masker(chat)
        assert {"tokens": row["input_ids"], "labels": row["labels"]} == rows[at]


def test_files_that_are_masked_already(tmp_path: Path) -> None:
    masked = tmp_path / "masked.parquet"
    assert 0 == cli("apply", CHATS, "-p", "default", "-t", "builtin", "-o", masked).code
    rows = made(source="parquet", data_files=str(masked), policy=None, chat_tokenizer=None)
    assert [rows[at] for at in range(len(rows))] == [made()[at] for at in range(len(rows))]
    packed = tmp_path / "packed.parquet"
    assert (
        0 == cli("apply", CHATS, "-p", "default", "-t", "builtin", "-o", packed, "--pack", "--max-length", "200").code
    )
    with pytest.raises(ConfigError, match="rows are packed"):
        made(source="parquet", data_files=str(packed))
    (tmp_path / "ids.jsonl").write_text('{"input_ids": [1, 2]}\n')
    with pytest.raises(DataError, match="no `labels`"):
        made(data_files=str(tmp_path / "ids.jsonl"))


def test_what_torchtune_cannot_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no `policy` or no `chat_tokenizer`"):
        made(policy=None)
    with pytest.raises(ConfigError, match="no weights per token"):
        PolicyTransform(masker=Masker(compile_file(ROOT / "examples" / "weighted.policy"), "builtin"))
    with pytest.raises(ConfigError, match="no weights per token"):
        made(policy=str(ROOT / "examples" / "weighted.policy"))
    with pytest.raises(ConfigError, match=r"row 0 has \d+ tokens, and `max_seq_len` of the tokenizer is 9"):
        made(recipe_tokenizer(max_seq_len=9))
    with pytest.raises(ConfigError, match="needs a length"):
        made(recipe_tokenizer(max_seq_len=None), packed=True)
    other = recipe_tokenizer(encode=lambda text, add_bos, add_eos: [ord(c) for c in text])
    with pytest.raises(ConfigError, match="other ids"):
        made(other)


@pytest.mark.parametrize("packed", [False, True])
def test_the_example_as_a_recipe_makes_it(packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchtune")
    import torch
    from omegaconf import OmegaConf
    from torchtune import config
    from torchtune.data import padded_collate_packed, padded_collate_sft
    from torchtune.modules.transforms.tokenizers import HuggingFaceBaseTokenizer

    monkeypatch.chdir(ROOT)
    written = yaml.safe_load((ROOT / "examples" / "torchtune.yaml").read_text())
    written["dataset"] |= {"chat_tokenizer": "builtin", "packed": packed}
    # It wants a beginning to be named, which this vocabulary does not have.
    names = json.loads((FOLDER / "tokenizer_config.json").read_text())
    settings = tmp_path / "tokenizer_config.json"
    settings.write_text(json.dumps({**names, "bos_token": names["eos_token"]}))
    base = HuggingFaceBaseTokenizer(tokenizer_json_path=str(TOKENIZER), tokenizer_config_json_path=str(settings))
    tokenizer = SimpleNamespace(encode=base.encode, max_seq_len=200, pad_id=TOKENS.pad_token_id)
    dataset = config.instantiate(OmegaConf.create(written).dataset, tokenizer)
    rows = [dataset[at] for at in range(len(dataset))]
    if packed:
        assert len(rows) < len(made())
        batch = padded_collate_packed(rows)
    else:
        batch = padded_collate_sft(rows, padding_idx=tokenizer.pad_id)
    trained = batch["labels"] != -100
    assert torch.equal(batch["labels"][trained], batch["tokens"][trained])
    masked = made(policy=str(ROOT / "examples" / "chat.policy"))
    wanted = [label for at in range(len(masked)) for label in masked[at]["labels"] if label != -100]
    assert wanted == batch["labels"][trained].tolist()
