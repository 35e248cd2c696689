"""Words that options take, in one place, so that a command line knows them without loading what does the work."""

from __future__ import annotations

from typing import Literal

Keep = Literal["keep_start", "keep_end", "turn", "drop"]
"""What stays of a row that is longer than allowed: its start, its end, whole turns from the start, or nothing."""
Backend = Literal["auto", "kitoken", "gigatoken", "reference"]
"""Where ids come from: the tokenizer itself (`reference`), a faster package, or the best one that serves (`auto`)."""
Engine = Literal["local", "ray"]
"""What runs the workers of a run: processes of this machine, or a Ray cluster."""
ColorBy = Literal["effect", "rule"]
"""What the colours of a view tell apart."""
Denominator = Literal["weights", "tokens"]
"""What a weighted loss is divided by: the sum of the weights, or the number of trained tokens."""
Trainer = Literal["transformers", "trl", "llamafactory", "torchtune", "verl", "axolotl", "swift"]
"""Trainers that `doctor` takes a step with."""
Collator = Literal["padding", "seq2seq", "token_classification", "flattening", "language_modeling", "default"]
"""Collators for transformers: `padding` is ours, the others are its `DataCollatorFor…`, `DataCollatorWithFlattening`
and `default_data_collator`."""
