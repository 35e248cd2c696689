"""TRL: what `SFTTrainer` makes of conversations, by its own preparation of datasets."""

from __future__ import annotations

import copy
import functools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.cases import Case, gemma_like
from benchmarks.peers.chats import Row, rows_of
from benchmarks.peers.datasets import Planted, save
from benchmarks.peers.trial import Masked, Theirs, Trial, trained_by

RELEASES = ("trl", "transformers", "datasets")
CASES = (
    Case(name="ChatML", vocabulary="qwen", source="trl/qwen2_5"),
    Case(name="Qwen3", vocabulary="qwen", source="trl/qwen3"),
    Case(name="Llama 3", vocabulary="llama3", source="trl/llama3"),
    gemma_like("trl/gemma"),
)
"""Templates that TRL knows, with a training template of its own that has generation tags."""
SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "assistant_only_loss": ({"assistant_only_loss": True}, "trl_assistant_only"),
    "completion_only_loss": ({"completion_only_loss": True}, "trl_completion_only"),
    "neither": ({}, "everything"),
}
TAGGED_BREAK = "use trl_assistant_only\ntrain /\\n/ in assistant.header"
"""The preset, and the line break that TRL's Qwen2.5 template has inside its generation tag."""
KINDS = {
    "ChatML": ("plain", "system", "tools"),
    "Qwen3": ("plain", "system", "reasoning", "think", "tools"),
    "Llama 3": ("plain", "system"),
    "Gemma": ("plain",),
}


def trials(count: int) -> Iterator[Trial]:
    """Every setting on every template."""
    for case in CASES:
        rows = rows_of(count, KINDS[case.name])
        for setting, (arguments, policy) in SETTINGS.items():
            trainer = trainer_of(case, **arguments)
            policies = [policy, *([TAGGED_BREAK] if (policy, case.name) == ("trl_assistant_only", "ChatML") else [])]
            for named in policies:
                yield Trial(
                    system="TRL",
                    setting=setting,
                    case=case.name,
                    policy=named,
                    tokenizer=case.ours(trainer.chat_template),
                    rows=rows,
                    theirs=prepared(trainer),
                )


@functools.cache
def _model(vocabulary: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=4,
            intermediate_size=4,
            num_hidden_layers=1,
            num_attention_heads=1,
            num_key_value_heads=1,
        )
    )


def trainer_of(case: Case, **arguments: Any) -> Any:
    """A real `SFTTrainer` with a tiny random model; its preparation is what is compared."""
    from datasets import Dataset, disable_caching, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    disable_caching()
    disable_progress_bars()
    tokenizer = case.theirs()
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    first = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(prefix="peers-"), max_length=None, report_to=[], use_cpu=True, bf16=False,
        **arguments,
    )  # fmt: skip
    return SFTTrainer(
        model=copy.deepcopy(_model(len(tokenizer))),
        args=config,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list([_row_for(config, {"messages": first})]),
    )


def _row_for(config: Any, row: Row) -> Row:
    made = {"messages": row["messages"]}
    if config.completion_only_loss:
        made = {"prompt": row["messages"][:-1], "completion": row["messages"][-1:]}
    return {**made, **({"tools": row["tools"]} if "tools" in row else {})}


def prepared(trainer: Any) -> Theirs:
    """Rows through the trainer's preparation, all at once.

    If that raises, by halves, to find the row that does.
    """

    def run(rows: Sequence[Row]) -> list[Masked | Exception]:
        try:
            dataset = prepare(trainer, rows)
        except Exception as error:  # whatever it raises is its refusal
            if len(rows) == 1:
                return [error]
            half = len(rows) // 2
            return [*run(rows[:half]), *run(rows[half:])]
        return [(row["input_ids"], trained_by(row["labels"])) for row in dataset]

    def by_kind(rows: Sequence[Row]) -> list[Masked | Exception]:
        # A dataset has tools in all rows or in no row.
        made: dict[int, Masked | Exception] = {}
        for has in (True, False):
            places = [i for i, row in enumerate(rows) if ("tools" in row) == has]
            if places:
                made.update(zip(places, run([rows[i] for i in places]), strict=True))
        return [made[i] for i in range(len(rows))]

    return by_kind


def prepare(trainer: Any, rows: Sequence[Row]) -> Any:
    """The trainer's own prepared dataset, as `save_to_disk` leaves it.

    Returns its tokenizer with its template.
    """
    from datasets import Dataset

    # Mixed types are kept as JSON: Arrow's own inference would give every call the arguments of all others, as null.
    dataset = Dataset.from_list([_row_for(trainer.args, row) for row in rows], on_mixed_types="use_json")
    return trainer._prepare_dataset(dataset, trainer.processing_class, trainer.args, False, None, "train")


def _tags(name: str, source: Case, fault: str | None, why: str, **more: Any) -> Planted:
    return Planted(name=name, case=source, policy="trl_assistant_only", fault=fault, why=why, **more)


_CHATML, _QWEN3, _LLAMA3, _ = CASES
PLANTED = (
    _tags("clean-llama3", _LLAMA3, None, "`assistant_only_loss`"),
    _tags("all-trained", _LLAMA3, "all-trained", "neither `assistant_only_loss` nor prompts and completions"),
    _tags("header-trained", _CHATML, "header-trained", "the Qwen2.5 training template tags the header's line break"),
    _tags("empty-think-trained", _QWEN3, "empty-think-trained", "the Qwen3 training template tags the empty thinking"),
    _tags("end-is-pad", _LLAMA3, "pad-is-end", "padding was masked by id, and the pad token is the eos (TRL #976)",
          spoil="padding"),
    _tags("shifted", _LLAMA3, "shifted", "labels were shifted before a trainer that shifts them", spoil="shifted"),
    _tags("rewritten", _LLAMA3, "rewritten", "the label of the end marker is another token than the id's",
          spoil="other_end"),
    _tags("first-token", _LLAMA3, "first-token", "the first token is a target", spoil="first"),
)  # fmt: skip


def write(planted: Planted, rows: list[Row], place: Path, spoil: Any) -> Any:
    """The trainer's own prepared dataset, as `save_to_disk` leaves it.

    Returns its tokenizer with its template.
    """
    options = {} if planted.fault == "all-trained" else {"assistant_only_loss": True}
    trainer = trainer_of(planted.case, **options)
    made = prepare(trainer, rows)
    tokenizer = trainer.processing_class
    tokenizer.chat_template = trainer.chat_template or tokenizer.chat_template
    if spoil is None:
        made.save_to_disk(str(place))
    else:
        save([{name: row[name] for name in ("input_ids", "labels")} for row in made], place, spoil, tokenizer)
    return tokenizer


def timed(case: Case) -> tuple[str, str, dict[str, Callable[[Sequence[Row]], object]]]:
    """The trainer's preparation of a dataset, its rows in Arrow already."""
    from datasets import Dataset

    tagged = Case(name=case.name, vocabulary=case.vocabulary, source="trl/qwen2_5")
    trainer = trainer_of(tagged, assistant_only_loss=True)
    made: dict[int, Any] = {}

    def run(rows: Sequence[Row]) -> object:
        if id(rows) not in made:
            made[id(rows)] = Dataset.from_list([_row_for(trainer.args, row) for row in rows])
        return trainer._prepare_dataset(made[id(rows)], trainer.processing_class, trainer.args, False, None, "train")

    return "trl_assistant_only", trainer.chat_template, {"TRL": run}
