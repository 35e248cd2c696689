"""`diff --data`: the tokens that change, next to what is proven."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policy_engine import Masker, policy_from_text
from policy_engine.mask.compare.changes import changed_tokens
from tests.cli.support import CHATS, GOOD, cli, write_chats, write_policy

WITHOUT = GOOD + "mask assistant where message.training == false\n"


def test_tokens_that_change_are_told(tmp_path: Path) -> None:
    old, new = write_policy(tmp_path), write_policy(tmp_path, WITHOUT, name="new.policy")
    ran = cli("diff", old, new, "--data", write_chats(tmp_path), "-t", "builtin")
    assert ran.code == 1
    assert "trains less than" in ran.out
    assert "1 of 3 rows changes" in ran.out
    assert "chats.jsonl:2: 3 tokens" in ran.out
    assert "eot of message 4 (assistant): trained → masked  …" in ran.out
    assert "⟦Yes.⟧" in ran.out
    assert "new.policy:4" in ran.out


def test_the_document_agrees_with_two_maskings(tmp_path: Path) -> None:
    more_rules = "train user.text weight 2\nmask /e/ in assistant.text\n"
    texts = [text.replace("never train user\n", "") for text in (GOOD, WITHOUT + more_rules)]
    old, new = write_policy(tmp_path, texts[0]), write_policy(tmp_path, texts[1], name="new.policy")
    arguments = ["diff", old, new, "--data", write_chats(tmp_path), "-t", "builtin", "--format", "json"]
    document = cli(*arguments, "--list", "100").document
    assert (1, "does not hold") == (document["exit_code"], document["verdict"])
    data = document["data"]
    assert (3, 3) == (data["rows"], data["rows_changed"])
    maskers = [Masker(policy_from_text(text, name="p.policy"), "builtin") for text in texts]
    total = more = 0
    for messages, row in zip(CHATS, data["changed_rows"], strict=True):
        before, after = (masker(messages).mask.weights_T for masker in maskers)
        changed = {t for c in row["changes"] for t in range(*c["tokens"])}
        assert set(np.flatnonzero(before != after).tolist()) == changed
        total, more = total + len(changed), more + int((after > before).sum())
        for change in row["changes"]:
            assert {change["old"]["weight"]} == set(before[slice(*change["tokens"])].tolist())
            assert {change["new"]["weight"]} == set(after[slice(*change["tokens"])].tolist())
    assert (total, more) == (data["tokens_changed"], data["tokens_trained_more"])
    assert total == sum(place["tokens"] for place in data["by_place"])
    short = cli(*arguments, "--list", "1", "--limit", "2").document["data"]
    assert (2, 2, 1) == (short["rows"], short["rows_changed"], len(short["changed_rows"]))


def test_equal_on_the_data_only(tmp_path: Path) -> None:
    old, new = write_policy(tmp_path), write_policy(tmp_path, GOOD + "train tool\n", name="new.policy")
    ran = cli("diff", old, new, "--data", write_chats(tmp_path), "-t", "builtin")
    assert ran.code == 1  # over all conversations they differ
    assert "none of 3 rows changes" in ran.out
    ran = cli("diff", old, old, "--data", write_chats(tmp_path), "-t", "builtin", "--format", "json")
    assert (0, "equal", 0) == (ran.code, ran.document["comparison"], ran.document["data"]["rows_changed"])


def test_data_decides_what_the_proof_cannot(tmp_path: Path) -> None:
    old = write_policy(tmp_path, "train assistant\n")
    new = write_policy(tmp_path, "train assistant\nmask last 30000 assistant\n", name="new.policy")
    assert cli("diff", old, new).code == 3
    ran = cli("diff", old, new, "--data", write_chats(tmp_path), "-t", "builtin")
    assert ran.code == 1
    assert "3 rows: written → dropped, nothing to train" in ran.out
    user = write_policy(tmp_path, "train assistant\nmask last 30000 tool\n", name="user.policy")
    assert cli("diff", old, user, "--data", write_chats(tmp_path), "-t", "builtin").code == 3


def test_rows_that_fail(tmp_path: Path) -> None:
    guarded = GOOD + "never train assistant where message.training == false\n"
    old, new = write_policy(tmp_path), write_policy(tmp_path, guarded, name="new.policy")
    data = write_chats(tmp_path, [*CHATS, "not json"])
    ran = cli("diff", old, new, "--data", data, "-t", "builtin")
    assert ran.code == 1
    assert "chats.jsonl:2: error[PE301]: " in ran.err
    assert "(under the new policy only)" in ran.err
    assert "chats.jsonl:4: " in ran.err
    assert "1 row: written → fails" in ran.out
    assert "1 row cannot be masked by either policy" in ran.out
    # Nothing differs, but of one row that could not be seen.
    assert cli("diff", old, old, "--data", data, "-t", "builtin").code == 1


@pytest.mark.parametrize("option", [["-t", "builtin"], ["--limit", "2"], ["--template", "x.jinja"], ["--list", "3"]])
def test_options_that_need_data(tmp_path: Path, option: list[str]) -> None:
    policy = write_policy(tmp_path)
    ran = cli("diff", policy, policy, *option)
    assert ran.code == 2
    assert "--data" in ran.err


def test_a_tokenizer_is_needed(tmp_path: Path) -> None:
    policy = write_policy(tmp_path)
    ran = cli("diff", policy, policy, "--data", write_chats(tmp_path))
    assert ran.code == 2
    assert "with -t" in ran.err


def test_other_tokens_are_no_comparison() -> None:
    masker = Masker(policy_from_text("train assistant", name="p.policy"), "builtin")
    one, other = (masker(messages) for messages in CHATS[:2])
    with pytest.raises(ValueError, match="same tokens"):
        changed_tokens(one, other)


def test_machines_get_each_change(tmp_path: Path) -> None:
    old, new = write_policy(tmp_path), write_policy(tmp_path, WITHOUT, name="new.policy")
    policies, *_ = changes = cli("diff", old, new, "--format", "github").out.splitlines()
    assert policies.startswith(f"::error title=policy-engine PE706::{new} against {old}: ")
    chats = write_chats(tmp_path)
    arguments = ["diff", old, new, "--data", chats, "-t", "builtin", "--format", "github"]
    *same, row = cli(*arguments).out.splitlines()
    assert changes == same
    assert f"PE706,file={chats},line=2::3 tokens change: " in row
    assert "trained → masked" in row
    last = cli(*arguments, "--list", "0").out.splitlines()[-1]
    assert last.endswith("PE706::1 row changes%0Ahelp: `--list N` lists them")
    assert "" == cli("diff", old, old, "--format", "github").out


def test_a_policy_from_standard_input_is_the_same_for_the_proof_and_on_the_rows(tmp_path: Path) -> None:
    """It can be read once; a second reading was an empty policy."""
    data, policy = write_chats(tmp_path), "train assistant\ntrain eos of assistant\n"
    file = write_policy(tmp_path, policy)
    on_rows = ["--data", data, "-t", "builtin"]
    ran = cli("diff", "-", file, *on_rows, stdin=policy)
    assert 0 == ran.code, ran.out + ran.err
    templates = ["--template", tmp_path / "t.jinja"] * 2
    templates[1].write_text("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}")
    ran = cli("diff", "-", *on_rows, *templates, stdin=policy)
    assert 0 == ran.code, ran.out + ran.err
    ran = cli("diff", "-", "-", stdin=policy)
    assert 2 == ran.code
    assert "both policies are standard input" in ran.err
