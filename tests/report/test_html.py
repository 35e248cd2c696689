from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser

from policy_engine import Masker, policy_from_text
from policy_engine.mask.explain import explain_pieces, rule_lines
from policy_engine.report.html import html_page
from policy_engine.report.view import row_view
from tests.report.samples import masked, policy

VOID = {"meta", "input", "br", "option", "th"}


class Page(HTMLParser):
    """Collects tips, text of tokens and unbalanced tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tips: list[str] = []
        self.text = ""
        self.in_pre = self.in_mark = False
        self.links: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.in_pre |= tag == "pre"
        self.in_mark = tag == "u"
        if "data-tip" in found:
            self.tips.append(found["data-tip"] or "")
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.in_pre &= tag != "pre"
        self.in_mark = False

    def handle_data(self, data: str) -> None:
        if self.in_pre and not self.in_mark:
            self.text += data


def page(*messages: dict[str, object]) -> tuple[Page, str]:
    row = row_view(*masked(list(messages)), name="row 3")
    text = html_page([row], policy(), title="t <x>", facts={"tokenizer": "a&b"})
    return Page(text), text


def test_every_token_says_what_decided_it() -> None:
    parsed, _ = page({"role": "user", "content": "Hi 世界\n"}, {"role": "assistant", "content": "Yes"})
    assert parsed.open == []
    assert parsed.text == "<|im_start|>user\nHi 世界\n<|im_end|>\n<|im_start|>assistant\nYes<|im_end|>\n"
    assert len(parsed.text) == len(parsed.tips)
    tip = next(tip for tip in parsed.tips if "“Y”" in tip)
    for line in ("decision: trained, weight 1", "reason: rule", "rule: 0", "turn: 1 (assistant)", "source: content"):
        assert line in tip.splitlines()
    assert "part: text – the message's content" in tip


POLICY = """\
train assistant
mask assistant.reasoning
mask assistant where message.keep == false
mask /t.*e/ in assistant.text
scale assistant by message.w
"""


def test_the_page_says_of_each_token_what_the_text_form_says() -> None:
    masker = Masker(policy_from_text(POLICY, name="</script>.policy"), "builtin")
    row = masker(
        [
            {"role": "user", "content": "</script> there"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHi there.", "w": 2},
            {"role": "assistant", "content": "世界", "keep": False},
        ]
    )
    view = row_view(row.tokenized, row.mask, name="row 1", pieces=explain_pieces(row.program, row.chat))
    text = html_page([view], row.program.policy, title="t")
    assert Page(text).open == []
    (block,) = re.findall(r"<script type='application/json' id='why'>(.*?)</script>", text)
    why = json.loads(block)
    seen = set()
    for tip, numbers in re.findall(r"data-tip='([^']*)'(?: data-why='([^']*)')?>", text):
        for token in map(int, re.findall(r"(?:^|\n)token: (\d+) ", unescape(tip))):
            said = [(depth, line) for number in numbers.split() for depth, line in why[int(number)]]
            for piece in row.explain(token=token).pieces:
                assert set(rule_lines(piece)) <= set(said)
            seen.add(token)
    assert seen == set(range(len(row.input_ids)))
    lines = {line for lines in why for _, line in lines}
    assert any(line.startswith("scaled by: ") for line in lines)
    assert any("later rule decided: </script>.policy:1:1" in line for line in lines)
    assert "`message.keep == false` is true: `message.keep` is False" in lines


def test_page_is_self_contained() -> None:
    parsed, text = page({"role": "user", "content": "Hi"})
    assert parsed.links == []
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
