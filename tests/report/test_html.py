from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from policy_engine import Masker, policy_from_text
from policy_engine.mask.explain import explain_pieces, rule_lines
from policy_engine.mask.row import MaskedRow
from policy_engine.report.html.escape import shown_lengths
from policy_engine.report.html.page import html_page
from policy_engine.report.row_facts import row_facts, share_bins
from policy_engine.report.runs import FailedRow, ShownRow
from policy_engine.report.visible import visible
from tests.report.samples import masked, policy

KIND = ("decision", "reason", "rule", "part", "source", "why")
VOID = {"meta", "input", "br", "option"}


class Page(HTMLParser):
    """Collects runs (attributes and text), the text of rows, and unbalanced tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.runs: list[dict[str, str]] = []
        self.text = ""
        self.in_pre = self.in_mark = self.in_button = self.in_style = False
        self.links: list[str] = []
        self.feed(page)
        self.close()
        (block,) = re.findall(r"<div class='facts' hidden>(.*?)</div>", page)
        self.facts = json.loads(unescape(block))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag not in VOID:
            self.open.append(tag)
        self.in_pre |= tag == "pre"
        self.in_mark = tag == "u"
        self.in_button = tag == "button"
        if "data-d" in found:
            self.runs.append({**found, "text": ""})
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.in_pre &= tag != "pre"
        self.in_mark = self.in_button = False

    def handle_data(self, data: str) -> None:
        if not self.in_pre or self.in_button:
            return
        if not self.in_mark:
            self.text += data
        if self.runs:
            self.runs[-1]["text"] += data

    def tokens(self) -> list[tuple[int, str, list[int], dict[str, Any]]]:
        """Number, text, ids and facts of each cell, read as the page's script does."""
        found = []
        for run in self.runs:
            first, *cells = run["data-d"].split(" ")
            kind = dict(zip(KIND, self.facts["kinds"][int(run["data-k"])]))
            index, units = int(first), run["text"].encode("utf-16-le")
            for cell in cells:
                length, ids = cell.split(".")
                text, units = units[: 2 * int(length)].decode("utf-16-le"), units[2 * int(length) :]
                found.append((index, text, [int(i) for i in ids.split(",")], kind))
                index += ids.count(",") + 1
        return found


def shown(row: MaskedRow, number: int = 1) -> ShownRow:
    return ShownRow(number=number, tokenized=row.tokenized, mask=row.mask, pieces=explain_pieces(row.program, row.chat))


def page(*messages: dict[str, object]) -> tuple[Page, str]:
    tokenized, mask = masked(list(messages))
    row = ShownRow(number=3, tokenized=tokenized, mask=mask)
    text = html_page([row], policy(), title="t <x>", facts={"tokenizer": "a&b"})
    return Page(text), text


def test_every_token_says_what_decided_it() -> None:
    parsed, _ = page({"role": "user", "content": "Hi 世界\n"}, {"role": "assistant", "content": "Yes"})
    assert parsed.open == []
    assert parsed.text == "<|im_start|>user\nHi 世界\n<|im_end|>\n<|im_start|>assistant\nYes<|im_end|>\n"
    tokens = parsed.tokens()
    assert list(range(len(parsed.text))) == [index for index, *_ in tokens]
    assert parsed.text == "".join(text.removeprefix("↵") for _, text, _, _ in tokens)
    (kind,) = (kind for _, text, _, kind in tokens if text == "Y")
    assert ("trained, weight 1", "rule", 0, "text", "content") == tuple(kind.values())[:5]
    assert parsed.facts["parts"]["text"].startswith("the message's content")
    assert ["train assistant", "my.policy:2"] == parsed.facts["rules"][0]


POLICY = """\
train assistant
mask assistant.reasoning
mask assistant where message.keep == false
mask /t.*e/ in assistant.text
scale assistant by message.w
"""
CHAT = [
    {"role": "user", "content": "</script> there"},
    {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHi there 👩‍👩‍👧.", "w": 2},
    {"role": "assistant", "content": "世界\u202e\x1b", "keep": False},
]


def test_the_page_says_of_each_token_what_the_text_form_says() -> None:
    row = Masker(policy_from_text(POLICY, name="</script>.policy"), "builtin")(CHAT)
    parsed = Page(html_page([shown(row)], row.program.policy, title="t"))
    assert parsed.open == []
    why, seen = parsed.facts["why"], []
    for index, text, ids, kind in parsed.tokens():
        said = [(depth, line) for number in kind["why"] for depth, line in why[number]]
        lead = next((at for at in range(index, index + len(ids)) if row.mask.weights_T[at]), index)
        explained = row.explain(token=lead)
        decision = f"trained, weight {explained.weight:g}" if explained.weight else "masked"
        assert decision == kind["decision"]
        assert explained.reason == kind["reason"]
        assert visible(explained.text)[:1] == text[:1]
        for at in range(index, index + len(ids)):
            for piece in row.explain(token=at).pieces:
                assert set(rule_lines(piece)) <= set(said)
        seen += ids
    assert row.input_ids == seen
    lines = {line for lines in why for _, line in lines}
    assert any(line.startswith("scaled by: ") for line in lines)
    assert any("later rule decided: </script>.policy:1:1" in line for line in lines)
    assert "`message.keep == false` is true: `message.keep` is False" in lines


def test_long_masked_runs_are_folded_and_whole() -> None:
    words = " ".join(f"word{n}" for n in range(400))
    row = Masker(policy_from_text("train assistant; train eos of assistant"), "builtin")(
        [{"role": "user", "content": words}, {"role": "assistant", "content": words}]
    )
    text = html_page([shown(row)], row.program.policy, title="t")
    parsed = Page(text)
    assert row.chat.text == parsed.text
    assert 1 == text.count("<button type='button' class='more'>…")
    assert ["masked"] == [run["class"].split()[1] for run in parsed.runs if "middle" in run["class"]]
    assert row.input_ids == [i for _, _, ids, _ in parsed.tokens() for i in ids]


def test_a_token_costs_few_bytes() -> None:
    """One element a token took 220 to 350 bytes."""
    words = " ".join(f"word{n}" for n in range(500))
    row = Masker(policy_from_text("train assistant; train eos of assistant"), "builtin")(
        [{"role": "user", "content": words}, {"role": "assistant", "content": words}]
    )
    one, two = (len(html_page([shown(row)] * n, row.program.policy, title="t").encode()) for n in (2, 3))
    assert (two - one) / len(row.input_ids) < 20


def test_page_is_self_contained() -> None:
    parsed, text = page({"role": "user", "content": "Hi"})
    assert {"#row3"} == {*parsed.links}
    assert not re.search(r"url\(|@import|https?:", text)


def test_data_and_policy_are_escaped() -> None:
    evil = "</pre></script><script>alert(1)</script><img src=x onerror='1'>\"&amp;"
    parsed, text = page({"role": "x' onclick='y", "content": evil})
    assert evil in parsed.text
    assert parsed.open == []
    assert text.count("<script>") == 1
    assert "<img" not in text
    assert "# &lt;b&gt;why&lt;/b&gt;" in text


def test_rule_over_two_lines_is_marked_on_both() -> None:
    _, text = page({"role": "user", "content": "Hi"})
    items = re.findall(r"<li>(.*?)</li>", text[: text.index("class='legend'")])
    assert 3 == len(items)
    assert ["0", "1"] == re.findall(r"data-rules='(\d)'", items[1])
    assert ["1"] == re.findall(r"data-rules='(\d)'", items[2])


def test_failed_rows_are_listed_and_linked() -> None:
    tokenized, mask = masked([{"role": "user", "content": "Hi"}])
    failed = FailedRow(number=7, code="PE501", message="no `<role>`", help="add it", place="a<b>.jsonl:7")
    text = html_page([ShownRow(number=6, tokenized=tokenized, mask=mask), failed], policy(), title="t")
    assert "1 row failed" in text
    assert "<li><a href='#row7'>row 7</a> PE501: no `&lt;role&gt;`</li>" in text
    assert "id='row7' data-row='7' data-tokens='0' data-share='0.0000' data-flags='failed'" in text
    assert "a&lt;b&gt;.jsonl:7: error[PE501]: no `&lt;role&gt;`" in text
    assert "data-flags='empty'" in text
    assert "Rows by trained share, in % · 2 rows, 1 failed" in text


@pytest.mark.parametrize(("trained", "at"), [(0, 0), (1, 1), (10, 1), (11, 2), (99, 10), (100, 10)])
def test_bins_of_trained_share(trained: int, at: int) -> None:
    tokenized, mask = masked([{"role": "user", "content": "a" * 200}])
    mask.weights_T[:] = 0
    mask.weights_T[:trained] = 1
    cut = [getattr(mask, name)[:100] for name in ("weights_T", "rules_T", "reasons_T", "segments_T")]
    weights, rules, reasons, segments = cut
    facts = row_facts(
        ShownRow(
            number=1,
            tokenized=tokenized,
            mask=type(mask)(weights_T=weights, rules_T=rules, reasons_T=reasons, segments_T=segments),
        )
    )
    assert [1 if n == at else 0 for n in range(11)] == share_bins([facts])


def test_facts_of_a_row_add_up() -> None:
    row = Masker(policy_from_text(POLICY), "builtin")(CHAT)
    changed = np.ones(len(row.input_ids), bool)
    facts = row_facts(ShownRow(number=1, tokenized=row.tokenized, mask=row.mask, changed_T=changed))
    assert (len(row.input_ids), int((row.mask.weights_T != 0).sum())) == (facts.tokens, facts.trained)
    assert facts.tokens == facts.rules.total() == facts.reasons.total() == sum(n for _, n in facts.places.values())
    assert facts.trained == sum(n for n, _ in facts.places.values())
    assert "changed" in facts.flags


def test_lengths_are_those_of_the_browser() -> None:
    assert [2, 2, 1, 8, 3] == shown_lengths(["\n", "👩", "\x1b", "\u202e", "abc"])
    assert [1, 4, 0] == shown_lengths(["a", "b\nc", ""])
