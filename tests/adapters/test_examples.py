"""What lies in examples/ runs: scripts as they are, configurations as their own frameworks read them.

Without torch and the frameworks only what needs none of them; `make trainers` and `make frameworks` run the rest.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from policy_engine.adapters.verl import PolicySFTDataset
from policy_engine.builtin import FOLDER
from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import ConfigError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.mask.masker import Masker
from policy_engine.proof.load_policy import load_policy
from tests.cli.support import cli

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
CHATS = [json.loads(line)["messages"] for line in (EXAMPLES / "chats.jsonl").read_text().splitlines()]


def wanted(policy: str = "chat.policy") -> list[Any]:
    masker = Masker(load_policy(EXAMPLES / policy), "builtin")
    return [masker(chat) for chat in CHATS]


@pytest.mark.parametrize(
    "script", ["transformers_trainer.py", "trl_sft.py", "trl_weighted.py", "trl_dpo.py", "trl_tagged.py"]
)
def test_scripts_run(script: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("trl.trainer.sft_trainer" if script.startswith("trl") else "accelerate")
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / script)], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr
    losses = [float(loss) for loss in re.findall(r"'loss': '?([0-9.]+)", ran.stdout)]
    assert 5 == len(losses)
    assert all(loss > 0 for loss in losses)


def test_rollouts() -> None:
    ran = subprocess.run(
        [sys.executable, str(EXAMPLES / "agent_rollouts.py")], capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "trained text: Yes, it rains in Oslo.<|im_end|>" in ran.stdout
    sampled, trained = map(int, re.findall(r"(?:sampled|trained): (\d+)", ran.stdout))
    assert 0 < trained < sampled


def test_the_readme_names_every_file() -> None:
    text = (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.rglob("*.*"):
        within = path.relative_to(EXAMPLES)
        if within.parts[0] == "space":  # as Hugging Face wants it, with a README of its own
            assert "`space/`" in text
        else:
            assert path.name in ("README.md", "small.py") or path.name in text, path


def test_policies_mean_something() -> None:
    plain, weighted = wanted(), wanted("weighted.policy")
    assert all(row.loss_weights is None for row in plain)
    assert {0.0, 0.5, 1.0} == {weight for row in weighted for weight in row.loss_weights}


def test_axolotl() -> None:
    from datasets import load_dataset

    from policy_engine.adapters import axolotl

    (entry,) = yaml.safe_load((EXAMPLES / "axolotl.yml").read_text())["datasets"]
    assert "policy_engine.adapters.axolotl" == entry["type"]
    given = {**entry, "policy": str(ROOT / entry["policy"])}
    rows = load_dataset(entry["ds_type"], data_files=str(ROOT / entry["path"]), split="train")
    made = axolotl.load(load_tokenizer("builtin").tokenizer, cfg={}, ds_cfg=given).wrap_dataset(rows)
    assert [row.labels for row in wanted()] == list(made["labels"])


def test_axolotl_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("AXOLOTL_DO_NOT_TRACK", "1")
    pytest.importorskip("axolotl.core.trainers")
    from axolotl.cli.config import load_cfg
    from axolotl.common.datasets import load_datasets

    config = yaml.safe_load((EXAMPLES / "axolotl.yml").read_text())
    config |= {"base_model": str(tiny_model(tmp_path)), "output_dir": str(tmp_path / "out"), "sample_packing": False}
    config |= {"dataset_prepared_path": str(tmp_path / "prepared")}
    (tmp_path / "my.policy").write_text((EXAMPLES / "chat.policy").read_text())
    config["datasets"][0]["policy"] = str(tmp_path / "my.policy")
    path = tmp_path / "axolotl.yml"
    path.write_text(yaml.safe_dump(config))

    def prepared() -> list[list[int]]:
        return sorted(load_datasets(cfg=load_cfg(str(path))).train_dataset["labels"])

    assert sorted(row.labels for row in wanted()) == prepared()
    assert 1 == len([p for p in (tmp_path / "prepared").iterdir() if p.is_dir()])
    # What was prepared by another policy is not taken for this one's.
    (tmp_path / "my.policy").write_text((EXAMPLES / "chat.policy").read_text() + "mask assistant.text\n")
    assert sorted(row.labels for row in wanted()) != prepared()
    assert 2 == len([p for p in (tmp_path / "prepared").iterdir() if p.is_dir()])
    # Written otherwise, it is the same policy.
    (tmp_path / "my.policy").write_text("# a comment\n" + (EXAMPLES / "chat.policy").read_text())
    assert sorted(row.labels for row in wanted()) == prepared()
    assert 2 == len([p for p in (tmp_path / "prepared").iterdir() if p.is_dir()])
    config["datasets"][0]["train_on_eos"] = "all"
    path.write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match="`train_on_eos` too"):
        load_cfg(str(path))


@pytest.mark.usefixtures("without_sound")
def test_llamafactory(tmp_path: Path) -> None:
    from datasets import load_from_disk

    masked = tmp_path / "masked.parquet"
    arguments = ["-p", EXAMPLES / "chat.policy", "-t", "builtin", "-o", masked, "--no-row-numbers"]
    assert 0 == cli("apply", EXAMPLES / "chats.jsonl", *arguments).code
    # The line as both pages have it.
    guide = (ROOT / "docs" / "how-to" / "trainers.md").read_text().splitlines()
    (line,) = {line for line in guide if ".save_to_disk('tokenized')" in line}
    assert line in (EXAMPLES / "README.md").read_text().splitlines()
    subprocess.run([sys.executable, *shlex.split(line)[1:]], check=True, capture_output=True, cwd=tmp_path)
    saved = load_from_disk(str(tmp_path / "tokenized"))["train"]
    assert {"input_ids", "labels", "attention_mask"} == set(saved.column_names)
    assert [row.labels for row in wanted()] == list(saved["labels"])

    pytest.importorskip("llamafactory")
    from llamafactory.hparams import get_train_args

    config = yaml.safe_load((EXAMPLES / "llamafactory.yaml").read_text())
    config |= {"output_dir": str(tmp_path / "out"), "tokenized_path": str(tmp_path / "tokenized"), "use_cpu": True}
    _, data, *_ = get_train_args({**config, "model_name_or_path": str(tiny_model(tmp_path))})
    from llamafactory.data.loader import get_dataset

    module = get_dataset(None, None, data, None, stage="sft", tokenizer=load_tokenizer("builtin").tokenizer)
    assert [row.labels for row in wanted()] == list(module["train_dataset"]["labels"])


def test_verl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split((EXAMPLES / "verl.sh").read_text(), comments=True)
    overrides = [word for word in words if "=" in word and not word.startswith(("--", "model."))]
    pairs = (word.removeprefix("+").removeprefix("data.").split("=") for word in overrides)
    given = {name: yaml.safe_load(value) for name, value in pairs}
    made = PolicySFTDataset(given["train_files"], load_tokenizer("builtin").tokenizer, given)
    masks = [made.columns(at)["loss_mask"].tolist() for at in range(len(made))]
    assert [[float(label != IGNORE_INDEX) for label in row.labels] for row in wanted()] == masks

    verl = pytest.importorskip("verl")
    from hydra import compose, initialize_config_dir
    from verl.utils.import_utils import load_extern_object

    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        data = compose("sft_trainer_engine", overrides).data
    cls = load_extern_object(data.custom_cls.path, data.custom_cls.name)
    theirs = cls(parquet_files=data.train_files, tokenizer=load_tokenizer("builtin").tokenizer, config=data)
    assert masks == [theirs[at]["loss_mask"].tolist() for at in range(len(theirs))]


def test_swift(tmp_path: Path) -> None:
    masked, out = tmp_path / "masked.parquet", tmp_path / "rows.jsonl"
    arguments = ["-p", EXAMPLES / "weighted.policy", "-t", "builtin", "-o", masked]
    assert 0 == cli("apply", EXAMPLES / "chats.jsonl", *arguments).code
    command = [sys.executable, str(EXAMPLES / "swift" / "rows.py"), str(masked), str(out)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    made = [json.loads(line)["messages"][0]["content"] for line in out.read_text().splitlines()]
    assert [row.loss_weights for row in wanted("weighted.policy")] == [content["loss_scale"] for content in made]

    pytest.importorskip("swift")
    command = [
        sys.executable,
        "-c",
        "import plugin, swift.template; print('policy_engine' in swift.template.TEMPLATE_MAPPING)",
    ]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(EXAMPLES / "swift")])}
    ran = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert "True" == (ran.stdout.strip().splitlines() or [""])[-1], ran.stderr


def tiny_model(folder: Path) -> Path:
    """A random model with the embedded tokenizer, as a folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    made = folder / "model"
    config = LlamaConfig(
        vocab_size=len(load_tokenizer("builtin").tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(made)
    for path in FOLDER.glob("*.j*"):
        (made / path.name).write_bytes(path.read_bytes())
    return made
