from __future__ import annotations

import io
import random
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import Style
from rich.text import Text

from policy_engine.cli.reporters.console import SafeConsole
from policy_engine.core.choices import ColorBy
from policy_engine.mask.token_mask import REASONS
from policy_engine.report import styles
from policy_engine.report.terminal import _NARROW, Legend, RowText, _lines
from policy_engine.report.view import row_view, run_view
from policy_engine.report.visible import _UNSAFE, one_line, spelled, visible
from tests.report.samples import masked, policy
from tests.support.chats import fake_tokens

MESSAGES = [{"role": "user", "content": "Hi 世界"}, {"role": "assistant", "content": "Grüße 👩‍👩‍👧!\n"}]


def render(*renderables: object, color: bool, width: int = 100) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
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
    text = render(RowText(row), color=False)
    assert "row 7 · 74 tokens, 11 trained (14.9%)" in text
    assert "⟦Yes,↵\nplease⟧<|im_end|>↵" in text
    assert "\x1b" not in text


def test_weights_are_told_apart_without_colour() -> None:
    tokenized, mask = masked([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}])
    trained = mask.weights_T == 1
    for weight, marks in ((0.5, "⟦Yes×0.5⟧"), (2.0, "⟦Yes×2⟧"), (-1.0, "⟦Yes×-1⟧"), (1.0, "⟦Yes⟧")):
        mask.weights_T[trained] = weight
        assert marks in render(RowText(row_view(tokenized, mask, name="row")), color=False)


def test_neighbours_of_two_weights_are_told_apart() -> None:
    tokenized, mask = masked([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes no"}])
    first, *_ = (mask.weights_T == 1).nonzero()[0]
    mask.weights_T[first : first + 2] = [0.2, 0.1]
    row = RowText(row_view(tokenized, mask, name="row"))
    assert "×0.2⟧⟦" in render(row, color=False)
    assert "×0.1⟧" in render(row, color=False)
    assert 2 == render(row, color=True).count("×0.")


def test_colour_takes_the_place_of_marks() -> None:
    row = row_view(*masked([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]), name="row 7")
    text = render(RowText(row), color=True)
    assert "\x1b[38;5;16;48;5;114mYes\x1b[0m" in text
    assert "⟦" not in text


def test_trained_line_break_at_the_end_is_closed_on_its_line() -> None:
    row = row_view(*masked([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b\n"}]), name="row")
    assert "⟦b↵⟧\n<|im_end|>" in render(RowText(row), color=False)


def test_data_cannot_steer_the_terminal() -> None:
    row = row_view(*masked([{"role": "user", "content": "\x1b[2Jgone [red]x[/red] \u202e\x07\ud800"}]), name="row")
    text = render(RowText(row), color=False)
    assert "␛[2Jgone [red]x[/red] <U+202E>␇<U+D800>" in text


def test_legend_counts_each_rule_and_the_rest() -> None:
    row = row_view(*masked([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]), name="row")
    lines = [line.split() for line in render(Legend([row], policy().rules), color=False).splitlines()]
    assert ["1", "3", "train", "assistant", "my.policy:2"] in lines
    assert ["2", "0", "mask", "system,", "user", "my.policy:2"] in lines
    assert any(line[1:] == ["(no", "rule:", "masked)"] and int(line[0]) == row.total - 3 for line in lines)


def test_ids_on_request() -> None:
    tokenized, mask = masked([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}])
    row = row_view(tokenized, mask, name="row")
    text = render(RowText(row, ids=True), color=False)
    assert len(tokenized.input_ids) == text.count("‹")
    assert "⟦Yes⟧‹" in text or "⟦Y⟧‹" in text
    assert "‹" not in render(RowText(row), color=False)


def test_the_legend_names_only_what_occurs() -> None:
    user, answer = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}
    nothing = render(Legend([row_view(*masked([user]), name="row")], policy().rules), color=False)
    assert "⟦ ⟧" not in nothing
    assert "⟨ ⟩" not in nothing
    assert "truncated" not in nothing
    some = render(Legend([row_view(*masked([user, answer]), name="row")], policy().rules), color=True)
    assert "trained" in some
    assert "weight" not in some.splitlines()[-1]


def test_a_trained_token_is_not_in_the_legend_of_the_masked() -> None:
    tokenized, mask = masked([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}])
    mask.reasons_T[1:] = REASONS.index("straddle")
    mask.weights_T[:] = 0.5
    legend = render(Legend([row_view(tokenized, mask, name="row")], policy().rules), color=False)
    assert "⟦ ×…⟧ trained with that weight" == legend.splitlines()[-1].strip()
    assert "straddle" not in legend
    assert "masked for" not in legend


def _contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """The contrast of two colours as WCAG defines it, from 1 to 21."""

    def luminance(color: tuple[int, int, int]) -> float:
        linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_colours_are_legible_on_light_and_dark() -> None:
    texts = {name: value for name, value in vars(styles).items() if name.isupper() and isinstance(value, str)}
    named = {name: Style.parse(value) for name, value in texts.items()}
    named |= {f"rule {number}": Style.parse(value) for number, value in enumerate(styles.RULES)}
    assert len(set(styles.RULES)) == len(styles.RULES) == 10
    for name, style in named.items():
        if style.color is None:
            continue
        # The 16 colours before these are what a terminal's theme says.
        assert all(16 <= (color.number or 0) for color in (style.color, style.bgcolor) if color is not None), name
        text = style.color.get_truecolor()
        if style.bgcolor is not None:
            assert 4.5 <= _contrast(text, style.bgcolor.get_truecolor()), name
        else:
            assert 3.9 <= min(_contrast(text, (0, 0, 0)), _contrast(text, (255, 255, 255))), name


def test_sixteen_colours_are_enough_to_tell_backgrounds_apart() -> None:
    backgrounds = [Style.parse(styles.in_few_colours(style)).bgcolor for style in styles.RULES]
    numbers = [color.number for color in backgrounds if color is not None]
    assert 10 == len(set(numbers)) == len(numbers)
    # Black and white, light and dark, are what a terminal is by itself.
    assert not {0, 7, 8, 15} & set(numbers)
    assert {styles.LESS, styles.MORE, styles.AGAINST, styles.STRADDLE, styles.TRAINED} <= set(styles.RULES)


def test_a_terminal_of_sixteen_colours_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # Rich looks at the environment that it was imported in, which other tests may have replaced.
    monkeypatch.setattr(Console, "_environ", {"TERM": "xterm", "FORCE_COLOR": "1"})
    console = SafeConsole()
    with console.capture() as captured:
        console.print(Text("a", style=styles.TRAINED))
    assert "standard" == console.color_system
    assert "\x1b[30;42ma\x1b[0m\n" == captured.get()


def test_no_colour_of_a_theme_is_named_elsewhere() -> None:
    named = re.compile(r"\"(bold )?(bright_)?(red|green|yellow|cyan|blue|magenta|white|black)( on \w+)?\"")
    package = Path(styles.__file__).parents[1]
    files = [*package.glob("cli/**/*.py"), *package.glob("report/*.py")]
    assert [] == [f"{file.name}: {found[0]}" for file in files for found in named.finditer(file.read_text("utf-8"))]


def test_one_line() -> None:
    assert "a↵b→c" == one_line("a\nb\tc")
    assert "abc…" == one_line("abcdef", 4)
    assert "a↵\nb" == visible("a\nb")


@given(st.integers(), st.sampled_from(["effect", "rule"]), st.booleans())
def test_runs_of_tokens_are_shown_as_their_tokens_are(seed: int, color_by: ColorBy, color: bool) -> None:
    """One object a run, and the same letters, counts and colours as with one a token."""
    rng = random.Random(seed)
    chat = masked(MESSAGES)[0].chat
    tokens = fake_tokens(chat, rng=rng)
    bounds = list(zip(tokens.starts_T.tolist(), tokens.ends_T.tolist(), strict=True))
    tokenized, mask = masked(MESSAGES, bounds=lambda _: bounds)
    for at in rng.sample(range(len(bounds)), min(4, len(bounds))):  # decisions that part the tokens of a character
        mask.weights_T[at], mask.rules_T[at], mask.reasons_T[at] = rng.choice([(0, -1, 2), (0.5, 1, 0), (0, -1, 3)])
    whole, runs = row_view(tokenized, mask, name="row"), run_view(tokenized, mask, name="row")
    assert (whole.total, whole.trained, list(whole.by_rule.items()), list(whole.by_reason.items())) == (
        runs.total, runs.trained, list(runs.by_rule.items()), list(runs.by_reason.items()),
    )  # fmt: skip
    shown = [
        render(RowText(row, color_by=color_by), Legend([row], policy().rules), color=color) for row in (whole, runs)
    ]
    assert shown[0] == shown[1]


@given(
    st.lists(st.tuples(st.text("aab   -\t\n↵⟦世é"), st.sampled_from(["", "bold", "black on green"]))),
    st.integers(1, 14),
)
def test_lines_are_folded_as_rich_folds_them(pieces: list[tuple[str, str]], width: int) -> None:
    class Lines:
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            yield from _lines(pieces, console, options.max_width)

    for color in (False, True):
        whole = Text.assemble(*pieces, overflow="fold", no_wrap=False)
        assert render(whole, color=color, width=width) == render(Lines(), color=color, width=width)


def test_narrow_characters_take_one_column_each() -> None:
    narrow = [char for char in map(chr, range(sys.maxunicode + 1)) if _NARROW.fullmatch(char)]
    assert {"a", "é", "Ж", "—", "⟦"} < set(narrow)
    assert all(cell_len(char) == 1 and char.isprintable() for char in narrow)


def test_printable_text_has_nothing_to_spell_out() -> None:
    unsafe = _UNSAFE.findall("".join(map(chr, range(sys.maxunicode + 1))))
    assert len(unsafe) > 2_000
    assert not any(map(str.isprintable, unsafe))
    assert ["a␛b\n", "<U+202E>", "a\tb", "é 漢\n"] == list(map(spelled, ["a\x1bb\n", "\u202e", "a\tb", "é 漢\n"]))
