"""What the public objects print: one short line that says which they are."""

from __future__ import annotations

import pytest

from policy_engine import Conversation, Masker, compare, policy_from_text, prove

TEXT = "train assistant\nmask assistant where message.keep == false\nnever train user"
MESSAGES = [{"role": "user", "content": "Hi " * 5000}, {"role": "assistant", "content": "Hello"}]


def test_reprs_are_short_and_say_what_it_is() -> None:
    program = policy_from_text(TEXT, name="my.policy")
    masker = Masker(program, "builtin")
    row = masker(MESSAGES)
    report = prove(program)
    assert "<Program my.policy: 2 rules, 1 guard>" == repr(program)
    assert "<CheckedPolicy my.policy: 2 rules, 1 guard>" == repr(program.policy)
    assert "<CheckedRule my.policy:1:1 `train assistant`>" == repr(program.policy.rules[0])
    assert "<Masker my.policy: 2 rules, 1 guard; builtin>" == repr(masker)
    assert f"<MaskedRow: {len(row.input_ids)} tokens, {sum(x != -100 for x in row.labels)} trained>" == repr(row)
    assert "<ProofReport my.policy: `never train user` holds; 0 dead rules>" == repr(report)
    assert "<Diff my.policy against my.policy: equal>" == repr(compare(program, program))
    conversation = Conversation(messages=tuple(MESSAGES))
    for item in (row.chat, row.tokenized, masker.tokenizer, masker.tokenizer.template, conversation):
        assert len(repr(item)) < 400
    assert "user" in repr(row.chat)
    assert "'content': 'Hi Hi" in repr(conversation)
    assert "tools" not in repr(conversation)


def test_a_row_explains_itself() -> None:
    row = Masker(policy_from_text(TEXT, name="my.policy"), "builtin")([{"role": "user", "content": "a"}, MESSAGES[1]])
    table = row.explain()
    lines = str(table).splitlines()
    assert len(lines) == 1 + len(row.input_ids)
    assert lines[0].split() == ["token", "id", "text", "turn", "part", "weight", "decided", "by"]
    for line, weight, token_id in zip(table.tokens, row.mask.weights_T, row.input_ids, strict=True):
        assert (line.weight, line.token_id) == (weight, token_id)
        assert row.explain(token=line.token).weight == line.weight
        assert (line.place == "my.policy:1:1") == bool(weight)
    assert "(structural)" in lines[1]
    assert any("1 assistant" in line for line in lines)
    assert len(table.as_dict()["tokens"]) == len(table.tokens)
    assert str(row.explain(token=3)) == row.explain(token=3).as_text()
    with pytest.raises(TypeError, match="not both"):
        row.explain(token=1, segment=1)  # type: ignore[call-overload]
