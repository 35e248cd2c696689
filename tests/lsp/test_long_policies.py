"""Long policies in an editor: an edit costs what the edited statement costs, and checks do not pile up."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.source import Source
from policy_engine.lang import ast, parse
from policy_engine.lang.format import format_policy
from policy_engine.lang.split import split
from policy_engine.lsp.completion import complete
from policy_engine.lsp.document import PolicyDocument
from policy_engine.lsp.hover import hover
from policy_engine.lsp.latest import Latest
from policy_engine.testing import strategies
from tests.support.editing import edited

LINES = [
    (
        f'train assistant.text where message.score > {i} and message.tag == "t{i}"',
        f"mask user, name_{i - i % 5 + 2} where sample.source in [{i}]",
        f"let name_{i} = assistant, user",
        f"scale assistant by 0.5 where message.x_{i}",
        "# a comment",
    )[i % 5]
    for i in range(5_000)
]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that the parser was given, in order."""
    seen: list[str] = []
    real = parse.parser()

    class Counting:
        def parse(self, text: str, start: str) -> object:
            seen.append(text)
            return real.parse(text, start=start)

    monkeypatch.setattr(parse, "parser", Counting)
    parse._tree.cache_clear()
    return seen


def test_an_edit_of_a_long_policy_parses_the_edited_statement_and_no_other(parsed: list[str]) -> None:
    lines = list(LINES)
    PolicyDocument("\n".join(lines), None).file  # noqa: B018
    assert 1_000 == len(parsed)  # the names that it defines, and nothing else
    parsed.clear()
    for edit in range(20):
        at = 5 * edit * 7
        lines[at] = f"train user.text where message.n{edit} == {edit}"
        text = "\n".join(lines)
        offset = text.index("user.text", len("\n".join(lines[:at])))
        said = hover(PolicyDocument(text, None), offset)
        assert said is not None
        assert said.startswith("**user.text**: `text` of turns of the role `user`")
        # A statement that is being typed parses not, and costs one parse too.
        lines[at] += " and"
        broken = PolicyDocument("\n".join(lines), None)
        assert any("message" == word.label for word in complete(broken, offset + len(lines[at]) - 6))
        assert hover(broken, offset) is None
    assert len(parsed) <= 2 * 20
    assert all(text.startswith("train user.text") for text in parsed)


def test_names_of_a_long_policy_are_found_where_they_are_used(parsed: list[str]) -> None:
    text = "\n".join(LINES)
    said = hover(PolicyDocument(text, None), text.index("name_4002 ") + 1)
    assert said is not None
    assert "`let name_4002 = assistant, user`" in said
    assert 1_001 == len(parsed)


def test_statements_on_one_line_are_told_apart() -> None:
    text = "mask user;train assistant ; let a = user;  mask a"
    document = PolicyDocument(text, None)
    for word, said in (
        ("mask", "**mask**"),
        ("train", "**train**"),
        ("assistant", "**assistant**"),
        ("let", "**let**"),
    ):
        found = hover(document, text.index(word))
        assert found is not None
        assert found.startswith(said), word
    used = hover(document, text.rindex("a"))
    assert used is not None
    assert used.startswith("**a**: `let a = user`")
    assert () == document.around(len("mask user;train assistant ;"))


def test_a_text_that_is_too_long_for_a_policy_is_not_read(parsed: list[str]) -> None:
    document = PolicyDocument("train assistant\n" * 20_000, None)
    assert hover(document, 3) is None
    assert () == document.policy.statements
    assert [] == parsed


def test_checks_of_one_text_do_not_run_beside_each_other() -> None:
    ran: list[int] = []
    edits = 0
    at_once = most = 0

    async def work() -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        ran.append(edits)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        at_once -= 1

    async def main() -> None:
        nonlocal edits
        checks = Latest()
        tasks = []
        for _ in range(1_000):
            edits += 1
            tasks.append(asyncio.create_task(checks.run("a", work)))
            if edits == 500:
                await asyncio.sleep(0)  # the first check begins, and has not ended when the others come
        await asyncio.gather(*tasks)
        tasks = [checks.run(key, work) for key in ("a", "b")]
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert 2 == most  # of two texts, which do not wait for each other
    assert [500, 1_000, 1_000, 1_000] == ran


def test_a_check_that_raises_does_not_stop_the_next() -> None:
    async def fails() -> None:
        raise ValueError

    ran: list[bool] = []

    async def works() -> None:
        ran.append(True)

    async def main() -> None:
        checks = Latest()
        with pytest.raises(ValueError):
            await checks.run("a", fails)
        await checks.run("a", works)

    asyncio.run(main())
    assert [True] == ran


def _same(text: str) -> bool:
    source = Source(name="<string>", text=text)
    return parse.parse_lenient(text) == parse.parse_each(source, split(source))


@given(strategies.raw_policies(), st.randoms(use_true_random=False))
def test_statement_by_statement_a_text_reads_as_it_does_whole(policy: ast.Policy, chance: random.Random) -> None:
    text = format_policy(policy)
    assert _same(text)
    for _ in range(3):
        text = edited(text, chance)
        assert _same(text), text
