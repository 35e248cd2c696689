"""What a document finds, without a server."""

from __future__ import annotations

from pathlib import Path

from policy_engine.lsp.document import PolicyDocument


def test_a_dataset_file_that_cannot_be_used_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("tokeniser: builtin\nmessages: 3\n")
    first = PolicyDocument("train assistant\ntrain eos after assistant\n", tmp_path / "my.policy").findings()[0]
    assert "warning" == first.severity
    assert (
        "the dataset file `my.yaml` beside this policy cannot be used: line 1: unknown key `tokeniser` in the dataset "
        "file; line 2: `messages` has to be a mapping, found a number"
    ) == first.message
