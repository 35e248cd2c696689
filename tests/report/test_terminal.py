from __future__ import annotations

import io

from rich.console import Console

from policy_engine.report.terminal import Legend, RowText
from policy_engine.report.view import row_view, rule_views
from policy_engine.report.visible import one_line, visible
from tests.report.samples import masked, policy


def render(*renderables: object, color: bool) -> str:
    console = Console(
        file=io.StringIO(),
        width=100,
        force_terminal=color,
        no_color=not color,
        color_system="truecolor" if color else None,
    )
    console.print(*renderables)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_readable_without_colour() -> None:
    row = row_view(
        *masked([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes,\nplease"}]), name="row 7"
    )
    text = render(RowText(row, rule_views(policy())), color=False)
    assert "row 7 · 74 tokens, 11 trained (14.9%)" in text
    assert "⟦Yes,↵\nplease⟧<|im_end|>↵" in text
    assert "\x1b" not in text


def test_colour_takes_the_place_of_marks() -> None:
    row = row_view(*masked([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]), name="row 7")
    text = render(RowText(row, rule_views(policy())), color=True)
    assert "\x1b[30;42mYes\x1b[0m" in text
    assert "⟦" not in text


def test_trained_line_break_at_the_end_is_closed_on_its_line() -> None:
    row = row_view(*masked([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b\n"}]), name="row")
    assert "⟦b↵⟧\n<|im_end|>" in render(RowText(row, rule_views(policy())), color=False)


def test_data_cannot_steer_the_terminal() -> None:
    row = row_view(*masked([{"role": "user", "content": "\x1b[2Jgone [red]x[/red] \u202e\x07\ud800"}]), name="row")
    text = render(RowText(row, rule_views(policy())), color=False)
    assert "␛[2Jgone [red]x[/red] <U+202E>␇<U+D800>" in text


def test_legend_counts_each_rule_and_the_rest() -> None:
    row = row_view(*masked([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]), name="row")
    lines = [line.split() for line in render(Legend([row], rule_views(policy())), color=False).splitlines()]
    assert ["1", "3", "train", "assistant", "my.policy:2"] in lines
    assert ["2", "0", "mask", "system,", "user", "my.policy:2"] in lines
    assert any(line[1:] == ["(no", "rule:", "masked)"] and int(line[0]) == row.total - 3 for line in lines)


def test_ids_on_request() -> None:
    tokenized, mask = masked([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}])
    row = row_view(tokenized, mask, name="row")
    text = render(RowText(row, rule_views(policy()), ids=True), color=False)
    assert len(tokenized.input_ids) == text.count("‹")
    assert "⟦Yes⟧‹" in text or "⟦Y⟧‹" in text
    assert "‹" not in render(RowText(row, rule_views(policy())), color=False)


def test_the_legend_names_only_what_occurs() -> None:
    user, answer = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}
    nothing = render(Legend([row_view(*masked([user]), name="row")], rule_views(policy())), color=False)
    assert "⟦ ⟧" not in nothing
    assert "⟨ ⟩" not in nothing
    assert "truncated" not in nothing
    some = render(Legend([row_view(*masked([user, answer]), name="row")], rule_views(policy())), color=True)
    assert "trained" in some
    assert "weight" not in some.splitlines()[-1]


def test_one_line() -> None:
    assert "a↵b→c" == one_line("a\nb\tc")
    assert "abc…" == one_line("abcdef", 4)
    assert "a↵\nb" == visible("a\nb")
