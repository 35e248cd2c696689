"""NeMo Automodel itself, as far as it runs on a CPU: its loader, collators, both packings, and the step that its recipe
for fine-tuning takes with a batch, on a tiny model. Its labels are ours, and its loss is the one computed by hand.

Needs the package, which `make frameworks` installs in an environment of its own. The recipe's set-up needs CUDA and is
not run: the step is given what it would have made.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

torch = pytest.importorskip("torch")
train_ft = pytest.importorskip("nemo_automodel.recipes.llm.train_ft")

from nemo_automodel.components.config.loader import ConfigNode  # noqa: E402
from nemo_automodel.components.datasets import loader  # noqa: E402
from nemo_automodel.components.datasets.datum import collate_datums  # noqa: E402
from nemo_automodel.components.datasets.utils import default_collater  # noqa: E402
from nemo_automodel.components.loss.masked_ce import MaskedCrossEntropy  # noqa: E402

from policy_engine.adapters.automodel import automodel_data  # noqa: E402
from policy_engine.builtin import sample_rows  # noqa: E402
from policy_engine.chat.loading import load_tokenizer  # noqa: E402
from policy_engine.core.vocabulary import IGNORE_INDEX  # noqa: E402
from policy_engine.mask.masker import Masker  # noqa: E402
from policy_engine.rules.compile import compile_text  # noqa: E402
from policy_engine.run.pack import pack  # noqa: E402

PLAIN = "train assistant; train eos after assistant"
WEIGHTED = "train everything weight 0.5; train assistant weight 2"
CLOSE = 1e-5


def rows_of(policy: str) -> list[Any]:
    masker = Masker(compile_text(policy), load_tokenizer("builtin"))
    chats = [row["messages"] for row in sample_rows() if isinstance(row.get("messages"), list) and not row.get("tools")]
    return [masker(chat) for chat in chats[:4]]


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(load_tokenizer("builtin").tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def by_hand(model: Any, rows: Sequence[Any]) -> tuple[float, int]:
    """Weight times negative log likelihood, summed over all tokens, each row by itself; and how many are trained."""
    total, tokens = 0.0, 0
    with torch.no_grad():
        for row in rows:
            logs = torch.log_softmax(model(input_ids=torch.tensor([row.input_ids])).logits[0].float(), dim=-1)
            for at, label in enumerate(row.labels):
                if label != IGNORE_INDEX:
                    total += (row.loss_weights or [1.0] * (at + 1))[at] * -float(logs[at - 1, label])
                    tokens += 1
    return total, tokens


def batches_of(folder: Path, rows: Sequence[Any], packing: str | None = None, size: int = 400) -> list[dict[str, Any]]:
    """Batches of the recipe's own loader, over a file of masked rows that its configuration names."""
    file = folder / "masked.parquet"
    plain = [{n: np.asarray(c).tolist() for n, c in dict(row).items()} for row in rows]
    pq.write_table(pa.Table.from_pylist(plain), file)
    dataset = ConfigNode({"_target_": "policy_engine.adapters.automodel.automodel_dataset", "path": str(file)})
    config = loader.DataloaderConfig(
        dataset_config=loader.make_dataset_config(dataset._target_, {"path": dataset.path}),
        packing=loader.make_packing_config(packing, {"packed_sequence_size": size}),
        batch_size=2, shuffle=False,
    )  # fmt: skip
    return list(config.build(dp_rank=0, dp_world_size=1))


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def step(model: Any, batches: Sequence[dict[str, Any]]) -> float:
    """What the recipe's step adds up to over the micro-batches of an optimizer step."""
    recipe = train_ft.TrainFinetuneRecipeForNextTokenPrediction.__new__(
        train_ft.TrainFinetuneRecipeForNextTokenPrediction
    )
    recipe.__dict__.update(
        dist_env=SimpleNamespace(device=torch.device("cpu")), model_parts=[model], loss_fn=MaskedCrossEntropy(),
        pp_enabled=False, pp=None, device_mesh=None, tokenizer=None, domain_mixture=None, te_fp8=None,
        distributed_config=None, mesh_context=None, cfg=None,
    )  # fmt: skip
    losses: list[Any] = []
    count = sum(train_ft._count_label_tokens(batch["labels"], IGNORE_INDEX) for batch in batches)
    for at, batch in enumerate(batches):
        recipe._forward_backward_step(
            at, batch, loss_buffer=losses, num_label_tokens=count, num_batches=len(batches), is_train=False
        )
    return float(sum(losses))


def packed(rows: Sequence[Any]) -> list[Any]:
    made = pack([row.arrays() for row in rows], 400)
    assert len(made) < len(rows)
    return made


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("packing", [None, "neat"])
def test_a_step_of_the_recipe(model: Any, tmp_path: Path, packs: bool, packing: str | None) -> None:
    """Files packed by us and not, packed by Automodel and not: over all micro-batches the loss is that by hand."""
    rows = rows_of(PLAIN)
    batches = batches_of(tmp_path, packed(rows) if packs else rows, packing)
    total, tokens = by_hand(model, rows)
    assert tokens == sum(int((batch["labels"] != IGNORE_INDEX).sum()) for batch in batches)
    assert total / tokens == pytest.approx(step(model, batches), abs=CLOSE)


def test_packs_for_models_that_take_lengths(tmp_path: Path) -> None:
    """Its other packing, whose attention needs a GPU, up to the batch: documents and labels are ours."""
    rows = rows_of(PLAIN)
    found = []
    for batch in batches_of(tmp_path, rows, "thd"):
        assert "thd" == batch["qkv_format"]
        for ids, labels, lengths in zip(*(batch[name].tolist() for name in ("input_ids", "labels", "seq_lens"))):
            ends = np.cumsum([length for length in lengths if length > 0]).tolist()
            found += [(ids[start:end], labels[start:end]) for start, end in zip([0, *ends], ends)]
            assert {IGNORE_INDEX} >= set(labels[ends[-1] :])
    assert sorted((row.input_ids[:-1], row.labels[1:]) for row in rows) == sorted(found)


def test_it_leaves_out_what_is_longer_than_a_pack(tmp_path: Path) -> None:
    rows = rows_of(PLAIN)
    longest = max(len(row.input_ids) for row in rows) - 1
    count = {
        size: sum(int((batch["seq_lens"] > 0).sum()) for batch in batches_of(tmp_path, rows, "thd", size))
        for size in (longest, longest - 1)
    }
    assert {longest: len(rows), longest - 1: len(rows) - 1} == count


def test_it_shifts_nothing(model: Any) -> None:
    """Labels beside their own tokens, as other trainers want them, would be trained to repeat those."""
    (row,) = rows_of(PLAIN)[:1]
    batch = {"input_ids": torch.tensor([row.input_ids]), "labels": torch.tensor([row.labels])}
    with torch.no_grad():
        logs = torch.log_softmax(model(input_ids=batch["input_ids"]).logits[0].float(), dim=-1)
    own = [-float(logs[at, label]) for at, label in enumerate(row.labels) if label != IGNORE_INDEX]
    assert sum(own) / len(own) == pytest.approx(step(model, [batch]), abs=CLOSE)


@pytest.mark.parametrize("policy", [PLAIN, WEIGHTED])
@pytest.mark.parametrize("packs", [False, True])
def test_weights_in_a_loop_of_one_s_own(model: Any, policy: str, packs: bool) -> None:
    rows = rows_of(policy)
    data = [datum for row in (packed(rows) if packs else rows) for datum in automodel_data(row)]
    assert {torch.int64} == {tensor.dtype for d in data for tensor in (d.input_ids, d.loss_fn_inputs["target_tokens"])}
    batch = collate_datums(data)
    count = int((batch["labels"] != IGNORE_INDEX).sum())
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    found = MaskedCrossEntropy()(logits, batch["labels"], num_label_tokens=count, loss_weights=batch["weights"])
    total, tokens = by_hand(model, rows)
    assert (tokens, torch.float32) == (count, batch["weights"].dtype)
    assert total / tokens == pytest.approx(float(found), abs=CLOSE)


def test_weights_reach_no_recipe() -> None:
    """Its collator makes whole numbers of every column of a row."""
    rows = [{"input_ids": [5], "labels": [6], "loss_weights": [0.5]}]
    assert [[0]] == default_collater(rows)["loss_weights"].tolist()
