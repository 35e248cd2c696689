"""Masks of transformers and TRL beside the shipped presets, token by token, on generated conversations.

    python -m benchmarks.peers --count 500

needs the environment of `benchmarks/peers/requirements.txt`. For each system and template it prints conversations
compared, those that are equal, and each kind of difference with the part it is in and the first seed that shows it.
Conversations that the other system refuses are counted apart.
Ends with 1 if ids differ, or masks in a way that is not in `KNOWN`.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from policy_engine.chat.conversation import Conversation
from policy_engine.chat.tokenize import load_tokenizer
from policy_engine.core.errors import PolicyEngineError
from policy_engine.mask.masker import Masker
from policy_engine.mask.row import MaskedRow
from policy_engine.rules.load import load_policy
from policy_engine.testing.choices import RandomChoices
from policy_engine.testing.conversations import messages

TEMPLATES = {"ChatML": "qwen2_5", "Qwen3": "qwen3", "Llama 3": "llama3", "Gemma": "gemma"}
Theirs = Callable[[Any, list[dict[str, Any]]], tuple[list[int], list[int]]]
"""A tokenizer and messages to ids and, per token, 1 where trained."""


@dataclass(kw_only=True)
class Compared:
    """What became of the conversations of one system and template."""

    equal: int = 0
    differ: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    seeds: dict[str, int] = field(default_factory=dict)
    ids_differ: int = 0


def assistant_masks(tokenizer: Any, chat: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """transformers' tracker, which is also what TRL's `assistant_only_loss` calls with its training template."""
    made = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    return list(made["input_ids"]), list(made["assistant_masks"])


def completion_masks(tokenizer: Any, chat: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """TRL's `completion_only_loss`: the last answer is the completion, the mask from the end of the common prefix."""
    prompt = tokenizer.apply_chat_template(chat[:-1], add_generation_prompt=True, return_dict=True)["input_ids"]
    ids = list(tokenizer.apply_chat_template(chat, return_dict=True)["input_ids"])
    same = next((i for i, (a, b) in enumerate(zip(prompt, ids)) if a != b), min(len(prompt), len(ids)))
    return ids, [0] * same + [1] * (len(ids) - same)


SYSTEMS: dict[str, tuple[str, Theirs]] = {
    "TRL assistant_only_loss (transformers' tracker)": ("trl_assistant_only", assistant_masks),
    "TRL completion_only_loss": ("trl_completion_only", completion_masks),
}


KNOWN = {
    ("TRL assistant_only_loss (transformers' tracker)", "ChatML", "header of assistant"),
    ("TRL completion_only_loss", "ChatML", "header of assistant"),
}
"""What only they train, by system and template, as docs/peers.md says and explains."""


def chat_of(seed: int) -> list[dict[str, Any]]:
    """A conversation of system, user and assistant messages with text; it ends with an answer."""
    made = messages(RandomChoices(f"peers-{seed}"), parts=False, marks=False)
    plain = [{"role": m["role"], "content": m.get("content") or ""} for m in made if m["role"] in ("user", "assistant")]
    turns: list[dict[str, Any]] = []
    for message in plain:
        if message["role"] == ("user", "assistant")[len(turns) % 2]:
            turns.append(message)
    if len(turns) % 2:
        turns.append({"role": "assistant", "content": "yes"})
    return turns or [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def compare(theirs: Theirs, masker: Masker, tokenizer: Any, count: int) -> Compared:
    """Runs both on `count` conversations."""
    found = Compared()
    for seed in range(count):
        chat = chat_of(seed)
        try:
            ids, trained = theirs(tokenizer, chat)
        except Exception as error:  # whatever the other system raises is its refusal
            found.refused[f"they: {type(error).__name__}"] += 1
            continue
        try:
            ours = masker.mask(Conversation(messages=tuple(chat)))
        except PolicyEngineError as error:
            found.refused[f"we: {error.code} {error.message[:80]}"] += 1
            continue
        if ids != ours.input_ids:
            found.ids_differ += 1
            continue
        kinds = differences(ours, trained)
        found.differ += bool(kinds)
        found.equal += not kinds
        for kind in kinds:
            found.kinds[kind] += 1
            found.seeds.setdefault(kind, seed)
    return found


def differences(ours: MaskedRow, trained: list[int]) -> set[str]:
    """Who trains what the other does not: by part, role, and whether it is in the last turn."""
    chat = ours.chat
    kinds = set()
    for index, (weight, theirs) in enumerate(zip(ours.mask.weights_T.tolist(), trained, strict=True)):
        if bool(weight) != bool(theirs):
            segment = chat.segments[int(ours.mask.segments_T[index])]
            last = "last" if segment.turn == len(chat.messages) - 1 else "earlier"
            who = "we" if weight else "they"
            kinds.add(f"only {who} train {segment.part} of {chat.role(segment)}, {last} turn")
    return kinds


def main() -> int:
    """Runs the comparison and prints the table."""
    import trl
    from transformers import PreTrainedTokenizerFast

    asked = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    asked.add_argument("--count", type=int, default=500, help="conversations per system and template")
    count = asked.parse_args().count
    folder = Path(trl.__file__).parent / "chat_templates"
    print("| system | template | equal | differ | refused | differences (conversations, first seed) |")
    print("|---|---|---|---|---|---|")
    wrong = False
    for system, (preset, theirs) in SYSTEMS.items():
        for name, file in TEMPLATES.items():
            template = (folder / f"{file}_training.jinja").read_text(encoding="utf-8")
            ours = load_tokenizer("builtin", template=template)
            tokenizer = ours.tokenizer
            assert isinstance(tokenizer, PreTrainedTokenizerFast)
            tokenizer.chat_template = template
            found = compare(theirs, Masker(load_policy(preset), ours), tokenizer, count)
            known = {f"only they train {k[2]}" for k in KNOWN if k[:2] == (system, name)}
            wrong |= bool(found.ids_differ) or any(kind.rsplit(",", 1)[0] not in known for kind in found.kinds)
            kinds = "; ".join(f"{k} ({n}, {found.seeds[k]})" for k, n in found.kinds.most_common())
            refused = "; ".join(f"{n} {k}" for k, n in found.refused.items()) or "0"
            if found.ids_differ:
                kinds += f"; ids differ: {found.ids_differ}"
            print(f"| {system} | {name} | {found.equal} | {found.differ} | {refused} | {kinds} |", flush=True)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
