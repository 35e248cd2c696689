"""One step of axolotl's whole training, from its configuration to `AxolotlTrainer`."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import yaml

from policy_engine.core.errors import ConfigError
from policy_engine.doctor.steps import TakenStep, Task, flat_settings, parts_of, save_model, without_flash
from policy_engine.doctor.trainers.hooks import first_of, surroundings, watched
from policy_engine.doctor.trainers.run_transformers import dataset_of

_FLAGS: Final = (
    "xformers_attention", "sage_attention", "flex_attention", "flash_attention", "sdp_attention", "eager_attention",
)  # fmt: skip
"""Its older names of attention implementations."""
SETTINGS: Final = (
    "sequence_len", "min_sample_len", "excess_length_strategy", "sample_packing", "sample_packing_group_size",
    "sample_packing_bin_size", "sample_packing_sequentially", "batch_flattening", "curriculum_sampling",
    "group_by_length", "pad_to_sequence_len", "pad_to_multiple_of", "attn_implementation", *_FLAGS,
    "remove_unused_columns", "dataset_exact_deduplication", "skip_prepare_dataset", "use_eaft", "eaft_alpha", "eaft_k",
    "chunked_cross_entropy", "trainer_cls", "special_tokens.pad_token",
)  # fmt: skip
"""Keys of its configuration that matter to a batch of tokenized rows and its loss."""
_TOKENIZED: Final = ("attention_mask", "labels")
_OURS: Final[dict[str, Any]] = {
    "micro_batch_size": 1, "gradient_accumulation_steps": 1, "num_epochs": 1, "learning_rate": 0.0,
    "optimizer": "adamw_torch", "lr_scheduler": "constant", "bf16": False, "fp16": False, "tf32": False,
    "save_strategy": "no", "val_set_size": 0.0, "dataset_num_proc": 1, "num_dataset_shards_to_save": 1,
    "dataloader_num_workers": 0, "dataloader_pin_memory": False, "gradient_checkpointing": False,
    "multipack_real_batches": True,
}  # fmt: skip
"""Settings that one step on a CPU needs, whatever the configuration says.

They change nothing about masks.
"""

_SURROUNDINGS: Final = {
    "AXOLOTL_DO_NOT_TRACK": "1",  # no word of this run, which is none of the user's, to axolotl's makers
    "AXOLOTL_LOG_LEVEL": "ERROR",
    "AXOLOTL_TEE_STDOUT": "0",  # its copy of the terminal into a file locks itself out at a second step
    "HF_HUB_OFFLINE": "1",
    "LOG_LEVEL": "ERROR",
}


def run_axolotl(task: Task) -> TakenStep:
    """A step over a Parquet file of tokenized rows.

    It uses axolotl's configuration, its preparation of the data, its loader of the model and its builder of the
    trainer. With sample packing all packs are one batch. `sdpa` takes the place of attention implementations that need
    a GPU: for all of them packs have positions and no mask.

    Raises what axolotl raises, and ConfigError for settings that no CPU can run.
    """
    folder = Path(task.folder)
    flat = flat_settings(task.settings)
    given = {name: value for name, value in flat.items() if name in SETTINGS}
    without_flash(given, "batch_flattening")
    missing = sorted({name for row in task.rows for name in _TOKENIZED if row.get(name) is None})
    if missing:
        raise ConfigError(
            f"axolotl takes rows as tokenized only with {' and '.join(f'`{name}`' for name in missing)}",
            help="give it what `apply` writes without `--pack`, and set `sample_packing: true` instead",
        )
    with surroundings(**_SURROUNDINGS):
        parts = parts_of(
            "axolotl",
            "cli.config.load_cfg",
            "common.datasets.load_datasets",
            "train.setup_model_and_trainer",
            "utils.schemas.enums.ATTN_IMPLS_SUPPORTING_PACKING",
            "utils.schemas.enums.LEGACY_ATTN_FLAG_TO_IMPL",
            "utils.tee.close_debug_log",
        )
        taken = _on_a_cpu(given, parts)
        save_model(task.vocabulary, folder / "model")
        # A file and not rows in memory: so axolotl's own loading, filters and packing are in the step.
        dataset_of(task).to_parquet(str(folder / "rows.parquet"))
        config = {
            **{name: value for name, value in taken.items() if "." not in name},
            **_OURS,
            "base_model": str(folder / "model"),
            "datasets": [{"path": str(folder / "rows.parquet"), "ds_type": "parquet", "type": None}],
            "dataset_prepared_path": str(folder / "prepared"),
            "output_dir": str(folder / "out"),
        }
        # Without packing one step has to hold all rows, so that all of them are compared.
        if not taken.get("sample_packing"):
            config["micro_batch_size"] = len(task.rows)
        file = folder / "config.yml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        try:
            cfg = parts.load_cfg(str(file))
            meta = parts.load_datasets(cfg=cfg)
            if not len(meta.train_dataset):
                raise ConfigError("no row is left", help="raise `sequence_len`: rows that are longer it leaves out")
            if cfg.sample_packing:
                cfg.micro_batch_size = cfg.batch_size = meta.total_num_steps  # packs: it was given one of them a step
            cfg.max_steps = meta.total_num_steps = 1
            trainer = parts.setup_model_and_trainer(cfg, meta)[0]
            with watched(type(trainer)) as seen:
                trainer.train()
        finally:
            parts.close_debug_log()
    batch, loss, model = first_of(seen)
    return TakenStep(
        version=version("axolotl"),
        batch=batch,
        loss=loss,
        model=model,
        settings=taken,
        left_out=tuple(sorted(set(flat) - set(given))),
    )


def _on_a_cpu(given: dict[str, Any], parts: Any) -> dict[str, Any]:
    """Settings with an attention implementation that runs here, and without its older names.

    >>> from types import SimpleNamespace
    >>> flags, packing = {"flash_attention": "flash_attention_2"}, {"flash_attention_2"}
    >>> parts = SimpleNamespace(LEGACY_ATTN_FLAG_TO_IMPL=flags, ATTN_IMPLS_SUPPORTING_PACKING=packing)
    >>> _on_a_cpu({"flash_attention": True, "sequence_len": 512}, parts)
    {'sequence_len': 512, 'attn_implementation': 'sdpa'}
    """
    flags = parts.LEGACY_ATTN_FLAG_TO_IMPL
    named = given.get("attn_implementation") or next((flags[name] for name in flags if given.get(name)), None)
    taken = {name: value for name, value in given.items() if name not in _FLAGS}
    if named is not None:
        taken["attn_implementation"] = "sdpa" if named in parts.ATTN_IMPLS_SUPPORTING_PACKING else named
    return taken
