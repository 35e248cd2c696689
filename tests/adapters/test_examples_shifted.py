"""The examples of targets that take shifted labels run: as far as the package is there, `make frameworks` with it."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from policy_engine.adapters.automodel import automodel_dataset
from policy_engine.core.vocabulary import IGNORE_INDEX
from tests.adapters.test_examples import EXAMPLES, ROOT, wanted
from tests.cli.support import cli


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def masked(name: str, policy: str = "chat.policy", *options: str) -> str:
    arguments = ["-p", EXAMPLES / policy, "-t", "builtin", "-o", name, *options]
    ran = cli("apply", EXAMPLES / "chats.jsonl", *arguments)
    assert 0 == ran.code, ran.err
    return name


def test_automodel() -> None:
    given = yaml.safe_load((EXAMPLES / "automodel.yaml").read_text())["dataset"]
    masked(given["path"])
    assert f"{automodel_dataset.__module__}.{automodel_dataset.__qualname__}" == given.pop("_target_")
    assert [row.labels[1:] for row in wanted()] == list(automodel_dataset(**given)["labels"])

    loader = pytest.importorskip("nemo_automodel.components.datasets.loader")
    config = pytest.importorskip("nemo_automodel.components.config.loader")
    node = config.load_yaml_config(str(EXAMPLES / "automodel.yaml")).dataset
    made = loader.make_dataset_config(node._target_, {"path": node.path}).build(tokenizer=None)
    assert [row.input_ids[:-1] for row in wanted()] == list(made["input_ids"])


def test_megatron(tmp_path: Path) -> None:
    packed = masked("packed.parquet", "chat.policy", "--max-length", "200", "--pack")
    command = [sys.executable, str(EXAMPLES / "megatron.py"), packed, "train.npy", "builtin", "200"]
    ran = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert 0 == ran.returncode, ran.stderr
    made = np.load("train.npy", allow_pickle=True)
    assert f"{len(made)} sequences" == ran.stdout.strip()
    assert sum(int(sequence["loss_mask"].sum()) for sequence in made) == sum(
        label != IGNORE_INDEX for row in wanted() for label in row.labels
    )
    assert (tmp_path / "metadata.json").exists()


def test_tinker(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop, with a service that keeps what it is sent."""
    tinker = pytest.importorskip("tinker")
    sent: list[Any] = []
    steps: list[Any] = []

    def keep(into: list[Any]) -> Any:
        return lambda data, **_: SimpleNamespace(result=lambda: into.append(data))

    client = SimpleNamespace(forward_backward=keep(sent), optim_step=keep(steps))
    service = SimpleNamespace(create_lora_training_client=lambda base_model: client)
    monkeypatch.setattr(tinker, "ServiceClient", lambda: service)
    monkeypatch.setattr(sys, "argv", ["tinker_sft.py", masked("masked.parquet", "weighted.policy"), "any"])
    runpy.run_path(str(EXAMPLES / "tinker_sft.py"), run_name="__main__")
    data = [datum for batch in sent for datum in batch]
    assert [row.input_ids[:-1] for row in wanted("weighted.policy")] == [d.model_input.to_ints() for d in data]
    assert (len(sent), {1.0}) == (len(steps), {round(sum(d.loss_fn_inputs["weights"].tolist()), 5) for d in data})
