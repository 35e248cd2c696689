"""One step of LLaMA-Factory's trainer on a tokenized folder."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.doctor.steps import TakenStep, Task, parts_of
from policy_engine.doctor.trainers.run_transformers import dataset_of, run_trainer

_OF_DATA: Final = ("ignore_pad_token_for_loss", "neat_packing", "packing", "streaming")
"""Data settings that still matter for data that is tokenized."""
_OF_LOSS: Final = ("use_dft_loss", "use_eaft_loss", "eaft_alpha", "disable_shuffling")


def run_llamafactory(task: Task) -> TakenStep:
    """A step of `CustomSeq2SeqTrainer` over a `tokenized_path`, with its loader and collator."""
    from datasets import DatasetDict

    parts = parts_of(
        "llamafactory",
        "hparams.DataArguments",
        "hparams.FinetuningArguments",
        "hparams.TrainingArguments",
        "data.loader.get_dataset",
        "data.template.TEMPLATES",
        "data.collator.SFTDataCollatorWith4DAttentionMask",
        "train.sft.trainer.CustomSeq2SeqTrainer",
    )
    tokenizer = task.vocabulary.tokenizer()
    folder = Path(task.folder) / "tokenized"
    DatasetDict({"train": dataset_of(task)}).save_to_disk(str(folder))
    of_data = {name: task.settings[name] for name in _OF_DATA if name in task.settings}
    of_loss = {name: task.settings[name] for name in _OF_LOSS if name in task.settings}
    data = parts.DataArguments(**of_data, tokenized_path=str(folder))
    finetuning = parts.FinetuningArguments(**of_loss, finetuning_type="full")

    def make(model: Any, args: Any, dataset: Any) -> Any:
        template = parts.TEMPLATES["empty"]  # of a template only what it says of images and sound is used here
        module = parts.get_dataset(template, None, data, args, stage="sft", tokenizer=tokenizer)
        collator = parts.SFTDataCollatorWith4DAttentionMask(
            template=template,
            tokenizer=tokenizer,
            model=model,
            # As LLaMA-Factory's own workflow does for training.
            pad_to_multiple_of=8,
            label_pad_token_id=IGNORE_INDEX if data.ignore_pad_token_for_loss else tokenizer.pad_token_id,
            block_diag_attn=data.neat_packing,
            neat_packing=data.neat_packing,
            attn_implementation=model.config._attn_implementation,
        )
        return parts.CustomSeq2SeqTrainer(
            model=model,
            args=args,
            finetuning_args=finetuning,
            processor=None,
            tokenizer=tokenizer,
            data_collator=collator,
            train_dataset=module["train_dataset"],
        )

    # Its parser sets this, whatever is asked for.
    return run_trainer(
        task,
        parts.TrainingArguments,
        make,
        version=version("llamafactory"),
        always={"remove_unused_columns": False},
        elsewhere={**of_data, **of_loss},
    )
