"""The live page without a browser: from policy text to findings, colours and counts."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from policy_engine import Masker, policy_from_text
from policy_engine.core.errors import PolicyCheckError
from policy_engine.mask.row import MaskedRow
from policy_engine.play.choice import Choice, chosen, listing, to_show
from policy_engine.play.editions import MOST_TEXT, Edition, Editions
from policy_engine.play.loaded_rows import Board
from policy_engine.play.opening import opening, query_of
from policy_engine.play.panes import findings_pane, guards_pane, overview_pane, page_of, rows_pane, rules_pane, status
from policy_engine.play.side_by_side import changes_pane, count_changes, proof_pane
from tests.play.boards import CHATS, POLICY, board

EVIL = "</pre></script><script>alert(1)</script><img src=x onerror='alert(2)'>\"${alert(3)}{{value}}"


TAGS = frozenset(
    {"a", "article", "b", "button", "caption", "code", "details", "div", "figcaption", "figure", "h2", "h3", "i", "li"}
    | {"mark", "ol", "p", "pre", "section", "small", "span", "style", "summary", "table", "tbody", "td", "th", "thead"}
    | {"tr", "u", "ul"}
)


class Tags(HTMLParser):
    """The elements and attributes of markup, and elements that are not closed."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.open: list[str] = []
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def loaded(tmp_path: Path) -> Board:
    return board(tmp_path)


@pytest.fixture
def edition(loaded: Board) -> Edition:
    return Editions(loaded).of(POLICY)


def text_of(markup: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", re.sub(r"<(style|div class='facts')[^>]*>.*?</", "", markup)))


def trained(markup: str) -> str:
    return unescape(re.sub(r"<u>↵</u>", "", "".join(re.findall(r"<span class='t trained[^>]*>(.*?)</span>", markup))))


@pytest.mark.filterwarnings("ignore::policy_engine.mask.masker.LostFieldWarning")
def test_rows_are_decided_as_a_masker_decides_them(loaded: Board) -> None:
    for text in (POLICY, "train user where message.content matches /zebra/", "on empty error; train assistant.text"):
        edition = Editions(loaded).of(text)
        masker = Masker(policy_from_text(text, prove=False), "builtin")
        for row, result in zip(loaded.rows, edition.results):
            if row.conversation is None or not isinstance(result, MaskedRow):
                continue
            alone = masker.mask(row.conversation)
            assert (alone.labels, alone.mask.reasons_T.tolist()) == (result.labels, result.mask.reasons_T.tolist())
    codes = [getattr(result, "code", None) for result in Editions(loaded).of("on empty error; train assistant").results]
    assert [None, None, "PE516", "PE501", None] == codes
    assert "PE403" in [
        getattr(r, "code", "") for r in Editions(loaded).of("on unrendered error; train assistant").results
    ]


def test_colours_follow_the_text(loaded: Board) -> None:
    editions = Editions(loaded)
    first, second = (
        rows_pane(editions.draft(text, None).edition, Choice(row=1)) for text in (POLICY, "train user.text")
    )
    assert "Hello, friend.<|im_end|>" == trained(first)
    assert "Hi there" == trained(second)
    assert "data-row='1'" in first
    assert "data-row='2'" not in first


def test_a_broken_text_keeps_the_last_colours(loaded: Board) -> None:
    editions = Editions(loaded)
    draft = editions.draft("train asistant wher", POLICY)
    assert draft.is_kept
    assert draft.edition is editions.of(POLICY)
    pane = findings_pane(draft, proven=True)
    assert "keep the colours" in pane
    assert "&lt;play&gt;:1:16: error[PE101]" in pane
    assert "                ^^^^" in unescape(pane)
    for last in (None, "also ("):
        first = editions.draft("train (", last)
        assert "have no colours until it is one" in findings_pane(first)
        assert "" == trained(rows_pane(first.edition, Choice()))
        assert 5 == len(first.edition.results)


def test_quoted_lines_of_a_finding_are_apart_from_its_sentences(loaded: Board) -> None:
    pane = findings_pane(Editions(loaded).draft("train last assistant", None))
    assert "<p>&lt;play&gt;:1:1: info[PE604]: the text of" in pane
    assert "<pre>     1 | train last assistant\n       | ^^^^^^^^^^^^^^^^^^^^</pre>" in pane
    assert "<p>  help: add `train eos of trained assistant`" in pane


def test_warnings_and_proofs_are_findings(loaded: Board) -> None:
    editions = Editions(loaded)
    assert "PE604" in findings_pane(editions.draft("train assistant", None))
    dead = editions.draft(f"{POLICY}; mask user", None)
    assert "PE311" not in findings_pane(dead)
    shadowed = editions.draft(f"train user; mask user; {POLICY}", None)
    assert "PE311" in findings_pane(shadowed, proven=True)
    missing = editions.draft(f"{POLICY}; mask assistant where message.traning == 0", None)
    assert "has `traning`, which the policy asks for" in findings_pane(missing, proven=True)
    assert "what it selects does not occur" in rules_pane(editions.of(f"{POLICY}; mask critic"), proven=True)


def test_the_legend_names_weights_that_occur(loaded: Board) -> None:
    editions = Editions(loaded)
    weighed = rules_pane(editions.of("train assistant weight 0.5; train eos of assistant"))
    assert "<b class='t trained less'>weight below 1</b> · " in weighed
    assert "weight above 1" not in weighed
    assert "weight below 1" not in rules_pane(editions.of(POLICY))


def test_guards_show_a_witness(loaded: Board) -> None:
    editions = Editions(loaded)
    held = guards_pane(editions.of(f"{POLICY}; never train user").proof)
    assert "guard holds" in held
    assert "witness" not in held
    broken = guards_pane(editions.of("train everything; never train user").proof)
    assert "<section class='guard fails'><p><b>fails</b> <code>never train user</code>" in broken
    assert re.search(r"<mark>.+</mark>", broken)
    assert "&quot;role&quot;: &quot;user&quot;" in broken
    assert "No guards" in guards_pane(editions.of(POLICY).proof)
    told = "A guard does not hold"
    assert told in findings_pane(editions.draft("train everything; never train user", None), proven=True)
    assert told not in findings_pane(editions.draft(f"{POLICY}; never train user", None), proven=True)


def test_rows_that_break_a_guard_keep_their_colours(loaded: Board) -> None:
    broken = Editions(loaded).of("train everything; never train user")
    assert [None if isinstance(r, MaskedRow) else r.code for r in broken.results] == ["PE301"] * 3 + ["PE501", None]
    pane = rows_pane(broken, Choice(row=1))
    assert "c.jsonl:1: error[PE301]: guard" in unescape(pane)
    assert "Hi there" in trained(pane)
    assert [1, 2, 3, 4] == [line[0] for line in listing(broken, Choice(filter="failed"))]
    assert "4 failed" in status(broken)


def test_numbers_are_those_of_the_rows(edition: Edition) -> None:
    counts = sum(row.tokens for row in edition.facts)
    assert f"of {counts} tokens trained" in status(edition)
    assert "1 failed · 1 train nothing · 1 lost fields" in text_of(status(edition))
    rules = text_of(rules_pane(edition))
    decided = sum(int((r.mask.rules_T == 0).sum()) for r in edition.results if isinstance(r, MaskedRow))
    assert re.search(rf"text1{decided}train assistant", rules)
    assert "5 rows, 1 failed" in overview_pane(edition)


@pytest.mark.parametrize(
    ("choice", "rows"),
    [
        (Choice(), [1, 2, 3, 4, 5]),
        (Choice(filter="failed"), [4]),
        (Choice(filter="nothing trained"), [3]),
        (Choice(filter="lost fields"), [5]),
        (Choice(filter="straddling tokens"), []),
        (Choice(low=1), [1, 2, 5]),
        (Choice(high=0), [3]),
        (Choice(search="ZEBRA"), [2]),
        (Choice(search="no `role`"), [4]),
        (Choice(order="tokens"), [2, 1, 3, 5, 4]),
        (Choice(order="trained share"), [2, 5, 1, 3, 4]),
    ],
)
def test_rows_are_filtered_searched_and_sorted(edition: Edition, choice: Choice, rows: list[int]) -> None:
    assert rows == [edition.board.rows[index].number for index in chosen(edition, choice)]
    assert rows == [line[0] for line in listing(edition, choice)]
    assert rows == [int(number) for number in re.findall(r"data-row='(\d+)'", rows_pane(edition, choice))]


def test_a_picked_row_is_shown_whatever_the_filter(edition: Edition) -> None:
    assert [2] == to_show(edition, Choice(filter="failed", row=3))
    assert [3] == to_show(edition, Choice(filter="failed", row=99))


def test_the_table_says_how_rows_begin(edition: Edition) -> None:
    lines = listing(edition, Choice())
    assert [1, "Hi there"] == [lines[0][0], lines[0][-1]]
    assert ["failed", "messages[0] has no `role`; its keys are `content`"] == lines[3][-2:]


def test_rows_past_the_limit_are_said_to_be_there(tmp_path: Path) -> None:
    few = Editions(board(tmp_path, limit=2)).of(POLICY)
    assert "2 rows (the first)" in status(few)
    many = Editions(board(tmp_path, [CHATS[0]] * 60, limit=60)).of(POLICY)
    assert 50 == rows_pane(many, Choice()).count("<article")
    assert "and 10 more rows" in rows_pane(many, Choice())


def test_two_policies_side_by_side(loaded: Board) -> None:
    editions = Editions(loaded)
    old, new = editions.of("train assistant.text"), editions.of(POLICY)
    found = count_changes(old, new)
    assert (5, 3) == (found.rows, found.rows_changed)
    pane = changes_pane(old, new, Choice())
    assert f"3 of 5 rows change; {found.tokens_changed} of {found.tokens} tokens change" in pane
    assert "masked → trained" in pane
    assert 6 == pane.count("<article")
    marked = re.findall(r"<span class='t [^']*changed'[^>]*>(.*?)</span>", changes_pane(old, new, Choice(row=1)))
    assert ["&lt;|im_end|&gt;"] * 2 == marked
    assert "the policy trains more" in proof_pane(old, new)
    assert "the two train the same" in proof_pane(new, editions.of("train eos of assistant; train assistant"))
    assert "none of 4 rows changes" in changes_pane(new, new, Choice())
    fates = changes_pane(editions.of("train user"), new, Choice())
    assert "1 rows: written → dropped, nothing to train" in fates


def test_hostile_text_is_escaped_everywhere(tmp_path: Path) -> None:
    chats = [
        {
            "messages": [
                {"role": "user' onclick='x", "content": EVIL},
                {"role": "assistant", "content": EVIL, EVIL: EVIL},
            ]
        },
        {"messages": [{EVIL: 1}]},
    ]
    hostile = board(tmp_path, chats, file="a'<b>${x}.jsonl")
    editions = Editions(hostile)
    policy = f"# {EVIL}\ntrain everything; never train \"user' onclick='x\""
    edition, other = editions.of(policy), editions.of("train assistant  # <i>")
    broken = editions.draft(f"train <img src=x> {EVIL}", policy)
    made = {
        "rows": rows_pane(edition, Choice()),
        "row": rows_pane(other, Choice(row=1)),
        "findings": findings_pane(broken) + findings_pane(editions.draft(policy, None), proven=True),
        "guards": guards_pane(edition.proof),
        "rules": rules_pane(edition, proven=True),
        "status": status(edition),
        "overview": overview_pane(edition),
        "changes": changes_pane(edition, other, Choice()) + proof_pane(edition, other),
    }
    for name, markup in made.items():
        seen = Tags(markup)
        assert set() == seen.tags - TAGS, name
        assert set() == {attribute for attribute in seen.attributes if attribute.startswith("on")}, name
        assert [] == seen.open, name
    assert EVIL in text_of(made["row"]).replace("↵", "")
    page = page_of(edition, Choice())
    assert 1 == page.count("<script>")
    assert "<img" not in page


def test_use_stays_in_the_folder_of_the_policy(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "own.policy").write_text(POLICY)
    (folder / "beside.policy").write_text("train user")
    (tmp_path / "secret.policy").write_text("train tool")
    in_file = Editions(board(tmp_path, name=str(folder / "own.policy")))
    assert 1 == len(in_file.of('use "beside.policy"').program.policy.rules)
    for text in ('use "../secret.policy"', f'use "{tmp_path}/secret.policy"'):
        with pytest.raises(PolicyCheckError) as refused:
            in_file.of(text)
        assert ["PE233"] == [d.code for d in refused.value.diagnostics]
    with pytest.raises(PolicyCheckError) as nowhere:
        Editions(board(tmp_path)).of('use "beside.policy"')
    assert ["PE234"] == [d.code for d in nowhere.value.diagnostics]
    assert Editions(board(tmp_path)).of("use default").program.policy.rules


def test_a_text_past_the_limit_is_refused(loaded: Board) -> None:
    draft = Editions(loaded).draft("#" * (MOST_TEXT + 1), POLICY)
    assert draft.is_kept
    assert "this page takes 40,000" in findings_pane(draft)


def test_a_link_opens_with_its_policy_and_row(loaded: Board) -> None:
    from urllib.parse import parse_qsl

    text = f"{POLICY}  # 世界 & <b>"
    found = opening(loaded, dict(parse_qsl(query_of(policy=text, other="train everything", row=2))))
    assert (text, "train everything", 2, "") == (found.policy, found.other, found.row, found.note)
    plain = opening(loaded, {})
    assert (POLICY, "", None) == (plain.policy, plain.other, plain.row)
    assert "row '<b>'" in opening(loaded, {"row": "<b>"}).note
    assert (None, POLICY) == (opening(loaded, {"row": "77"}).row, opening(loaded, {"policy": "x" * 50_000}).policy)


def test_the_rules_of_the_data_reach_the_policy(tmp_path: Path) -> None:
    """`on media` is asked of rows with media though their tokens are made already."""
    chats = [{"messages": [{"role": "user", "content": [{"type": "image", "path": "a.png"}]}, CHATS[0]["messages"][1]]}]
    editions = Editions(board(tmp_path, chats))
    assert ["PE532"] == [getattr(result, "code", None) for result in editions.of(POLICY).results]
    assert [None] == [getattr(result, "code", None) for result in editions.of(f"on media ignore; {POLICY}").results]


def test_editions_are_kept(loaded: Board) -> None:
    editions = Editions(loaded)
    assert editions.of(POLICY) is editions.of(POLICY)
    assert editions.of(POLICY).board is loaded
    assert replace(loaded, opening="x") != loaded


def test_given_ids_are_placed_as_the_policy_says(tmp_path: Path) -> None:
    messages = CHATS[0]["messages"]
    ids = Masker(policy_from_text(POLICY), "builtin")(messages).input_ids
    rows = [{"messages": messages, "input_ids": given} for given in (ids, [*ids[:-3], ids[0], *ids[-2:]])]
    editions = Editions(board(tmp_path, rows))
    strict, lenient = editions.of(POLICY), editions.of(f"on drift mask; {POLICY}")
    assert [None, "PE541"] == [getattr(result, "code", None) for result in strict.results]
    first, second = lenient.results
    assert isinstance(first, MaskedRow)
    assert isinstance(second, MaskedRow)
    assert (ids, rows[1]["input_ids"]) == (first.input_ids, second.input_ids)
    assert [2] == [line[0] for line in listing(lenient, Choice(filter="ids that drift"))]


def test_both_answers_of_a_pair_are_shown(tmp_path: Path) -> None:
    answers = {name: [{"role": "assistant", "content": f"{name}!"}] for name in ("chosen", "rejected")}
    rows = [{"prompt": [{"role": "user", "content": "Hi"}], **answers}, {"prompt": "Hi", "chosen": "x", "rejected": 3}]
    editions = Editions(board(tmp_path, rows))
    edition = editions.of(POLICY)
    assert [(1, "chosen"), (1, "rejected"), (2, "")] == [(row.number, row.side) for row in edition.board.rows]
    pane = rows_pane(edition, Choice(row=1))
    assert "chosen!<|im_end|>rejected!<|im_end|>" == trained(pane)
    assert "row 1, rejected" in text_of(pane)
    assert ["chosen: Hi", "rejected: Hi"] == [line[-1] for line in listing(edition, Choice())][:2]
    assert "failed" in edition.facts[2].flags
    broken = editions.of("train everything; never train assistant")
    assert ["PE301", "PE301"] == [getattr(result, "code", None) for result in broken.results[:2]]
    assert "rejected!" in trained(rows_pane(broken, Choice(row=1)))
