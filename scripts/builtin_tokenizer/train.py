"""Trains the built-in tokenizer: byte-level BPE on `corpus.txt` and the sample dataset.

Run `python scripts/builtin_tokenizer/train.py` after changing either; it rewrites `tokenizer.json` and
`tokenizer_config.json` in `policy_engine/builtin`. The same text gives the same files, byte for byte (a test trains
again and compares). Every text here was written for this project.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = Path(__file__).parent
BUILTIN = HERE.parent.parent / "policy_engine" / "builtin"
VOCABULARY = 4096
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image|>", "<|audio|>")
"""Special tokens: skipped when text is decoded for people."""
DELIMITERS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
"""Tokens that are not special: programs read what is between them, so decoding keeps them."""
CONFIG = {
    "eos_token": "<|im_end|>",
    "model_max_length": 1_000_000,
    "pad_token": "<|endoftext|>",
    "tokenizer_class": "PreTrainedTokenizerFast",
}


def texts() -> Iterator[str]:
    """The corpus by paragraph, then every string of the sample dataset."""
    yield from (HERE / "corpus.txt").read_text(encoding="utf-8").split("\n\n")
    for line in (BUILTIN / "sample.jsonl").read_text(encoding="utf-8").splitlines():
        yield from _strings(json.loads(line)["messages"])


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


def train() -> str:
    """The text of `tokenizer.json`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(CONTROL) - len(DELIMITERS),
        min_frequency=1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=16,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in CONTROL])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in DELIMITERS])
    return tokenizer.to_str(pretty=False) + "\n"


def main() -> None:
    """Writes both files."""
    (BUILTIN / "tokenizer.json").write_text(train(), encoding="utf-8", newline="\n")
    (BUILTIN / "tokenizer_config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
