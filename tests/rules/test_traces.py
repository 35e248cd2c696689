"""Rules that select text, found quickly, beside the trace of every one of them."""

from __future__ import annotations

from policy_engine.core.errors import PolicyCheckError, RowError
from policy_engine.lang.format import format_policy
from policy_engine.lang.library import shipped
from policy_engine.rules.compile import compile_text
from policy_engine.rules.traces import selected_rules, trace_rules
from policy_engine.testing.chats import tokenized_chat
from policy_engine.testing.choices import RandomChoices
from policy_engine.testing.policies import policy


def test_selected_rules_are_those_of_the_traces() -> None:
    """Of generated policies on generated chats; a row that fails fails in both, or is found without a bad value."""
    compared = with_condition = 0
    for number in range(400):
        choices = RandomChoices(f"selected:{number}")
        try:
            program = compile_text(format_policy(policy(choices, uses=shipped())))
        except PolicyCheckError:
            continue
        chat = tokenized_chat(choices).chat
        places = [(at, place) for at, s in enumerate(chat.segments) for place in range(s.start, s.end)]
        wanted = {rule.index for rule in program.policy.rules}
        try:
            traces = [trace for found in trace_rules(program, chat, places) for trace in found]
        except RowError:
            continue
        selected, held = selected_rules(program, chat, wanted)
        assert {trace.index for trace in traces} == selected
        assert {trace.index for trace in traces if trace.holds} == held
        compared += 1
        with_condition += selected != held
    assert compared > 200
    assert with_condition > 20
