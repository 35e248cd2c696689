"""Masked preferences through TRL's trainers: the loss of a real step equals one by hand.

Needs torch and trl, which no default install has: `make trainers` runs this in an environment of its own.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from policy_engine.adapters.preference import PreferenceCollator, masked  # noqa: E402
from policy_engine.chat.loading import load_tokenizer  # noqa: E402
from policy_engine.core.errors import ConfigError, RowError  # noqa: E402
from policy_engine.core.vocabulary import IGNORE_INDEX  # noqa: E402
from policy_engine.data.dataset import DatasetSpec  # noqa: E402
from policy_engine.mask.masker import Masker  # noqa: E402
from policy_engine.rules.compile import compile_text  # noqa: E402
from tests.cli.support import cli  # noqa: E402

CARD = "train assistant; train eos after assistant; never train user, tool"
CLOSE = 1e-5
BETA = 0.7


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def bot(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


CALL = {"type": "function", "function": {"name": "find", "arguments": {"q": "rain"}}}
PAIRS = [
    {
        "prompt": [user("Weather?")],
        "chosen": [bot("", tool_calls=[CALL]), {"role": "tool", "content": "sun all day"}, bot("Sunny.")],
        "rejected": [bot("Where are you?"), user("At home, of course."), bot("No idea.")],
    },
    {"prompt": [user("Hi")], "chosen": [bot("Hello there")], "rejected": [bot("What do you want?")]},
    {"prompt": [user("2+2?"), bot("4"), user("Sure?")], "chosen": [bot("Yes.")], "rejected": [bot("No, it is 5.")]},
]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_tokenizer("builtin").tokenizer


def rows(pairs: Any) -> Any:
    datasets = pytest.importorskip("datasets")
    masker = Masker(compile_text(CARD), "builtin", dataset=DatasetSpec(pairs=pairs))
    data = datasets.Dataset.from_list([{"row": json.dumps(row)} for row in PAIRS])

    def mask(batch: Any) -> Any:
        given = [json.loads(row) for row in batch["row"]]
        made = masker.batch({name: [row[name] for row in given] for name in PAIRS[0]})
        return {name: column for name, column in made.items() if name not in PAIRS[0]}

    return data.map(mask, batched=True, remove_columns=["row"])


def model(tokenizer: Any, seed: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def log_probability(model: Any, prompt: list[int], ids: list[int], labels: list[int]) -> float:
    """The sum over the tokens that have a label, each by itself."""
    whole = [*prompt, *ids]
    with torch.no_grad():
        logs = torch.log_softmax(model(input_ids=torch.tensor([whole])).logits[0].double(), dim=-1)
    places = [len(prompt) + at for at, label in enumerate(labels) if label != IGNORE_INDEX]
    return sum(float(logs[at - 1, whole[at]]) for at in places)


def settings(config: Any, folder: Path, **more: Any) -> Any:
    return config(
        output_dir=str(folder), per_device_train_batch_size=len(PAIRS), max_steps=1, learning_rate=0.0, beta=BETA,
        logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, bf16=False,
        gradient_checkpointing=False, disable_dropout=True, **more,
    )  # fmt: skip


def loss_of(trainer: Any) -> float:
    trainer.train()
    return next(float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry)


@pytest.mark.parametrize("more", [{}, {"precompute_ref_log_probs": True}], ids=["together", "precomputed"])
def test_a_step_of_dpo(tokenizer: Any, tmp_path: Path, more: Any) -> None:
    trl = pytest.importorskip("trl")
    data, own, other = rows("dpo"), model(tokenizer, 0), model(tokenizer, 1)

    def margin(row: Any) -> float:
        def ratio(side: str) -> float:
            return sum(
                sign * log_probability(m, row["prompt_ids"], row[f"{side}_ids"], row[f"{side}_labels"])
                for sign, m in ((1, own), (-1, other))
            )

        return ratio("chosen") - ratio("rejected")

    expected = sum(math.log1p(math.exp(-BETA * margin(row))) for row in data) / len(data)
    plain = [{**row, "chosen_labels": row["chosen_ids"], "rejected_labels": row["rejected_ids"]} for row in data]
    unmasked = sum(math.log1p(math.exp(-BETA * margin(row))) for row in plain) / len(plain)
    trainer = masked(trl.DPOTrainer)(
        model=own, ref_model=other, args=settings(trl.DPOConfig, tmp_path, **more), train_dataset=data,
        processing_class=tokenizer,
    )  # fmt: skip
    assert loss_of(trainer) == pytest.approx(expected, abs=CLOSE)
    assert abs(expected - unmasked) > 1e-3  # what TRL computes from the same conversations


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_a_step_of_kto(tokenizer: Any, tmp_path: Path, loss: str) -> None:
    trl = pytest.importorskip("trl")
    data, own, other = rows("kto"), model(tokenizer, 0), model(tokenizer, 1)
    assert data["label"] == [True, False] * len(PAIRS)

    def ratio(row: Any, answer: Any) -> float:
        given = row["prompt_ids"], answer["completion_ids"], answer["completion_labels"]
        return log_probability(own, *given) - log_probability(other, *given)

    listed = list(data)
    others = [listed[-1], *listed[:-1]]
    kl = (
        max(0.0, sum(ratio(row, answer) for row, answer in zip(listed, others)) / len(listed)) if loss == "kto" else 0.0
    )

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    each = [1 - sigmoid(BETA * (1 if row["label"] else -1) * (ratio(row, row) - kl)) for row in listed]
    args = settings(trl.KTOConfig, tmp_path, loss_type=loss)
    args.per_device_train_batch_size = len(listed)
    if loss == "kto":
        args.train_sampling_strategy = "sequential"
    trainer = masked(trl.KTOTrainer)(
        model=own, ref_model=other, args=args, train_dataset=data, processing_class=tokenizer
    )
    assert loss_of(trainer) == pytest.approx(sum(each) / len(each), abs=CLOSE)


def test_a_step_of_a_reward_model(tokenizer: Any, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    from transformers import LlamaConfig, LlamaForSequenceClassification

    data = rows("reward")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, num_labels=1, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    scorer = LlamaForSequenceClassification(config)

    def score(ids: list[int]) -> float:
        with torch.no_grad():
            return float(scorer(input_ids=torch.tensor([ids])).logits[0, 0])

    margins = [score(row["chosen_ids"]) - score(row["rejected_ids"]) for row in data]
    args = trl.RewardConfig(
        output_dir=str(tmp_path), per_device_train_batch_size=len(PAIRS), max_steps=1, learning_rate=0.0,
        logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, bf16=False,
        gradient_checkpointing=False,
    )  # fmt: skip
    trainer = trl.RewardTrainer(model=scorer, args=args, train_dataset=data, processing_class=tokenizer)
    expected = sum(math.log1p(math.exp(-margin)) for margin in margins) / len(margins)
    assert loss_of(trainer) == pytest.approx(expected, abs=CLOSE)


def test_masks_of_a_batch_are_the_labels() -> None:
    row = {
        "prompt_ids": [1, 2], "chosen_ids": [3, 4, 5], "chosen_labels": [3, -100, 5],
        "rejected_ids": [6], "rejected_labels": [6],
    }  # fmt: skip
    batch = PreferenceCollator(pad_token_id=0, pad_to_multiple_of=4)([row])
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5, 0, 0, 0], [1, 2, 6, 0, 0, 0, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0]]
    assert batch["completion_mask"].tolist() == [[0, 0, 1, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0]]
    with pytest.raises(RowError, match="row 0 of the batch has 5 tokens, and `max_length` of the trainer is 4"):
        PreferenceCollator(pad_token_id=0, max_length=4)([row])
    with pytest.raises(RowError, match="is not the id of its token"):
        PreferenceCollator(pad_token_id=0)([{**row, "rejected_labels": [7]}])
    with pytest.raises(RowError, match="rejected_labels"):
        PreferenceCollator(pad_token_id=0)([{**row, "rejected_labels": []}])


def test_trainers_and_rows_that_are_refused(tokenizer: Any, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    with pytest.raises(ConfigError, match="takes masked rows as it is"):
        masked(trl.RewardTrainer)
    with pytest.raises(ConfigError, match="SFTTrainer is neither"):
        masked(trl.SFTTrainer)
    with pytest.raises(ConfigError, match="the rows of the train dataset have no `prompt_ids`"):
        masked(trl.DPOTrainer)(
            model=model(tokenizer, 0), args=settings(trl.DPOConfig, tmp_path), train_dataset=rows("reward"),
            processing_class=tokenizer,
        )  # fmt: skip


def test_doctor_says_that_it_takes_no_preferences(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in PAIRS))
    assert cli("apply", data, "-p", "default", "-t", "builtin", "-o", tmp_path / "o.jsonl").code == 0
    for given, more in ((data, ("-p", "default", "-t", "builtin")), (tmp_path / "o.jsonl", ("-t", "builtin"))):
        refused = cli("doctor", given, "--trainer", "transformers", *more)
        assert (refused.code, "has preferences" in refused.err) == (2, True)
