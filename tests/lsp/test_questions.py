"""Questions of an editor, answered without a server: words at the cursor, names, nodes."""

from __future__ import annotations

import pytest

from policy_engine.lsp.completion import complete
from policy_engine.lsp.document import PolicyDocument, children
from policy_engine.lsp.names import name_of


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ('train "us', None),  # in a string that is still open
        ('train "user" ', "user"),
        ("train user  # tr", None),
        ("", "train"),
        ("on empty ", "drop"),
        ("train assistant where turn.", "index"),
        ("train assistant,\n  ", "user"),
        ("train assistant\n", "train"),
    ],
)
def test_words_at_the_end_of_a_text(text: str, first: str | None) -> None:
    words = [word.label for word in complete(PolicyDocument(text, None), len(text))]
    assert (words == []) if first is None else (first in words)


@pytest.mark.parametrize(
    ("text", "start"), [("let a = user", 4), ("let  lets = user", 5), ("let let = user", 4), ("let user1 = user", 4)]
)
def test_place_of_a_name(text: str, start: int) -> None:
    (statement,) = PolicyDocument(text, None).policy.statements
    assert (start, text.split()[1]) == (name_of(statement).start, name_of(statement).text)  # type: ignore[arg-type]


def test_spans_are_no_nodes_of_the_tree() -> None:
    (statement,) = PolicyDocument("train last assistant", None).policy.statements
    (target,) = children(statement)
    (selector,) = children(target)
    (which,) = children(selector)
    assert (["Target", "Selector", "Which"], []) == (
        [type(n).__name__ for n in (target, selector, which)],
        list(children(which)),
    )
    assert [] == list(PolicyDocument("train last assistant", None).around(400))
