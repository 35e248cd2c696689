"""Files that scripts write from the language are current."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
import yaml

from policy_engine.core.vocabulary import GROUPS, KEYWORDS, PART_NAMES
from policy_engine.lang.library import grammar_text
from scripts.conformance_table import written

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("script", "function"),
    [
        ("editor_grammar", "grammar"),
        ("grammar_page", "page"),
        ("presets_page", "page"),
        ("python_page", "page"),
        ("picture", "picture"),
    ],
)
def test_written_files_are_current(script: str, function: str) -> None:
    names = runpy.run_path(str(ROOT / "scripts" / f"{script}.py"))
    assert names[function]() == names["PATH"].read_text(encoding="utf-8"), f"run python scripts/{script}.py"


def test_pictures_of_a_rendering_are_what_the_code_draws() -> None:
    names = runpy.run_path(str(ROOT / "scripts" / "label_picture.py"))
    for path, text in names["files"]().items():
        assert text == path.read_text(encoding="utf-8"), "run python scripts/label_picture.py"
    drawn = names["rendering"]()
    assert "<tool_call>" in drawn
    assert "reasoning.text" in drawn


def test_conformance_page_is_that_of_its_data() -> None:
    page, data = (ROOT / "docs" / "explanation" / f"conformance.{ending}" for ending in ("md", "json"))
    text = page.read_text(encoding="utf-8")
    again = f"run python -m scripts.conformance_table {page.relative_to(ROOT)} --again"
    assert text == written(text, data.read_text(encoding="utf-8"), name=data.name), again


def test_grammar_page_has_every_rule_and_word() -> None:
    page = (ROOT / "docs" / "reference" / "grammar.md").read_text(encoding="utf-8")
    for rule in re.findall(r"^\??([a-z]\w*)\s*:", grammar_text(), re.MULTILINE):
        assert re.search(rf"^{rule}\s+::=", page, re.MULTILINE), rule
    for word in KEYWORDS:
        assert f'"{word}"' in page


def test_editor_colours_every_word() -> None:
    text = (ROOT / "editors/vscode/syntaxes/policy.tmLanguage.json").read_text(encoding="utf-8")
    for word in (*KEYWORDS, *PART_NAMES, *GROUPS):
        assert re.search(rf"[(:|]{word}[|)]", text), word


def test_editor_colours_a_path_as_one_field() -> None:
    patterns = json.loads((ROOT / "editors/vscode/syntaxes/policy.tmLanguage.json").read_text())["patterns"]
    (path,) = [p for p in patterns if "variable.language.policy" in str(p)]
    found = re.match(path["match"], "message.train[0].content ==")
    assert found is not None
    assert ("message", ".train[0].content") == found.groups()


def test_hooks_run_verbs_that_exist() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert ["policy-engine check", "policy-engine fmt"] == [hook["entry"] for hook in hooks]
