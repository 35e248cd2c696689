"""Lint: what draws a warning, what does not, comments that ignore one, and edits that settle one."""

from __future__ import annotations

import pytest

from policy_engine.lang.check import check_text
from policy_engine.lang.checked import Atom, CheckedPolicy
from policy_engine.lang.library import read_shipped, shipped
from policy_engine.lang.lint.fix import apply_edits, edits
from policy_engine.lang.lint.lint import lint
from policy_engine.lang.parse import parse

EOS = "; train eos after assistant; never train user"
TRAINED_EOS = "; train eos after trained assistant; never train user"


def codes(text: str) -> list[str]:
    return [d.code for d in lint(check_text(text))]


@pytest.mark.parametrize(
    ("text", "does", "help"),
    [
        (
            "train eos of assistant, tool",
            "`tool` is a target of its own: its text is trained",
            "write `eos of assistant, eos of tool` for the ends of both, or put `tool` first",
        ),
        (
            "train eot after user, last tool",
            "`last tool` is a target of its own: its text is trained",
            "write `eot after user, eot after last tool` for the ends of both, or put `last tool` first",
        ),
        (
            "train text of user, eos, reasoning of user, assistant",
            "`assistant` is a target of its own: its text is trained",
            "write `reasoning of user, reasoning of assistant` for both, or put `assistant` first",
        ),
        (
            'mask (header, eos) of user, "eos"',
            '`"eos"` is a target of its own: its turns are masked',
            'write `(header, eos) of user, (header, eos) of "eos"` for both, or put `"eos"` first',
        ),
        (
            "scale text after user, tool by 2",
            "`tool` is a target of its own: its text is scaled",
            "write `text after user, text after tool` for both, or put `tool` first",
        ),
    ],
)
def test_a_role_behind_the_part_of_another_is_its_own(text: str, does: str, help: str) -> None:
    policy = check_text(f"train assistant, tool, user; {text}")
    (warning,) = [warning for warning in policy.warnings if warning.code == "PE255"]
    assert (does, help) == (warning.message, warning.help)
    assert warning.span is not None
    assert does.split("`")[1] == warning.span.text


def test_each_role_behind_the_part_of_another_is_reported_and_its_ends_are_not_asked_for() -> None:
    policy = check_text("train assistant; train eos of assistant, tool, user")
    assert ["tool", "user"] == [warning.span.text for warning in policy.warnings if warning.span]
    assert () == lint(policy)
    meant = check_text("train assistant; train eos of assistant, tool  # lint: ignore PE255")
    assert () == meant.warnings
    assert ["PE604"] == [warning.code for warning in lint(meant)]


@pytest.mark.parametrize(
    "text",
    [
        "train tool, eos of assistant",
        "train eos of assistant, assistant",
        "train eos of assistant, eos of tool",
        "train eos of assistant, tool.text",
        "train eos of assistant, text",
        "train eos of assistant; train tool",
        "train assistant right after tool, user",
        "train assistant after tool, user",
        "let others = tool, user; train eos of assistant, others",
        "train user; never train eos of assistant, tool",
    ],
)
def test_a_list_that_says_what_it_means_has_no_warning_of_its_roles(text: str) -> None:
    assert () == check_text(text).warnings


@pytest.mark.parametrize("name", shipped())
def test_the_check_has_no_warning_of_shipped_policies(name: str) -> None:
    source = read_shipped(name)
    assert () == check_text(source.text, name=source.name).warnings


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("train assistant", "of assistant"),
        ("train last assistant", "of trained assistant"),
        ("train assistant after last user", "of trained assistant"),
        ("train assistant where message.good", "of trained assistant"),
        ("train user, last critic", "of user"),
    ],
)
def test_the_ends_that_are_missing_are_those_of_the_turns_that_are_trained(text: str, ends: str) -> None:
    policy = check_text(text)
    warning = next(warning for warning in lint(policy) if warning.code == "PE604")
    assert f"add `train eos {ends}`: a model has to learn where to stop" == warning.help
    assert "PE604" not in [left.code for left in lint(check_text(f"{text.split(',')[0]}; train eos {ends}"))]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("train assistant; train eos after assistant; mask eos of assistant", "PE604"),
        ("train everything; mask eos; never train user", "PE604"),
        ("train assistant; mask last assistant; train eos after assistant", "PE602"),
        ("train assistant; mask assistant where message.bad; train eos after assistant", "PE602"),
        ("train assistant; mask turn where message.bad; train assistant.eos", "PE602"),
        ("train assistant; mask first assistant; train eos", "PE602"),
        ("train everything", "PE603"),
        ("train everything; mask user", "PE603"),
        ("train assistant", "PE604"),
        ("train assistant; train eos after user; train user", "PE604"),
        ("train narrator", "PE604"),
        ("train asistant; train eos after assistant", "PE605"),
        ("train assistant.text; train assistant.separator", "PE604"),
        ("train eos after assistant", "PE605"),
        ("train assistant, eos after assistant; train eos after user", "PE605"),
        (f"train assistant; mask /^/ in assistant.text{EOS}", "PE606"),
        (f"train assistant; mask /\\b/ in assistant.text{EOS}", "PE606"),
        (f"train assistant; mask /x{{0}}/ in assistant.text{EOS}", "PE606"),
        (f"train assistant; mask /.*/ in assistant.text{EOS}", "PE606"),
        (f"train assistant; mask /(?:[^z]|z)+/ in assistant.text{EOS}", "PE606"),
        (f"train assistant; mask /x/ in /.+/s in assistant.text{EOS}", "PE606"),
        (f"train assistant where message.a matches /x*/{EOS}", "PE606"),
        (f"train assistant unless message.b or message.a matches /^/{EOS}", "PE606"),
        (f"train assistant; always train /$/ in assistant{EOS}", "PE606"),
        (f"train assistant; train assistant.reasoning weight 0{EOS}", "PE607"),
        (f"train assistant; scale assistant.reasoning by 0.0{EOS}", "PE607"),
        (f"train assistant{EOS}  # lint: ignore PE999", "PE608"),
        (f"train assistant, media of assistant{EOS}", "PE609"),
        (f"train assistant; train media{EOS}", "PE609"),
        (f"train assistant; train user.media.image{EOS}", "PE609"),
        (f"train assistant{EOS}  # lint: ignore", "PE608"),
        (f"train assistant{EOS}  # lint: ignore PE703", "PE608"),
        (f"train assistant; mask assistant right after tool where has message.tool_call_id{TRAINED_EOS}", "PE610"),
        (f'train assistant; mask assistant right after tool unless message.role == "tool"{TRAINED_EOS}', "PE610"),
        (f"train assistant; mask user right after assistant where not has message.tool_calls[0].id{EOS}", "PE610"),
        (f'train assistant; always train assistant right after tool where message.role in ["tool"]{EOS}', "PE610"),
        ("train assistant weight message.w; train eos of assistant", "PE611"),
        ("train assistant weight sample.w; train eot after assistant", "PE611"),
        ("train text weight message.w; train eos", "PE611"),
        ("train assistant weight message.w; train eos", "PE611"),
        ("train assistant, eos of assistant; train assistant weight message.w", "PE611"),
        ("train assistant, eos of assistant; scale assistant by message.w", "PE611"),
        ("train assistant, eos of assistant; scale last assistant.text by sample.w", "PE611"),
        ("train assistant; train eos; scale text by message.w", "PE611"),
        ("train assistant weight message.w; train eos of assistant; mask eos of trained assistant", "PE611"),
    ],
)
def test_warns(text: str, code: str) -> None:
    assert [code] == codes(text)


@pytest.mark.parametrize("text", ["train last assistant", "train first assistant", "train last 2 assistant.text"])
def test_turns_picked_by_number_without_their_ends_are_noted_and_no_warning(text: str) -> None:
    (found,) = lint(check_text(text))
    assert ("PE604", "info") == (found.code, found.severity)


def test_turns_picked_beside_all_turns_of_another_role_are_noted_alone() -> None:
    found = lint(check_text("train last assistant, user"))
    assert [("assistant", "info"), ("user", "warning")] == [(f.message.split("`")[1], f.severity) for f in found]


def test_a_weight_of_0_is_written_as_mask() -> None:
    found = lint(check_text(f"train user weight 0; scale user by 0; train assistant{EOS}"))
    assert ["write `mask`", "write `mask`, which says so, instead of `scale … by 0`"] == [
        f.help for f in found if f.code == "PE607"
    ]


def test_ends_that_are_weighed_too_are_not_reported() -> None:
    text = "train assistant, eos of assistant; scale assistant by message.w"
    assert "`scale …, eos of assistant by message.w`" in str(lint(check_text(text))[0].help)
    assert [] == codes("train assistant, eos of assistant; scale assistant, eos of assistant by message.w")
    assert [] == codes("train assistant weight message.w; train eos of assistant; scale eos of assistant by message.w")
    assert [] == codes("train assistant weight message.w; train eos of assistant; mask turn where message.w == 0")
    assert [] == codes("train assistant; scale assistant by message.w; train eos of trained assistant")


@pytest.mark.parametrize(
    "text",
    [
        "train assistant; mask system,user; train eos after assistant",
        "train asistant",  # the check tells of the role; what to add would be of the wrong one
        "train eos after asistant",
        "train assistant; train eos after assistant; mask last assistant",
        "train assistant; mask last assistant; train eos after trained assistant",
        "train assistant; mask last assistant; train eos after first assistant",
        "mask last assistant; train assistant; train eos after assistant",
        "train assistant; mask last assistant.reasoning; train eos after assistant",
        "train everything; never train user",
        "train everything where sample.all; never train user",
        "train turn where message.ok",
        "train assistant.turn",
        'train assistant, critic; train eos where message.role in ["assistant", "critic"]',
        "train /x/ in assistant.text; train eos after assistant",
        f"train assistant; mask /[a-z]*/ in assistant.text{EOS}",
        f"train assistant; mask /(foo[0-9]{{3}})?/ in assistant.text{EOS}",
        f"train assistant; mask /(?i)\\pL+x?/ in assistant.text{EOS}",
        f"train assistant where message.a matches /^x*$/{EOS}",
        f"train assistant weight 0.1{EOS}",
        "train assistant weight message.w; train eos of trained assistant",
        "train assistant, eos of assistant weight message.w",
        "train assistant weight message.w; train eos of assistant weight message.w",
        "train assistant weight message.w; train eos of assistant weight 2",
        "train assistant weight message.w; train eos of assistant where message.w > 0",
        "mask user",
    ],
)
def test_does_not_warn(text: str) -> None:
    assert [] == codes(text)


def test_says_where_and_what_to_write() -> None:
    (warning,) = lint(check_text("train assistant\nmask last assistant\ntrain eos after assistant"))
    assert warning.span is not None
    assert (3, 1) == (warning.span.line, warning.span.column)
    assert "`eos of trained assistant`" in str(warning.help)
    assert ["mask last assistant"] == [r.span.text for r in warning.related]


def test_a_weight_that_leaves_out_the_ends_names_its_field() -> None:
    (warning,) = lint(check_text("train assistant weight message.w\ntrain eos of assistant"))
    assert "where `message.w` is 0, the text is masked, and these ends are trained" == warning.message
    weighed = "`train …, eos of assistant weight message.w`"
    assert (
        f"train `eos of trained assistant` below that rule in place of these, or weigh them too: {weighed}"
        == warning.help
    )
    assert ["train assistant weight message.w"] == [related.span.text for related in warning.related]


@pytest.mark.parametrize(
    "text",
    [
        "train last assistant; train eos after last assistant",
        "train last 2 assistant.text; train eos of assistant",
        "train assistant; mask assistant; train user; train eos after user",
        "train assistant; mask assistant.text",
        "train assistant; mask turn; train last assistant; train eos after last assistant",
    ],
)
def test_what_is_written_out_and_what_is_masked_in_the_end_draws_no_warning(text: str) -> None:
    assert [] == codes(text)


@pytest.mark.parametrize(
    "text",
    [
        "train assistant  # lint: ignore PE604\nnever train user",
        "# lint: ignore PE604 (preference data)\ntrain assistant\nnever train user",
        "# lint: ignore PE604\n# and why\n\ntrain assistant; never train user",
        "train assistant,  # lint: ignore PE605, PE604\n  last critic.text\nnever train user",
    ],
)
def test_a_comment_ignores_a_code_for_its_statement(text: str) -> None:
    assert "PE604" not in codes(text)


@pytest.mark.parametrize(
    "text",
    [
        "train assistant\nnever train user  # lint: ignore PE604",
        "train assistant  # lint: ignore PE605\nnever train user",
        "train assistant\n# lint: ignore PE604\nnever train user",
        "train assistant  # ignore PE604\nnever train user",
    ],
)
def test_a_comment_elsewhere_does_not(text: str) -> None:
    assert "PE604" in codes(text)


def test_comments_ignore_warnings_of_the_checker_and_never_errors() -> None:
    assert () == check_text("train assistant, narrator  # lint: ignore PE251").warnings
    with pytest.raises(ValueError, match="PE202"):
        check_text("train assistant.foo  # lint: ignore PE202")


@pytest.mark.parametrize("name", shipped())
def test_shipped_policies_are_clean(name: str) -> None:
    source = read_shipped(name)
    assert () == lint(check_text(source.text, name=source.name))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("let a = user\ntrain assistant\n", "train assistant\n"),
        ("let a = user; train assistant", " train assistant"),
        ("let a = user # why\ntrain assistant", "# why\ntrain assistant"),
        ("train assistant; let a = user", "train assistant; "),
        ("train text, reasoning after user # x", "train text, (reasoning after user) # x"),
        (
            "let a = b\nlet b = user\ntrain text, reasoning after user\n",
            "train text, (reasoning after user)\n",
        ),
    ],
)
def test_edits_that_change_no_decision(before: str, after: str) -> None:
    policy = parse(before)
    checked = check_text(before)
    fixed = apply_edits(before, edits(policy, checked.warnings))
    assert after == fixed
    again = check_text(fixed)
    assert meaning(checked) == meaning(again)
    assert () == again.warnings


def meaning(policy: CheckedPolicy) -> list[object]:
    """What the targets of the rules select, wherever they stand."""
    return [(a.turns, a.parts, a.relations) for r in policy.rules for a in r.targets if isinstance(a, Atom)]


def test_a_code_that_no_comment_ignores_says_what_to_do() -> None:
    text = "train assistant  # lint: ignore PE701\ntrain eos of assistant  # lint: ignore PE703"
    helps = [found.help for found in lint(check_text(text)) if found.code == "PE608"]
    asked = "remove it; with `-p`, `audit` reports a habit that the policy itself asks for as a remark"
    assert ["remove it", asked] == helps
