"""Fences with attributes become fences that Python-Markdown reads."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import ClassVar

import pytest

ROOT = Path(__file__).parents[2]
HOOKS = runpy.run_path(str(ROOT / "scripts" / "site_hooks.py"))
plain_fences = HOOKS["plain_fences"]


@pytest.mark.parametrize(
    ("fence", "expected"),
    [
        ("```policy on=chat weights", "```policy"),
        ("```policy avoid", "```policy"),
        ("```yaml conversation=chat", '```yaml title="conversation: chat"'),
        ("```policy file=a.policy", '```policy title="a.policy"'),
        ("```python", "```python"),
        ("```", "```"),
        ("    ```policy on=chat", "    ```policy"),
        ("~~~policy on=chat", "~~~policy"),
    ],
)
def test_attributes_are_taken_off(fence: str, expected: str) -> None:
    mark = fence.strip()[:3]
    indent = " " * (len(fence) - len(fence.strip()))
    page = f"# A\n\n{fence}\n{indent}text\n{indent}{mark}\n\nEnd `x`.\n"
    assert page.replace(fence, expected) == plain_fences(page)


def test_a_site_without_colours_of_policies_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    on_config = HOOKS["on_config"]
    monkeypatch.setitem(on_config.__globals__, "get_all_lexers", lambda: [("Python", ("python",), (), ())])
    with pytest.raises(LookupError, match="install the checkout"):
        on_config(None)


def test_a_masked_conversation_is_drawn() -> None:
    page = "```text\n<a>⟦x⟧\n```\n\n```text\nplain\n```\n"
    assert page.replace("```text\n<a>", "```masked\n<a>") == plain_fences(page)
    drawn = HOOKS["masked"]("<a>⟦x⟧\n", "masked", "masked", {}, None)
    assert "&lt;a&gt;<mark><i>⟦</i>x<i>⟧</i></mark>" in drawn


def test_fences_inside_of_a_longer_fence_stay() -> None:
    page = "````markdown\n```policy on=chat\ntrain user\n```\n````\n"
    assert page == plain_fences(page)


def test_a_fence_that_is_not_closed_stops_the_build() -> None:
    with pytest.raises(ValueError, match="line 3 of the page"):
        plain_fences("# A\n\n```policy\ntrain user\n")


def test_a_folder_in_the_navigation_is_its_pages(tmp_path: Path) -> None:
    (tmp_path / "codes").mkdir()
    for name in ("index", "b", "a"):
        (tmp_path / "codes" / f"{name}.md").write_text(f"# Fine-tuning `{name}`: it\n")
    entries = ["index.md", {"Codes": ["codes/index.md", "codes/*"]}, {"One": "one.md"}]
    assert [
        "index.md",
        {"Codes": ["codes/index.md", {"a": "codes/a.md"}, {"b": "codes/b.md"}]},
        {"One": "one.md"},
    ] == list(HOOKS["_navigation"](entries, tmp_path))


def test_a_row_of_a_table_may_have_bars_in_its_code() -> None:
    assert "| `<|a|>` | b \\| c |" == plain_fences("| `<\\|a\\|>` | b \\| c |")
    assert "not a row: `a \\| b`" == plain_fences("not a row: `a \\| b`")


def test_the_title_is_the_heading() -> None:
    class Page:
        meta: ClassVar[dict[str, str]] = {}

    HOOKS["on_page_markdown"]("# The `one`\n\nText.\n", page=Page)
    assert {"title": "The one"} == Page.meta


def test_long_names_in_tables_may_break() -> None:
    built = "<p><code>a.b_c</code></p><table><td><code>a.b_c=d &lt;e&gt;</code> f.g</td></table>"
    broken = "<code>a.<wbr>b_<wbr>c=<wbr>d &lt;e&gt;</code> f.g"
    assert f"<p><code>a.b_c</code></p><table><td>{broken}</td></table>" == HOOKS["on_post_page"](built)


def test_fences_of_all_pages_are_closed() -> None:
    """Words behind the end of a fence leave it open, and the rest of a page would be code."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert (page, []) == (page, re.findall(r"^```+ .*", text, re.MULTILINE))
        HOOKS["plain_fences"](text)


def test_options_stay_on_one_line() -> None:
    built = (
        "<p><code>apply --max-length 9 -o x</code> <code>a-b</code></p><table><td><code>--dry-run</code></td></table>"
    )
    option = '<span class="option">{}</span>'
    assert HOOKS["on_post_page"](built) == built.replace("--max-length", option.format("--max-length")).replace(
        "-o x", option.format("-o") + " x"
    ).replace("--dry-run", option.format("--dry-run"))
