"""One step of transformers' `Trainer`, and of trainers made like it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from policy_engine.adapters.collate import PaddingCollator
from policy_engine.adapters.weights import weighted_trainer
from policy_engine.doctor.steps import TakenStep, Task, tiny_model
from policy_engine.doctor.trainers.hooks import Seen, first_of, quietly, watched

_OURS: Final = {
    "max_steps": 1, "learning_rate": 0.0, "report_to": [], "use_cpu": True, "save_strategy": "no",
    "eval_strategy": "no", "disable_tqdm": True, "bf16": False, "fp16": False, "gradient_accumulation_steps": 1,
    "push_to_hub": False, "torch_compile": False, "dataloader_num_workers": 0,
    "logging_steps": 1, "load_best_model_at_end": False, "dataset_num_proc": None, "dataloader_drop_last": False,
}  # fmt: skip
"""Settings that one step on a CPU needs, whatever the configuration says.

They change nothing about masks.
"""
_NOT_HERE: Final = frozenset(
    {"output_dir", "deepspeed", "fsdp", "fsdp_config", "accelerator_config", "parallelism_config", "model_init_kwargs",
     "per_device_train_batch_size", "resume_from_checkpoint", "liger_kernel_config", "use_liger_kernel", "optim",
     "activation_offloading", "num_train_epochs", "tf32", "lr_scheduler_type", "warmup_ratio", "warmup_steps",
     "gradient_checkpointing", "activation_checkpointing", "pad_token", "eos_token", "chat_template_path"}
)  # fmt: skip


def run_transformers(task: Task) -> TakenStep:
    """A step of `transformers.Trainer` with the collator that is named."""
    from transformers import Trainer, TrainingArguments, __version__

    def make(model: Any, args: Any, dataset: Any) -> Any:
        cls = Trainer if task.denominator is None else weighted_trainer(Trainer, denominator=task.denominator)
        tokenizer = task.vocabulary.tokenizer()
        return cls(model=model, args=args, train_dataset=dataset, data_collator=_collator(task, tokenizer))

    return run_trainer(task, TrainingArguments, make, version=__version__)


def run_trainer(
    task: Task,
    arguments: type[Any],
    make: Callable[[Any, Any, Any], Any],
    *,
    version: str,
    always: Mapping[str, Any] | None = None,
    elsewhere: Mapping[str, Any] | None = None,
    watch: Callable[[type[Any]], AbstractContextManager[Seen]] = watched,
) -> TakenStep:
    """One step of a trainer that `make(model, args, dataset)` makes from `arguments`.

    What it hands to its own `training_step`, and what that returns, is what counts. `always` are arguments that a
    framework sets itself, `elsewhere` settings that `make` has taken. `watch` records the steps of another method.
    """
    from transformers.trainer_callback import PrinterCallback

    taken, left_out = settings_of(task.settings, arguments)
    ignored = tuple(name for name in left_out if name not in (elsewhere or {}))
    known = {f.name for f in dataclasses.fields(arguments)}
    ours = {name: value for name, value in _OURS.items() if name in known}
    given = {**taken, **ours, **(always or {})}
    args = arguments(**given, output_dir=task.folder, per_device_train_batch_size=max(1, len(task.rows)))
    model = tiny_model(len(task.vocabulary), task.vocabulary.pad)
    with quietly():
        trainer = make(model, args, dataset_of(task))
    # It prints the loss of each step to the terminal.
    trainer.remove_callback(PrinterCallback)
    with watch(type(trainer)) as seen:
        trainer.train()
    batch, loss, model = first_of(seen)
    settings = {**taken, **(elsewhere or {})}
    return TakenStep(version=version, batch=batch, loss=loss, model=model, settings=settings, left_out=ignored)


def settings_of(settings: Mapping[str, Any], arguments: type[Any]) -> tuple[dict[str, Any], list[str]]:
    """Settings of a class of arguments that matter for one step, and names of the others.

    >>> Arguments = dataclasses.make_dataclass("Arguments", ["packing", "learning_rate"])
    >>> settings_of({"packing": True, "learning_rate": 1e-5}, Arguments)
    ({'packing': True}, ['learning_rate'])
    """
    known = {f.name for f in dataclasses.fields(arguments)}
    used = known - _NOT_HERE - set(_OURS)
    return {n: v for n, v in settings.items() if n in used}, sorted(set(settings) - used)


def dataset_of(task: Task) -> Any:
    """The task's rows as a `datasets.Dataset`, types as the data declares them."""
    from datasets import Dataset, Features, Sequence, Value

    dataset = Dataset.from_list(task.rows)
    features = {
        name: Sequence(Value(str(task.sample.types[name]))) if name in task.sample.types else feature
        for name, feature in dataset.features.items()
    }
    # Python lists became int64 on the way; the types of the data are a part of what is examined.
    return dataset.cast(Features(features))


def _collator(task: Task, tokenizer: Any) -> Any:
    import transformers

    library: Any = transformers
    made: dict[str, Callable[[], Any]] = {
        "padding": lambda: PaddingCollator(pad_token_id=tokenizer.pad_token_id),
        "seq2seq": lambda: library.DataCollatorForSeq2Seq(tokenizer),
        "token_classification": lambda: library.DataCollatorForTokenClassification(tokenizer),
        "flattening": lambda: library.DataCollatorWithFlattening(),
        "language_modeling": lambda: library.DataCollatorForLanguageModeling(tokenizer, mlm=False),
        "default": lambda: library.default_data_collator,
    }
    return made[task.collator]()
