"""One step of ms-swift's whole `sft`."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from policy_engine.adapters.swift import TEMPLATE, register, swift_row
from policy_engine.core.errors import ConfigError
from policy_engine.doctor.steps import TakenStep, Task, parts_of, save_model, without_flash
from policy_engine.doctor.trainers.hooks import first_of, surroundings, watched

SETTINGS: Final = (
    "template", "template_backend", "use_chat_template", "system", "response_prefix", "max_length",
    "truncation_strategy", "padding_side", "padding_free", "packing", "packing_length", "lazy_tokenize", "strict",
    "loss_scale", "is_binary_loss_scale", "loss_type", "label_smoothing_factor", "enable_dft_loss",
    "use_logits_to_keep",
)  # fmt: skip
"""Arguments of `swift sft` that matter to a batch and its loss."""
_OURS: Final[dict[str, Any]] = {
    "model_type": "llama", "tuner_type": "full", "torch_dtype": "float32", "use_cpu": True, "max_steps": 1,
    "learning_rate": 0.0, "report_to": "none", "load_from_cache_file": False, "split_dataset_ratio": 0.0,
    "save_strategy": "no", "eval_strategy": "no", "dataloader_num_workers": 0, "gradient_accumulation_steps": 1,
    "gradient_checkpointing": False, "use_hf": True, "check_model": False, "add_version": False, "logging_steps": 1,
    "create_checkpoint_symlink": False, "disable_tqdm": True,
}  # fmt: skip
"""Settings that one step on a CPU needs, whatever the configuration says.

They change nothing about masks.
"""


def run_swift(task: Task) -> TakenStep:
    """A step of `sft_main` over a file of `swift_row`s.

    It uses the template `policy_engine` and `strict` unless the settings say otherwise; what reaches
    `Seq2SeqTrainer.training_step` counts.

    Raises what ms-swift raises, and ConfigError for settings that no CPU can run.
    """
    folder = Path(task.folder)
    given = {name: value for name, value in task.settings.items() if name in SETTINGS}
    without_flash(given, "packing", "padding_free")
    rows = [swift_row(row) for row in task.rows]
    with surroundings(HF_HUB_OFFLINE="1", MODELSCOPE_CACHE=str(folder / "cache"), LOG_LEVEL="ERROR") as said:
        parts = parts_of("swift", "pipelines.sft_main", "trainers.Seq2SeqTrainer")
        register()
        save_model(task.vocabulary, folder / "model")
        file = folder / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        arguments = {
            "template": TEMPLATE,
            "strict": True,
            **{name: value for name, value in given.items() if value is not None},
            **_OURS,
            "model": folder / "model",
            "dataset": file,
            "output_dir": folder / "out",
            "per_device_train_batch_size": len(rows),
        }
        with watched(parts.Seq2SeqTrainer) as seen:
            try:
                parts.sft_main([part for name, value in arguments.items() for part in (f"--{name}", str(value))])
            except SystemExit:  # of its parser
                raise ConfigError(said.getvalue().strip().rpartition("error: ")[2]) from None
            except Exception as error:
                if arguments["strict"] is True:
                    raise
                raise ConfigError(
                    f"{type(error).__name__}: {error}, and without `strict` rows that it cannot take are left out",
                    help="set `strict: true`, and it says what is wrong with the first of them",
                ) from error
    batch, loss, model = first_of(seen)
    # ms-swift's name for weights; without weights in the data it is a mask of ones that says nothing new.
    scale = batch.pop("loss_scale", None)
    if scale is not None and task.sample.weighted:
        batch["loss_weights"] = scale
    return TakenStep(
        version=version("ms_swift"),
        batch=batch,
        loss=loss,
        model=model,
        settings=given,
        left_out=tuple(sorted(set(task.settings) - set(given))),
    )
