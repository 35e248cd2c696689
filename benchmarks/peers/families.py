"""The step `models`: each system on the conversations that pages of `docs/models` show.

A page says what a system trains by the shipped policy that equals it. Here the system itself takes the conversation,
with the family's chat template and a vocabulary in which the template's markers are tokens. Where it does otherwise,
the page says so.
"""

from __future__ import annotations

import copy
import importlib.metadata
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import results
from benchmarks.peers.trial import Masked, trained_by
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.data.conversation import Conversation
from policy_engine.mask.masker import Masker
from policy_engine.mask.row import MaskedRow
from scripts.models import trained
from scripts.models.families import FAMILIES
from scripts.models.rendering import Rendering, parts_of, rendering
from tests.support.tokenizers import load

_MARKER: Final = re.compile(r"<[^<>\s]{2,40}>|\[/?[A-Z_]{2,}\]|\[\|[a-z]+\|\]|\]~[!a-z]*b?\[?|\[e~\[")
"""Texts that are one token in the vocabularies of such templates."""
Run = Callable[[Any, Rendering], Masked]


def _axolotl(tokenizer: Any, template: Rendering) -> Masked:
    from benchmarks.peers.systems import axolotl_strategy

    loaded = axolotl_strategy.strategy(tokenizer, axolotl_strategy.Setting())
    return axolotl_strategy.masked(loaded, {"messages": messages_of(template)})


def _trl(tokenizer: Any, template: Rendering, **arguments: Any) -> Masked:
    from benchmarks.peers.systems import trl_preparation

    class Given:
        """A case that hands out this tokenizer."""

        def theirs(self) -> Any:
            return tokenizer

    trainer = trl_preparation.trainer_of(Given(), **arguments)  # type: ignore[arg-type]
    (made,) = trl_preparation.prepared(trainer)([{"messages": messages_of(template)}])
    if isinstance(made, Exception):
        raise made
    return made


def _trl_answers(tokenizer: Any, template: Rendering) -> Masked:
    return _trl(tokenizer, template, assistant_only_loss=True)


def _unsloth(tokenizer: Any, template: Rendering) -> Masked:
    """The markers that its documentation asks for: how a question and how an answer opens."""
    import contextlib
    import io
    import os

    os.environ["UNSLOTH_ZOO_DISABLE_GPU_INIT"] = "1"
    with contextlib.redirect_stdout(io.StringIO()):
        from unsloth_zoo.dataset_utils import train_on_responses_only

        question, answer = (_opening(template, role) for role in ("user", "assistant"))
        function = train_on_responses_only(
            None, tokenizer=tokenizer, return_function=True, instruction_part=question, response_part=answer
        )
    ids = list(tokenizer.apply_chat_template(messages_of(template), return_dict=True)["input_ids"])
    return ids, trained_by(function({"input_ids": [list(ids)]})["labels"][0])


RUNS: Final[Mapping[str, Mapping[str, Run]]] = {
    "axolotl": {"axolotl": _axolotl},
    "trl": {"TRL": _trl, "TRL, answers only": _trl_answers},
    "unsloth": {"Unsloth": _unsloth},
}
"""By system, the columns of a page and how each is run. Others render with templates of their own."""
RELEASES: Final = {"axolotl": "axolotl", "trl": "trl", "unsloth": "unsloth_zoo"}


def run_models(system: str, folder: Path) -> int:
    """Runs a system on every page's conversations, and keeps what it did.

    Returns 1 if that is not what was kept before.
    """
    logging.disable(logging.WARNING)
    found = results.start()
    found["release"] = importlib.metadata.version(RELEASES[system])
    found["templates"] = {}
    for family in FAMILIES:
        for variant in family.variants:
            template = rendering(variant)
            entries = {column: entry_of(column, run, template) for column, run in RUNS[system].items()}
            found["templates"][variant.template] = entries
            print(f"{family.name}, {variant.label}: {entries}", flush=True)
    kept = results.load(folder, f"models-{system}")
    results.save(folder, f"models-{system}", found)
    changed = (
        [] if kept is None else [t for t in found["templates"] if found["templates"][t] != kept["templates"].get(t)]
    )
    for name in changed:
        print(f"    CHANGED: {name}; write the pages again with `python -m scripts.models`")
    return int(bool(changed))


def entry_of(column: str, run: Run, template: Rendering) -> dict[str, Any]:
    """The system's way with a template's conversation, beside the policy of its column.

    `verdict` is `equal`; `differs`, with the rows of the page's table that it trains `more` or `less`; `other text`,
    with how its text and the template's go on where they part; or `refuses`, with its reason.
    """
    tokenizer = tokenizer_of(template)
    ours = masked(column, tokenizer, template)
    try:
        ids, theirs = run(copy.deepcopy(tokenizer), template)
    except Exception as error:  # whatever it raises is its refusal
        return {"verdict": "refuses", "why": _short(error)}
    if ids != list(ours.input_ids):
        return {"verdict": "other text", **_parting(tokenizer.decode(ids), ours.chat.text)}
    more, less = (_rows(ours, theirs, more=which) for which in (True, False))
    if not more and not less:
        return {"verdict": "equal"}
    return {"verdict": "differs", "more": more, "less": less}


def tokenizer_of(template: Rendering) -> Any:
    """A tokenizer with a template, in whose vocabulary the template's markers are tokens."""
    made = copy.deepcopy(load("qwen"))
    texts = [part.text for part in parts_of(template.shown[1]) if part.part != "text"]
    texts += [template.generation_prompt, template.variant.bos, template.variant.eos]
    made.add_tokens(sorted({marker for text in texts for marker in _MARKER.findall(text)}), special_tokens=True)
    named = {"bos_token": template.variant.bos, "eos_token": template.variant.eos}
    made.add_special_tokens({name: text for name, text in named.items() if text})
    made.chat_template = template.source
    return made


def masked(column: str, tokenizer: Any, template: Rendering) -> MaskedRow:
    """The conversation by the policy of a column."""
    # Fields that a template drops are the pages' business, not this comparison's.
    program = trained.program_of(f"{trained.policy_of(column)}\non unrendered ignore\n")
    masker = Masker(program, ChatTokenizer.from_transformers(tokenizer))
    return masker.mask(Conversation(messages=tuple(template.shown[1].messages)))


def messages_of(template: Rendering) -> list[dict[str, Any]]:
    """The messages that a page shows, as a system of its own gets them."""
    return [copy.deepcopy(dict(message)) for message in template.shown[1].messages]


def _opening(template: Rendering, role: str) -> str:
    parts = parts_of(template.shown[1])
    return next((part.text for part in parts if part.role == role and part.part == "header"), "")


def _rows(ours: MaskedRow, theirs: Sequence[bool], *, more: bool) -> list[str]:
    """Rows of the table with tokens that only the system trains (`more`), or only the policy."""
    counts = Counter(_different(ours, theirs, more=more))
    return [row for row in (*trained.ROWS, "other text") if counts[row]]


def _different(ours: MaskedRow, theirs: Sequence[bool], *, more: bool) -> Iterator[str]:
    for at, (label, other) in enumerate(zip(ours.labels, theirs, strict=True)):
        # The first token is never a target, whatever a label says.
        if at and other is more and (label != -100) is not more:
            segment = ours.chat.segments[int(ours.mask.segments_T[at])]
            yield trained.row_of(ours.chat.role(segment), segment.part)


def _parting(theirs: str, text: str, size: int = 40) -> dict[str, str]:
    at = next((i for i, (a, b) in enumerate(zip(theirs, text, strict=False)) if a != b), min(len(theirs), len(text)))
    at = max(at - 24, *(text.rfind(mark, 0, at) for mark in "<[\n"), 0)  # not in the middle of a marker
    return {"theirs": theirs[at : at + size], "template": text[at : at + size]}


def _short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0] if len(lines[0]) <= 160 else lines[0][:157] + "…"
