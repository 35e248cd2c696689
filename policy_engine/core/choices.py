"""Words that options take, which a command line knows without loading what does the work."""

from __future__ import annotations

from typing import Final, Literal, get_args

# These are Literals, not Enums: typer turns a Literal into the choices of an option, and the word itself is the
# value.
Keep = Literal["keep_start", "keep_end", "turn", "drop"]
"""Part of a row that is too long and stays: its start, its end, whole turns, or nothing."""
Backend = Literal["auto", "kitoken", "gigatoken", "reference"]
"""Source of ids: the tokenizer (`reference`), a faster package, or the best one (`auto`)."""
Engine = Literal["local", "ray"]
"""Runner of the workers: processes of this machine, or a Ray cluster."""
ColorBy = Literal["effect", "rule"]
"""Distinction that the colours of a view make."""
Denominator = Literal["weights", "tokens"]
"""Divisor of a weighted loss: the sum of the weights, or the number of trained tokens."""
Trainer = Literal[
    "transformers", "trl", "trl-grpo", "llamafactory", "torchtune", "verl", "verl-ppo", "axolotl", "swift"
]
"""Trainers that `doctor` takes a step with."""
Collator = Literal["padding", "seq2seq", "token_classification", "flattening", "language_modeling", "default"]
"""Collators for transformers.

`padding` is ours, the others are its `DataCollatorFor…`, `DataCollatorWithFlattening` and `default_data_collator`.
"""
PairColumns = Literal["dpo", "kto", "reward"]
"""Trainers of TRL that take preferences."""
PAIR_COLUMNS: Final[tuple[PairColumns, ...]] = get_args(PairColumns)
Side = Literal["chosen", "rejected"]
"""Sides of a pair of answers."""

OUTPUT_COLUMNS: Final = frozenset({
    "row", "turn", "samples", "input_ids", "labels", "attention_mask", "loss_weights", "position_ids", "seq_lengths",
    "mm_token_type_ids", "token_type_ids", "media", "error",
})  # fmt: skip
"""Columns that a run may write by itself."""
