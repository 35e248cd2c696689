"""`test`: passes, fails with the two texts, and answers nothing where no test ran."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from policy_engine.lang.library import policies_folder
from tests.cli.support import cli

POLICY = "train assistant\ntrain eos after assistant\nmask assistant where message.train == false\n"
DATASET = """\
policy: a.policy
tokenizer: builtin
tests:
  - name: an answer
    messages:
      - {role: user, content: "Two?"}
      - {role: assistant, content: "Yes."}
    expect: |
      <|im_start|>user
      Two?<|im_end|>
      <|im_start|>assistant
      ⟦Yes.<|im_end|>⟧
"""


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "a.policy").write_text(POLICY)
    path = tmp_path / "a.yaml"
    path.write_text(DATASET, encoding="utf-8")
    return path


def test_passes_and_tells_what_was_not_tried(dataset: Path) -> None:
    ran = cli("test", dataset, "--coverage")
    assert ran.code == 0
    assert "1 passed, 0 failed" in ran.out
    assert "`mask assistant where message.train == false`: never decided" in ran.out
    assert "`message.train == false`: never true" in ran.out


def test_a_failing_test_shows_both_texts(dataset: Path, tmp_path: Path) -> None:
    dataset.write_text(DATASET.replace("⟦Yes.<|im_end|>⟧", "⟦Yes.⟧<|im_end|>"), encoding="utf-8")
    junit = tmp_path / "out.xml"
    ran = cli("test", dataset, "--junit", junit)
    assert ran.code == 1
    assert "PE701" in ran.err
    assert "-⟦Yes.⟧<|im_end|>" in ran.err
    assert "+⟦Yes.<|im_end|>⟧" in ran.err
    suite = ElementTree.parse(junit).getroot()[0]
    assert ("1", "1") == (suite.get("tests"), suite.get("failures"))


def test_a_conversation_that_cannot_be_masked_fails(dataset: Path) -> None:
    (dataset.parent / "a.policy").write_text(POLICY + "never train assistant\n")
    ran = cli("test", dataset)
    assert ran.code == 1
    assert "could not run" in ran.err


@pytest.mark.parametrize("text", ["policy: a.policy\ntokenizer: builtin\n"])
def test_no_test_is_no_answer(dataset: Path, text: str) -> None:
    dataset.write_text(text)
    ran = cli("test", dataset)
    assert ran.code == 2
    assert "no test ran" in ran.err


def test_missing_file(tmp_path: Path) -> None:
    assert cli("test", tmp_path / "none.yaml").code == 2


def test_shipped_policies(tmp_path: Path) -> None:
    ran = cli("test", policies_folder() / "default.yaml", policies_folder() / "train_flags.yaml", "--format", "json")
    assert ran.code == 0
    assert all(test["passed"] for file in ran.document["files"] for test in file["tests"])
