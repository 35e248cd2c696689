"""Pages of models are those that the templates, the shipped policies and the engine give today."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.transformers_import import reasoning_has_aliases
from policy_engine.lang.library import shipped
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_file
from scripts.models import real, trained
from scripts.models.families import FAMILIES, Family, Variant
from scripts.models.page import index, page, policy
from scripts.models.rendering import models_of, rendering
from scripts.models.traps import TRAPS, found_in

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "models"
SLUGS = [family.slug for family in FAMILIES]
AGAIN = "run python -m scripts.models"
# Older transformers show templates `reasoning_content` only where they ask for it by that name.
needs_aliases = pytest.mark.skipif(not reasoning_has_aliases(), reason="pages are those of transformers 5.21 and later")


def test_there_are_enough_and_each_has_a_page() -> None:
    assert len(set(SLUGS)) == len(SLUGS) >= 20
    assert sorted([*SLUGS, "index"]) == sorted(path.stem for path in FOLDER.glob("*.md"))
    assert all(variant.template in models_of() for family in FAMILIES for variant in family.variants)


@needs_aliases
@pytest.mark.parametrize("family", FAMILIES, ids=SLUGS)
def test_a_page_is_current(family: Family) -> None:
    assert page(family) == (FOLDER / f"{family.slug}.md").read_text(encoding="utf-8"), AGAIN


def test_systems_were_run_on_every_template() -> None:
    templates = [variant.template for family in FAMILIES for variant in family.variants]
    for system in real.SYSTEMS:
        assert templates == list(real.kept(system)["templates"]), f"run make peers-models-{system}"


def test_what_a_system_did_is_in_the_table_and_said() -> None:
    (glm, *_) = next(family for family in FAMILIES if family.slug == "glm").variants
    said = " ".join(real.sentences(glm))
    assert "unsloth_zoo 2026.10.9 also trains results of tools" in said
    assert "axolotl 0.19.0 makes another text of this conversation" in said
    rows = {row[0]: real.corrected(row, glm) for row in trained.table(rendering(glm))}
    assert "✓*" == rows["results of tools"][1 + list(trained.SYSTEMS).index("Unsloth")]
    (llama, *_) = next(family for family in FAMILIES if family.slug == "llama-3").variants
    assert "with `assistant_only_loss` refuses this conversation" in " ".join(real.sentences(llama))


@needs_aliases
def test_the_index_is_current() -> None:
    assert index() == (FOLDER / "index.md").read_text(encoding="utf-8"), AGAIN


def test_every_trap_is_found_somewhere_and_none_everywhere() -> None:
    found = [set(found_in(rendering(variant))) for family in FAMILIES for variant in family.variants]
    # Of no family, but of templates that others have.
    found.append(set(found_in(rendering(Variant(template="baidu-ERNIE-4.5-21B-A3B-Base-PT", label="")))))
    assert [] == [keys for keys in found[:-1] if "first token" in keys]
    for trap in TRAPS:
        assert 0 < sum(trap.key in keys for keys in found) < len(found), trap.key


def test_traps_that_are_known() -> None:
    known = {family.slug: [found_in(rendering(variant)) for variant in family.variants] for family in FAMILIES}
    assert {"dropped thinking", "empty thinking"} <= set(known["qwen3"][0])
    assert "<code>" not in str(known)
    assert "`<|user|>`" in known["glm"][0]["no end marker"]
    assert "`<|return|>`" in known["gpt-oss"][0]["several end markers"]
    assert "lost system" in known["mistral"][0]
    assert "result as user" in known["qwen2.5"][0]
    assert {"another eos token", "system inside"} <= set(known["gemma-3"][0])
    assert {"two begin markers"} <= set(known["llama-3"][0])
    assert not set(known["seed-oss"][0]) & {"dropped thinking", "lost thinking", "empty thinking"}


@needs_aliases
def test_unrolling_keeps_the_thinking_that_is_cut_from_earlier_answers() -> None:
    advised = [
        rendering(variant)
        for family in FAMILIES
        for variant in family.variants
        if "kept in the last one" in found_in(rendering(variant)).get("cut tags", "")
    ]
    assert len(advised) >= 8
    thoughts = ("So it rains.", "I am polite.")
    answers = [{"role": "assistant", "content": f"<think>\n{thought}\n</think>\n\nYes."} for thought in thoughts]
    questions = [{"role": "user", "content": text} for text in ("Is it raining?", "Thank you.")]
    messages = [message for pair in zip(questions, answers, strict=True) for message in pair]
    for template in advised:
        tokenizer = load_tokenizer("builtin").with_template(template.source)
        masker = Masker(compile_file("default"), tokenizer, unroll=True)
        labels = masker.batch({"messages": [messages]})["labels"]
        # One row where the template takes an argument that keeps all thinking.
        texts = [tokenizer.tokenizer.decode([i for i in row if i >= 0]) for row in labels]
        assert [1, 1] == [sum(thought in text for text in texts) for thought in thoughts]


def test_columns_are_shipped_policies_and_what_trl_does_with_nothing_set() -> None:
    assert set(trained.SYSTEMS.values()) - {""} <= set(shipped())
    assert "train everything" in trained.policy_of("TRL")
    rows = {row[0]: row[1:] for row in trained.table(rendering(FAMILIES[0].variants[0]))}
    columns = dict(zip(trained.SYSTEMS, zip(*rows.values(), strict=True), strict=True))
    assert set(columns["TRL"]) == {"✓"}
    assert ("–", "✓") == (rows["empty thinking"][0], rows["empty thinking"][3])  # axolotl, LLaMA-Factory
    assert {"–"} == {columns[system][list(rows).index("questions")] for system in columns if system != "TRL"}


@pytest.mark.parametrize("family", FAMILIES, ids=SLUGS)
def test_the_policy_trains_answers_only_and_its_guard_is_proven(family: Family) -> None:
    templates = [rendering(variant) for variant in family.variants]
    text = policy([found_in(template) for template in templates])
    assert "never train user, system, tool, header" in text
    assert trained.program_of(text)
    for template in templates:
        without = re.sub(r"⟦.*?⟧", "", trained.marked(template.shown[1], text), flags=re.DOTALL)
        assert "Is it raining in Oslo?" in without
        assert "It is raining." not in without
        assert "You are welcome." not in without


def test_parts_are_drawn_escaped() -> None:
    hooks = runpy.run_path(str(ROOT / "scripts" / "site_hooks.py"))
    drawn = hooks["parts"]('0 user"><b>\n  header "<script>\\n"\n  text "a & b"\n-\n  bos "<s>"\n')
    assert [] == [text for text in ("<script>", "<s>", 'user"><b>') if text in drawn]
    assert "&lt;script&gt;<u>⏎</u><br></span>" in drawn
    assert "a &amp; b" in drawn
    assert "<b>template</b>" in drawn
