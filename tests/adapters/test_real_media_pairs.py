"""Real steps of preferences with pictures: the loss of one step equals one by hand over the processor's own inputs.

Needs torch and trl: `make media` runs this in an environment of its own.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from datasets import Dataset  # noqa: E402

from policy_engine import ConfigError, Masker, MediaCollator, MediaError, MediaOptions  # noqa: E402
from policy_engine.adapters.preference import PreferenceCollator, masked  # noqa: E402
from policy_engine.core.vocabulary import IGNORE_INDEX  # noqa: E402
from policy_engine.data.dataset import DatasetSpec  # noqa: E402
from tests.adapters.test_real_media import _MODELS, CLOSE, POLICY, arguments, first_loss, own_inputs  # noqa: E402
from tests.support.pictures import draw, picture, processor  # noqa: E402

BETA = 0.7


def user(*parts: Any) -> dict[str, Any]:
    given = [part if isinstance(part, dict) else {"type": "text", "text": part} for part in parts]
    return {"role": "user", "content": given}


def bot(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def image(path: str) -> dict[str, Any]:
    return {"type": "image", "path": path}


# Two pictures, none, and one; the second pair has answers of several turns.
PAIRS = [
    {
        "prompt": [user(image("0.png"), "and", image("1.png"), "?")],
        "chosen": [bot("Two cats.")],
        "rejected": [bot("A dog, and something else.")],
    },
    {
        "prompt": [user("Hi")],
        "chosen": [bot("Hello."), user("Sure?"), bot("Yes.")],
        "rejected": [bot("What do you want?")],
    },
    {"prompt": [user("What is it?", image("2.png"))], "chosen": [bot("A bird.")], "rejected": [bot("I do not know.")]},
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for at in range(3):
        draw(folder, f"{at}.png", 40 + 20 * at, 50 + 10 * at, seed=at)
    return folder


@functools.cache
def model(name: str, seed: int) -> Any:
    torch.manual_seed(seed)
    made = _MODELS[name]()
    made.config.use_cache = False
    return made.eval()


def rows(name: str, root: Path, pairs: Any) -> Any:
    masker = Masker(POLICY, processor(name), media=MediaOptions(root=root), dataset=DatasetSpec(pairs=pairs))
    return Dataset.from_list(PAIRS).map(masker.batch, batched=True, remove_columns=list(PAIRS[0]))


def ratio(name: str, root: Path, messages: list[Any], ids: list[int], labels: list[int]) -> float:
    """The log-probability of the labels under one model less that under the other, by the processor's own call."""
    inputs = own_inputs(name, root, messages)
    assert inputs["input_ids"][0].tolist() == ids
    found = 0.0
    for sign, seed in ((1, 0), (-1, 1)):
        with torch.no_grad():
            logs = torch.log_softmax(model(name, seed)(**inputs).logits[0].double(), dim=-1)
        start = len(ids) - len(labels)
        for at, label in enumerate(labels, start):
            found += sign * float(logs[at - 1, label]) if label != IGNORE_INDEX else 0.0
    return found


def collator(name: str, root: Path) -> PreferenceCollator:
    own = processor(name)
    media = MediaCollator(own, options=MediaOptions(root=root))
    return PreferenceCollator(pad_token_id=own.tokenizer.pad_token_id, media=media)


def settings(config: Any, folder: Path, **more: Any) -> Any:
    given = {**arguments(folder), "beta": BETA, "disable_dropout": True, "max_length": None, **more}
    return config(**{**given, "remove_unused_columns": True})


@pytest.mark.parametrize("name", _MODELS)
def test_a_step_of_dpo(name: str, root: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    data = rows(name, root, "dpo")

    def margin(pair: Any, row: Any) -> float:
        sides = [
            ratio(name, root, pair["prompt"] + pair[s], row["prompt_ids"] + row[f"{s}_ids"], row[f"{s}_labels"])
            for s in ("chosen", "rejected")
        ]
        return sides[0] - sides[1]

    expected = [math.log1p(math.exp(-BETA * margin(pair, row))) for pair, row in zip(PAIRS, data, strict=True)]
    trainer = masked(trl.DPOTrainer)(
        model=model(name, 0), ref_model=model(name, 1), args=settings(trl.DPOConfig, tmp_path), train_dataset=data,
        processing_class=processor(name), data_collator=collator(name, root),
    )  # fmt: skip
    assert sum(expected) / len(expected) == pytest.approx(first_loss(trainer), abs=CLOSE)


def test_a_step_of_kto(root: Path, tmp_path: Path) -> None:
    """Its divergence is estimated of each prompt, with its pictures, and the answer of the row before."""
    trl = pytest.importorskip("trl")
    name = "qwen2_vl"
    data = list(rows(name, root, "kto"))
    sides = [(pair["prompt"], pair[side]) for pair in PAIRS for side in ("chosen", "rejected")]

    def score(at: int, of: int) -> float:
        answer = data[of]
        ids = data[at]["prompt_ids"] + answer["completion_ids"]
        return ratio(name, root, sides[at][0] + sides[of][1], ids, answer["completion_labels"])

    kl = max(0.0, sum(score(at, at - 1) for at in range(len(data))) / len(data))
    signs = [1 if row["label"] else -1 for row in data]
    each = [1 - 1 / (1 + math.exp(-BETA * sign * (score(at, at) - kl))) for at, sign in enumerate(signs)]
    args = settings(trl.KTOConfig, tmp_path, per_device_train_batch_size=6, train_sampling_strategy="sequential")
    trainer = masked(trl.KTOTrainer)(
        model=model(name, 0), ref_model=model(name, 1), args=args, train_dataset=Dataset.from_list(data),
        processing_class=processor(name), data_collator=collator(name, root),
    )  # fmt: skip
    assert sum(each) / len(each) == pytest.approx(first_loss(trainer), abs=CLOSE)


def test_pictures_without_a_file_are_taken_from_the_columns_that_stay(tmp_path: Path) -> None:
    """With a column of pictures TRL would make its own batch; the trainer takes the ids all the same."""
    trl = pytest.importorskip("trl")
    name = "qwen2_vl"
    masker = Masker(POLICY, processor(name))
    given = {"prompt": ["<image>What?"], "chosen": ["A cat."], "rejected": ["No."], "images": [[picture(56, 56)]]}
    data = Dataset.from_dict(given).map(masker.batch, batched=True)
    trainer = masked(trl.DPOTrainer)(
        model=model(name, 0), ref_model=model(name, 1), args=settings(trl.DPOConfig, tmp_path), train_dataset=data,
        processing_class=processor(name),
    )  # fmt: skip
    made = next(iter(trainer.get_train_dataloader()))
    assert made["completion_mask"][0].tolist()[: len(data[0]["prompt_ids"])] == [0] * len(data[0]["prompt_ids"])
    assert made["image_grid_thw"].tolist() == [[1, 4, 4]] * 2
    assert torch.equal(*made["pixel_values"].chunk(2))
    assert math.isfinite(first_loss(trainer))


def test_rows_and_settings_that_are_refused(root: Path, tmp_path: Path) -> None:
    trl = pytest.importorskip("trl")
    data = rows("llava", root, "kto")
    args = settings(
        trl.KTOConfig, tmp_path, precompute_ref_log_probs=True, per_device_train_batch_size=6,
        train_sampling_strategy="sequential",
    )  # fmt: skip
    with pytest.raises(ConfigError, match="precomputes log-probabilities without the features of pictures"):
        masked(trl.KTOTrainer)(
            model=model("llava", 0), ref_model=model("llava", 1), args=args, train_dataset=data,
            processing_class=processor("llava"), data_collator=collator("llava", root),
        )  # fmt: skip
    with pytest.raises(ConfigError, match="nothing makes their features"):
        PreferenceCollator(pad_token_id=0)([data[0]])
    draw(tmp_path, "0.png", 400, 400)
    draw(tmp_path, "1.png", 400, 400)
    with pytest.raises(MediaError, match="its media make"):
        collator("qwen2_vl", tmp_path)([rows("qwen2_vl", root, "dpo")[0]])
