from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import GOOD, cli, write_policy

BROKEN = "train everything after last user\nnever train user\nnever train tool\n"
POSSIBLE = (
    "train user.text where message.content matches /a/ and not (message.content matches /a|b/)\nnever train user\n"
)


def test_guards_that_hold(tmp_path: Path) -> None:
    ran = cli("prove", write_policy(tmp_path))
    assert (ran.code, ran.err) == (0, "")
    assert "holds  never train user" in ran.out


def test_a_guard_that_fails_is_shown_with_a_conversation(tmp_path: Path) -> None:
    ran = cli("prove", write_policy(tmp_path, BROKEN))
    assert ran.code == 1
    assert "error[PE303]" in ran.err
    assert "holds  never train user" in ran.out
    assert "fails  never train tool" in ran.out
    assert "⟦4⟧" in ran.out


def test_the_document(tmp_path: Path) -> None:
    ran = cli("prove", write_policy(tmp_path, BROKEN), "--format", "json")
    assert ran.code == 1
    (facts,) = ran.document["files"]
    assert [g["verdict"] for g in facts["guards"]] == ["holds", "fails"]
    witness = facts["guards"][1]["witness"]
    assert witness["text"][witness["start"] : witness["end"]] == "4"
    assert [m["role"] for m in witness["messages"]] == ["user", "tool"]
    assert facts["order_free"] is True
    assert facts["rules"][0]["decides"]


@pytest.mark.parametrize("format", ["sarif", "github"])
def test_other_formats(tmp_path: Path, format: str) -> None:
    ran = cli("prove", write_policy(tmp_path, BROKEN), "--format", format)
    assert ran.code == 1
    assert "PE303" in ran.out


def test_exit_codes(tmp_path: Path) -> None:
    good, broken = write_policy(tmp_path), write_policy(tmp_path, BROKEN, name="broken.policy")
    possible = write_policy(tmp_path, POSSIBLE, name="possible.policy")
    large = write_policy(tmp_path, "train last 30000 assistant\nnever train user\n", name="large.policy")
    assert cli("prove", possible).code == 3
    assert cli("prove", large).code == 3
    assert "undecided" in cli("prove", large).out
    assert cli("prove", good, possible, broken).code == 1
    assert cli("prove", good, tmp_path / "none.policy", broken).code == 2
    assert cli("prove", "-", stdin="train asistant where").code == 2


def test_what_rules_decide(tmp_path: Path) -> None:
    ran = cli(
        "prove", write_policy(tmp_path, "train assistant\nmask user\ntrain user where turn.index < 0\n"), "--rules"
    )
    assert ran.code == 0
    assert "assistant: body" in ran.out
    assert "1 rule without effect" in ran.out
    assert "PE311" in ran.err
    assert "PE312" in ran.err


def test_a_dataset_file_gives_the_schema(tmp_path: Path) -> None:
    spec = tmp_path / "data.yaml"
    spec.write_text("messages: {field: messages}\nfields: {message.keep: boolean}\n", encoding="utf-8")
    policy = write_policy(tmp_path, "train assistant where message.kep\n")
    ran = cli("prove", policy, "--dataset", spec)
    assert ran.code == 2
    assert "message.kep" in ran.err
    assert cli("prove", policy).code == 0
    assert cli("diff", policy, policy, "--dataset", spec).code == 2


def test_diff_verdicts(tmp_path: Path) -> None:
    good = write_policy(tmp_path)
    more = write_policy(tmp_path, GOOD + "train assistant.header\n", name="more.policy")
    other = write_policy(tmp_path, "train user\non straddle train\n", name="other.policy")
    possible = write_policy(tmp_path, POSSIBLE, name="possible.policy")
    nothing = write_policy(tmp_path, "mask user\n", name="nothing.policy")
    large = write_policy(tmp_path, "train last 30000 assistant\n", name="large.policy")
    assert cli("diff", good, good).code == 0
    assert "is equal to" in cli("diff", good, good).out
    ran = cli("diff", good, more)
    assert ran.code == 1
    assert "trains more than" in ran.out
    assert "assistant: header" in ran.out
    assert "⟦<|im_start|>assistant" in ran.out
    assert "trains less than" in cli("diff", more, good).out
    ran = cli("diff", good, other)
    assert ran.code == 1
    assert "more and less" in ran.out
    assert "on straddle: mask → train" in ran.out
    assert cli("diff", nothing, possible).code == 3
    assert "no conversation was found" in cli("diff", nothing, possible).out
    assert cli("diff", large, good).code == 3
    assert cli("diff", good, tmp_path / "none.policy").code == 2


def test_diff_document(tmp_path: Path) -> None:
    good = write_policy(tmp_path)
    more = write_policy(tmp_path, GOOD + "train assistant.header weight 2\n", name="more.policy")
    document = cli("diff", good, more, "--format", "json").document
    assert document["comparison"] == "trains more"
    (change,) = document["changes"]
    assert (change["old_weight"], change["new_weight"]) == ("masked", "2")
    assert change["witness"]["part"] == "header"


def test_check_proves_guards_unless_told_not_to(tmp_path: Path) -> None:
    broken = write_policy(tmp_path, BROKEN)
    ran = cli("check", broken)
    assert ran.code == 1
    assert "error[PE303]" in ran.err
    assert "1 guard does not hold" in ran.out
    ran = cli("check", broken, "--no-prove")
    assert (ran.code, ran.err) == (0, "")
