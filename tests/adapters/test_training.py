"""Real trainers, real steps: the loss of one step equals a masked cross entropy computed by hand.

Needs torch and trl, which no default install has: `make trainers` runs this in an environment of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from policy_engine.adapters.collate import PaddingCollator  # noqa: E402
from policy_engine.adapters.weights import WeightCodes, weighted_loss_func, weighted_trainer  # noqa: E402
from policy_engine.builtin import sample_rows  # noqa: E402
from policy_engine.chat.loading import load_tokenizer  # noqa: E402
from policy_engine.core.errors import ConfigError, RowError  # noqa: E402
from policy_engine.core.vocabulary import IGNORE_INDEX  # noqa: E402
from policy_engine.mask.masker import Masker  # noqa: E402
from policy_engine.rules.compile import compile_text  # noqa: E402

PLAIN = "train assistant; train eos after assistant; mask system, user"
WEIGHTED = "train assistant weight 0.5; train eos after assistant weight 2; mask system, user"
CLOSE = 1e-5


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer("builtin").tokenizer


def _rows(tokenizer: Any, policy: str, count: int = 8) -> list[dict[str, Any]]:
    masker = Masker(compile_text(policy), load_tokenizer("builtin"))
    made = []
    for row in sample_rows():
        if len(made) < count and isinstance(row.get("messages"), list) and not row.get("tools"):
            masked = masker(row["messages"])
            if any(label != IGNORE_INDEX for label in masked["labels"]):
                made.append({name: list(masked[name]) for name in ("input_ids", "labels", "attention_mask")})
                if masked.loss_weights is not None:
                    made[-1]["loss_weights"] = list(masked.loss_weights)
    return made


@pytest.fixture
def model(tokenizer: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def _by_hand(model: Any, rows: list[dict[str, Any]], *, denominator: str) -> float:
    """Every row by itself, every token by itself: weight times nll, over the sum of weights or the tokens."""
    total, weights, tokens = 0.0, 0.0, 0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor([row["input_ids"]])
            logs = torch.log_softmax(model(input_ids=ids).logits[0].float(), dim=-1)
            for at in range(1, len(row["labels"])):
                if row["labels"][at] != IGNORE_INDEX:
                    weight = row.get("loss_weights", [1.0] * len(row["labels"]))[at]
                    total += weight * -float(logs[at - 1, row["labels"][at]])
                    weights += weight
                    tokens += 1
    return total / (weights if denominator == "weights" else tokens)


def _arguments(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder), "per_device_train_batch_size": 4, "max_steps": 1, "learning_rate": 0.0,
        "report_to": [], "logging_steps": 1, "use_cpu": True, "save_strategy": "no", "disable_tqdm": True, **more,
    }  # fmt: skip


def _first_loss(trainer: Any) -> float:
    trainer.train()
    return next(float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_trainer_with_the_padding_collator(model: Any, tokenizer: Any, folder: Path) -> None:
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    rows = _rows(tokenizer, PLAIN, count=4)
    expected = _by_hand(model, rows, denominator="tokens")
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**_arguments(folder)),
        train_dataset=Dataset.from_list(rows),
        data_collator=PaddingCollator(pad_token_id=tokenizer.pad_token_id),
    )
    assert expected == pytest.approx(_first_loss(trainer), abs=CLOSE)


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_first_label_is_never_a_target(tokenizer: Any, side: Any) -> None:
    rows = [{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}, {"input_ids": [8], "labels": [8]}]
    batch = PaddingCollator(pad_token_id=0, side=side)(rows)
    assert 2 == int((batch["labels"] != IGNORE_INDEX).sum())
    assert 4 == int(batch["attention_mask"].sum())


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(RowError, match="3 `input_ids` and 2 `labels`"):
        PaddingCollator(pad_token_id=0)([{"input_ids": [1, 2, 3], "labels": [1, 2]}])


def test_weight_one_is_the_unweighted_loss(model: Any, tokenizer: Any) -> None:
    rows = _rows(tokenizer, PLAIN, count=3)
    codes = WeightCodes.of([[1.0]])
    batch = PaddingCollator(pad_token_id=0)(rows)
    outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"])
    for denominator in ("tokens", "weights"):
        loss = weighted_loss_func(codes, denominator=denominator)(outputs, batch["labels"])
        assert float(outputs.loss) == pytest.approx(float(loss), abs=CLOSE)


@pytest.mark.parametrize("denominator", ["weights", "tokens"])
def test_weighted_trainer(model: Any, tokenizer: Any, folder: Path, denominator: Any) -> None:
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    rows = _rows(tokenizer, WEIGHTED, count=4)
    expected = _by_hand(model, rows, denominator=denominator)
    trainer = weighted_trainer(Trainer, denominator=denominator)(
        model=model,
        args=TrainingArguments(**_arguments(folder, remove_unused_columns=False)),
        train_dataset=Dataset.from_list(rows),
        data_collator=PaddingCollator(pad_token_id=tokenizer.pad_token_id),
    )
    assert expected == pytest.approx(_first_loss(trainer), abs=CLOSE)


def test_smoothing_of_labels_is_refused_with_weights(model: Any, tokenizer: Any, folder: Path) -> None:
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    with pytest.raises(ConfigError, match=r"`label_smoothing_factor` is 0.1"):
        weighted_trainer(Trainer, denominator="weights")(
            model=model,
            args=TrainingArguments(**_arguments(folder, label_smoothing_factor=0.1)),
            train_dataset=Dataset.from_list(_rows(tokenizer, WEIGHTED, count=2)),
        )


def test_weighted_trainer_over_accumulated_steps(model: Any, tokenizer: Any, folder: Path) -> None:
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    rows = _rows(tokenizer, WEIGHTED, count=4)
    expected = _by_hand(model, rows, denominator="weights")
    arguments = _arguments(folder, remove_unused_columns=False, gradient_accumulation_steps=2)
    trainer = weighted_trainer(Trainer, denominator="weights")(
        model=model,
        args=TrainingArguments(**{**arguments, "per_device_train_batch_size": 2}),
        train_dataset=Dataset.from_list(rows),
        data_collator=PaddingCollator(pad_token_id=tokenizer.pad_token_id),
    )
    assert expected == pytest.approx(_first_loss(trainer), abs=CLOSE)


def test_models_that_take_no_loss_arguments(model: Any, tokenizer: Any, folder: Path) -> None:
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    class Plain(type(model)):  # type: ignore[misc]
        accepts_loss_kwargs = False

    model.__class__ = Plain
    rows = _rows(tokenizer, WEIGHTED, count=4)
    for steps in (1, 4):
        arguments = _arguments(folder, remove_unused_columns=False, gradient_accumulation_steps=steps)
        trainer = weighted_trainer(Trainer, denominator="tokens")(
            model=model,
            args=TrainingArguments(**{**arguments, "per_device_train_batch_size": 4 // steps}),
            train_dataset=Dataset.from_list(rows),
            data_collator=PaddingCollator(pad_token_id=tokenizer.pad_token_id),
        )
        assert _by_hand(model, rows, denominator="tokens") == pytest.approx(_first_loss(trainer), abs=CLOSE)


def test_weights_without_a_code_are_refused() -> None:
    codes = WeightCodes.of([[0.5]])
    with pytest.raises(ConfigError, match=r"the weight 2\.0 is none"):
        codes.encode([5], [2.0])
    with pytest.raises(ConfigError, match="leaves no room"):
        codes.encode([1 << 20], [0.5])


def _coded(rows: list[dict[str, Any]]) -> tuple[WeightCodes, list[dict[str, Any]]]:
    codes = WeightCodes.of([row["loss_weights"] for row in rows])
    return codes, [
        {"input_ids": row["input_ids"], "labels": codes.encode(row["labels"], row["loss_weights"])} for row in rows
    ]


@pytest.mark.parametrize("denominator", ["weights", "tokens"])
def test_compute_loss_func_of_trainer(model: Any, tokenizer: Any, folder: Path, denominator: Any) -> None:
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    rows = _rows(tokenizer, WEIGHTED, count=4)
    expected = _by_hand(model, rows, denominator=denominator)
    codes, coded = _coded(rows)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**_arguments(folder)),
        train_dataset=Dataset.from_list(coded),
        data_collator=PaddingCollator(pad_token_id=tokenizer.pad_token_id),
        compute_loss_func=weighted_loss_func(codes, denominator=denominator),
    )
    assert expected == pytest.approx(_first_loss(trainer), abs=CLOSE)


@pytest.mark.parametrize("denominator", ["weights", "tokens"])
@pytest.mark.parametrize("size", [1, 2])
def test_compute_loss_func_over_accumulated_steps(
    model: Any, tokenizer: Any, folder: Path, denominator: Any, size: int
) -> None:
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    rows = _rows(tokenizer, WEIGHTED, count=4)
    codes, coded = _coded(rows)
    batches = [rows[at : at + size] for at in range(0, len(rows), size)]
    counts = [sum(label != IGNORE_INDEX for row in batch for label in row["labels"]) for batch in batches]
    expected = sum(
        _by_hand(model, batch, denominator=denominator) * count / sum(counts)
        for batch, count in zip(batches, counts, strict=True)
    )
    arguments = {**_arguments(folder), "per_device_train_batch_size": size, "gradient_accumulation_steps": len(batches)}

    class InOrder(Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(self.train_dataset)

    trainer = InOrder(
        model=model,
        args=TrainingArguments(**arguments),
        train_dataset=Dataset.from_list(coded),
        data_collator=PaddingCollator(pad_token_id=tokenizer.pad_token_id),
        compute_loss_func=weighted_loss_func(codes, denominator=denominator),
    )
    assert expected == pytest.approx(_first_loss(trainer), abs=CLOSE)


@pytest.mark.parametrize("packing", [False, True])
def test_sft_trainer_takes_our_labels(model: Any, tokenizer: Any, folder: Path, packing: bool) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    rows = [{k: row[k] for k in ("input_ids", "labels")} for row in _rows(tokenizer, PLAIN, count=4)]
    expected = _by_hand(model, rows, denominator="tokens")
    longest = sum(len(row["input_ids"]) for row in rows)
    # The CPU attention of packed rows is per document only without padding; TRL turns that on with packing.
    config = trl.SFTConfig(
        **_arguments(folder, packing=packing, max_length=longest if packing else None, bf16=False, fp16=False)
    )
    trainer = trl.SFTTrainer(
        model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    assert expected == pytest.approx(_first_loss(trainer), abs=CLOSE)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("denominator", ["weights", "tokens"])
def test_weights_on_labels_pass_through_sft_trainer(
    model: Any, tokenizer: Any, folder: Path, denominator: Any, packing: bool
) -> None:
    trl = pytest.importorskip("trl")
    from datasets import Dataset

    rows = _rows(tokenizer, WEIGHTED, count=6)
    expected = _by_hand(model, rows, denominator=denominator)
    codes, coded = _coded(rows)
    sizes = [len(row["input_ids"]) for row in rows]
    arguments = _arguments(folder, packing=packing, max_length=max(sizes) + min(sizes) if packing else None)
    config = trl.SFTConfig(**{**arguments, "per_device_train_batch_size": 6}, bf16=False, fp16=False)
    given = {"model": model, "args": config, "train_dataset": Dataset.from_list(coded), "processing_class": tokenizer}
    trainer = weighted_trainer(trl.SFTTrainer, denominator=denominator, codes=codes)(**given)
    assert not packing or 1 < len(trainer.train_dataset) < len(rows)
    assert expected == pytest.approx(_first_loss(trainer), abs=CLOSE)
    stock = trl.SFTTrainer(**given, compute_loss_func=weighted_loss_func(codes, denominator=denominator))
    assert expected == pytest.approx(_first_loss(stock), abs=CLOSE)


@pytest.mark.parametrize("denominator", ["weights", "tokens"])
def test_the_denominator_is_that_of_all_processes(model: Any, tokenizer: Any, folder: Path, denominator: Any) -> None:
    rows = _rows(tokenizer, WEIGHTED, count=4)
    model.save_pretrained(folder / "model")
    (folder / "rows.json").write_text(json.dumps(rows))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    found = [_distributed([sys.executable], denominator, folder), _distributed(command, denominator, folder)]
    assert _by_hand(model, rows, denominator=denominator) == pytest.approx(found[1]["loss"], abs=CLOSE)
    assert found[0] == pytest.approx(found[1], abs=CLOSE)


def _distributed(command: list[str], denominator: str, folder: Path) -> dict[str, float]:
    """Loss and gradient norm of a step over four rows, on the processes that the command starts."""
    script = Path(__file__).with_name("distributed_step.py")
    ran = subprocess.run(
        [*command, str(script), denominator, str(folder)], capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, float] = json.loads((folder / "found.json").read_text())
    return found


def test_split_sequences_are_refused(model: Any, tokenizer: Any, folder: Path) -> None:
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments

    trainer = weighted_trainer(Trainer, denominator="tokens")(
        model=model,
        args=TrainingArguments(**_arguments(folder, remove_unused_columns=False)),
        train_dataset=Dataset.from_list(_rows(tokenizer, WEIGHTED, count=2)),
        data_collator=PaddingCollator(pad_token_id=tokenizer.pad_token_id),
    )
    trainer.accelerator.state.parallelism_config = SimpleNamespace(tp_size=1, cp_size=2, sp_size=1)
    batch = {name: torch.zeros((1, 4)) for name in ("labels", "loss_weights")}
    with pytest.raises(ConfigError, match="`cp_size` 2"):
        trainer._get_num_items_in_batch([batch], torch.device("cpu"))
    trainer.accelerator.state.parallelism_config = None


def test_too_many_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="different weights"):
        WeightCodes.of([[n / 7 for n in range(3000)]])
