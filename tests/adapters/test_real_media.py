"""Real steps with pictures: the loss of one step equals a cross entropy by hand over the processor's own inputs.

Needs torch and trl: `make media` runs this in an environment of its own.
"""

from __future__ import annotations

import copy
import functools
import random
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from datasets import Dataset  # noqa: E402

from policy_engine import Masker, MediaCollator, MediaError, MediaOptions, policy_from_text  # noqa: E402
from policy_engine.core.vocabulary import IGNORE_INDEX  # noqa: E402
from tests.support.media_chats import media_chat, words  # noqa: E402
from tests.support.pictures import draw, processor  # noqa: E402

POLICY = policy_from_text("train assistant; train eos after assistant; never train user; never train media")
CLOSE = 1e-5
_TEXT = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 4096,
}  # fmt: skip


def _qwen2_vl() -> Any:
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    made = processor("qwen2_vl")
    tok = made.tokenizer
    config = Qwen2VLConfig(
        text_config={
            **_TEXT, "vocab_size": len(tok), "rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]},
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]},
        },
        vision_config={"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "patch_size": 14},
        image_token_id=made.image_token_id, video_token_id=made.video_token_id,
        vision_start_token_id=tok.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tok.convert_tokens_to_ids("<|vision_end|>"),
    )  # fmt: skip
    return Qwen2VLForConditionalGeneration(config)


def _llava() -> Any:
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    made = processor("llava")
    vision = CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                              image_size=56, patch_size=14)  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=LlamaConfig(vocab_size=len(made.tokenizer), **_TEXT),
        image_token_index=made.image_token_id, vision_feature_select_strategy="default", vision_feature_layer=-1,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config)


_MODELS = {"qwen2_vl": _qwen2_vl, "llava": _llava}


@functools.cache
def model(name: str) -> Any:
    torch.manual_seed(0)
    made = _MODELS[name]()
    made.config.use_cache = False
    return made.eval()


def chats(root: Path, count: int = 4) -> list[list[dict[str, Any]]]:
    """Conversations whose pictures are files: two, one, none and three of them."""
    rng = random.Random(1)
    made = []
    for at in range(count):
        parts: list[dict[str, Any]] = []
        for i in range((2, 1, 0, 3)[at % 4]):
            name = f"{at}-{i}.png"
            draw(root, name, 40 + 20 * i, 50 + 10 * at, seed=at)
            parts.append({"type": "image", "path": name})
        parts.insert(len(parts) // 2, {"type": "text", "text": words(rng)})
        answer = [{"type": "text", "text": words(rng) + " zebra"}]
        made.append([{"role": "user", "content": parts}, {"role": "assistant", "content": answer}])
    return made


def masked(name: str, root: Path, conversations: list[Any]) -> Dataset:
    masker = Masker(POLICY, processor(name), media=MediaOptions(root=root))
    data = Dataset.from_list([{"messages": messages} for messages in conversations])
    return data.map(masker.batch, batched=True, remove_columns=["messages"])


def own_inputs(name: str, root: Path, messages: list[Any]) -> Any:
    """What the processor itself makes of a conversation, whose paths are below a folder."""
    given = copy.deepcopy(messages)
    for message in given:
        for part in message["content"]:
            if "path" in part:
                part["path"] = str(root / part["path"])
    return processor(name).apply_chat_template(given, tokenize=True, return_dict=True, return_tensors="pt")


def by_hand(name: str, root: Path, conversations: list[Any], rows: Any) -> float:
    """Every conversation by itself, through the processor's own call; labels are the rows'."""
    total, tokens = 0.0, 0
    for messages, row in zip(conversations, rows):
        inputs = own_inputs(name, root, messages)
        assert inputs["input_ids"][0].tolist() == row["input_ids"]
        with torch.no_grad():
            logs = torch.log_softmax(model(name)(**inputs).logits[0].float(), dim=-1)
        for at in range(1, len(row["labels"])):
            if row["labels"][at] != IGNORE_INDEX:
                total -= float(logs[at - 1, row["labels"][at]])
                tokens += 1
    return total / tokens


def arguments(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder), "per_device_train_batch_size": 4, "max_steps": 1, "learning_rate": 0.0,
        "report_to": [], "logging_steps": 1, "use_cpu": True, "save_strategy": "no", "disable_tqdm": True,
        "remove_unused_columns": False, "bf16": False, "gradient_checkpointing": False,
    }  # fmt: skip


def first_loss(trainer: Any) -> float:
    trainer.train()
    return next(float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry)


@pytest.mark.parametrize("name", _MODELS)
def test_a_step_of_the_trainer(name: str, tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    conversations = chats(tmp_path)
    rows = masked(name, tmp_path, conversations)
    expected = by_hand(name, tmp_path, conversations, rows)
    collator = MediaCollator(processor(name), options=MediaOptions(root=tmp_path))
    trainer = Trainer(
        model=model(name),
        args=TrainingArguments(**arguments(tmp_path / "out")),
        train_dataset=rows,
        data_collator=collator,
    )
    assert expected == pytest.approx(first_loss(trainer), abs=CLOSE)


@pytest.mark.parametrize("name", _MODELS)
def test_a_step_of_the_sft_trainer(name: str, tmp_path: Path) -> None:
    from trl import SFTConfig, SFTTrainer

    conversations = chats(tmp_path)
    rows = masked(name, tmp_path, conversations)
    expected = by_hand(name, tmp_path, conversations, rows)
    collator = MediaCollator(processor(name), options=MediaOptions(root=tmp_path))
    config = SFTConfig(
        **arguments(tmp_path / "out"), dataset_kwargs={"skip_prepare_dataset": True}, max_length=None, packing=False
    )
    trainer = SFTTrainer(
        model=model(name), args=config, train_dataset=rows, data_collator=collator, processing_class=processor(name)
    )
    assert expected == pytest.approx(first_loss(trainer), abs=CLOSE)


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl", "llava", "llava_next", "idefics3", "gemma3", "qwen2_audio"])
def test_features_and_columns_are_the_processors_own(name: str) -> None:
    """A batch has the names, shapes and values of `apply_chat_template` for all conversations at once."""
    made = Masker(POLICY, processor(name))
    rng = random.Random(3)
    conversations = [media_chat(rng, audio="audio" in name) for _ in range(4)]
    rows = [{**dict(made(messages)), "messages": messages} for messages in conversations]
    batch = MediaCollator(processor(name))(rows)
    truth = processor(name).apply_chat_template(
        copy.deepcopy(conversations), tokenize=True, return_dict=True, return_tensors="pt",
        processor_kwargs={"text_kwargs": {"padding": True, "padding_side": "right"}},
    )  # fmt: skip
    assert set(truth) | {"labels"} == set(batch)
    for key in truth:
        assert truth[key].shape == batch[key].shape, key
        assert torch.equal(truth[key].float(), batch[key].float()), key


def test_a_row_whose_tokens_are_not_those_of_its_features_is_an_error(tmp_path: Path) -> None:
    conversations = chats(tmp_path, count=1)
    row = dict(masked("qwen2_vl", tmp_path, conversations)[0])
    collator = MediaCollator(processor("qwen2_vl"), options=MediaOptions(root=tmp_path))
    collator([row])
    first = row["media"][0]["first"]
    cut = {k: v[: first + 2] if isinstance(v, list) and k != "media" else v for k, v in row.items()}
    with pytest.raises(MediaError, match="row 0 of the batch has 2 tokens of media, and its media make"):
        collator([cut])
    draw(tmp_path, "0-0.png", 400, 400)
    with pytest.raises(MediaError, match="its media make"):
        collator([row])
    (tmp_path / "0-0.png").unlink()
    with pytest.raises(MediaError, match=r"`0-0.png` of messages\[0\].content\[0\] does not exist"):
        collator([row])
