"""Rollouts of an agent to labels, masks and log-probabilities of a trainer.

    python examples/agent_rollouts.py [path/to/model]

The rollouts are made up here, letter by letter: not as the tokenizer would write the text.
"""

from __future__ import annotations

import sys
from typing import Any

from policy_engine import Masker, load_tokenizer, policy_from_text
from policy_engine.data.dataset import DatasetSpec

POLICY = """
train sampled in (assistant, eos of assistant)
mask sampled in assistant where message.void   # turns that did nothing
on drift mask
never train user, tool
"""

tokenizer = load_tokenizer(sys.argv[1] if len(sys.argv) > 1 else "builtin")
MESSAGES = [
    {"role": "user", "content": "Is it raining in Oslo?"},
    {"role": "assistant", "content": "Let me see.", "void": True},
    {"role": "user", "content": "And?"},
    {"role": "assistant", "content": "Yes, it rains in Oslo."},
]


def sampled_ids(text: str) -> list[int]:
    """Ids of a text that a model may sample: letter by letter."""
    return [i for letter in text for i in tokenizer.tokenizer(letter, add_special_tokens=False)["input_ids"]]


def rollout(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """A row as a rollout engine gives it: ids of prompt and completion, with marks."""
    end = tokenizer.tokenizer(tokenizer.special_tokens["eos_token"], add_special_tokens=False)["input_ids"]
    apply, ids, marks = tokenizer.tokenizer.apply_chat_template, [], []
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        given = apply(messages[:turn], add_generation_prompt=True, tokenize=False)
        known = tokenizer.tokenizer.decode(ids)
        put = tokenizer.tokenizer(given[len(known) :], add_special_tokens=False)["input_ids"]
        own = [*sampled_ids(message["content"]), *end]
        ids, marks = [*ids, *put, *own], [*marks, *[0] * len(put), *[1] * len(own)]
    start = marks.index(1)
    return {
        "messages": messages,
        "prompt_ids": ids[:start],
        "completion_ids": ids[start:],
        "completion_mask": marks[start:],
        "logprobs": [-0.1 * mark for mark in marks[start:]],
    }


masker = Masker(policy_from_text(POLICY), tokenizer, dataset=DatasetSpec(carry=("logprobs",)))
row = rollout(MESSAGES)
batch = masker.batch({name: [value] for name, value in row.items()})
ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
assert ids == [*row["prompt_ids"], *row["completion_ids"]]  # what was sampled, not tokenized again

# The columns of TRL's and verl's batches: masks over the completion, 1 where a token has loss.
prompt = len(row["prompt_ids"])
mask = [int(label != -100) for label in labels[prompt:]]
logprobs = batch["logprobs"][0][prompt:].tolist()
assert len(mask) == len(logprobs) == len(row["completion_ids"])
print("sampled:", sum(row["completion_mask"]), "trained:", sum(mask))
print("trained text:", tokenizer.tokenizer.decode([i for i in labels if i != -100]))
