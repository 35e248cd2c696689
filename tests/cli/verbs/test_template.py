from __future__ import annotations

import json
from pathlib import Path

from policy_engine.testing.conformance import PROPERTIES
from tests.cli.support import cli

GOOD = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENDLESS = "{% macro m(x) %}{{ m(x) }}{% endmacro %}{% for message in messages %}{{ m(message) }}{% endfor %}"


def written(folder: Path, text: str) -> Path:
    path = folder / "chat.jinja"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_template_that_holds(tmp_path: Path) -> None:
    ran = cli("template", written(tmp_path, GOOD), "--examples", "20")
    assert (0, "") == (ran.code, ran.err)
    assert all(f"{name}: " in ran.out for name in PROPERTIES)
    assert "no tokenizer was given" in ran.out


def test_a_template_that_fails(tmp_path: Path) -> None:
    path = written(tmp_path, ENDLESS)
    ran = cli("template", path, "--examples", "5", "--format", "json")
    assert 1 == ran.code
    found = {p["name"]: p for p in ran.document["properties"]}
    assert "fails" == found["bounded"]["verdict"]
    assert "recurses without end" in found["bounded"]["sentence"]
    assert found["bounded"]["counterexample"]["messages"]
    assert ["PE407"] == [d["code"] for d in ran.document["diagnostics"]]
    github = cli("template", path, "--examples", "5", "--format", "github")
    assert 1 == github.code
    assert github.out.startswith("::error title=policy-engine PE407::")


def test_a_tokenizer_stands_for_its_template() -> None:
    ran = cli("template", "builtin", "--examples", "10", "--format", "json")
    assert 0 == ran.code
    found = {p["name"]: p["verdict"] for p in ran.document["properties"]}
    assert "holds" == found["boundary_tokens"]
    assert set(PROPERTIES) == set(found)
    assert "--backend kitoken" in ran.document["backend"]


def test_a_template_file_with_a_tokenizer(tmp_path: Path) -> None:
    ran = cli("template", written(tmp_path, GOOD), "-t", "builtin", "--examples", "5", "--format", "json")
    assert 0 == ran.code
    assert "holds" == next(p["verdict"] for p in ran.document["properties"] if p["name"] == "boundary_tokens")


def test_bad_input(tmp_path: Path) -> None:
    broken = cli("template", written(tmp_path, "{% for m in %}"), "--format", "json")
    assert 2 == broken.code
    assert ".jinja:1 does not compile: " in broken.document["diagnostics"][0]["message"]
    missing = cli("template", tmp_path / "none.jinja")
    assert 2 == missing.code
    assert "help: " in missing.err
    assert 2 == cli("template", "builtin", "-t", "builtin").code
    assert 2 == cli("template", "builtin", "--examples", "-1").code
    assert json.loads(cli("template", tmp_path / "none.jinja", "--format", "json").out)["exit_code"] == 2
