r"""A statement that selects a part, rewritten to select the same by what its text looks like.

train last assistant.reasoning after user weight 0.2
train /<think>.*?<\/think>\s*/s in last assistant.text after user weight 0.2
"""

from __future__ import annotations

import re
from typing import Final

from policy_engine.core.source import Source
from policy_engine.lang.checked import Atom, CheckedStatement
from policy_engine.lang.split import split

_SPECIAL: Final = frozenset("\\.+*?()[{}^$|/")
"""Characters that a regex of a policy has a backslash before."""
_NAME: Final = re.compile(r"\b(?:reasoning|empty_reasoning|tool_call)(?:\s*\.\s*\w+)?\s*\Z")


def in_regex(text: str) -> str:
    r"""A text as a regex of a policy matches it.

    >>> print(in_regex("[TOOL_CALLS]"), in_regex("</tool_call>"))
    \[TOOL_CALLS] <\/tool_call>
    """
    return "".join(f"\\{char}" if char in _SPECIAL else char for char in text)


def between(statement: CheckedStatement | None, opening: str, closing: str) -> str:
    r"""The regex from an opening to its closing; with no closing, to the end of the text.

    An answer that was cut has no closing: a statement that keeps text from training reaches to the end then.

    >>> from policy_engine.lang.check import check_text
    >>> policy = check_text("train assistant.tool_call; mask assistant.tool_call")
    >>> [between(rule, "<call>", "</call>") for rule in policy.rules]
    ['<call>.*?<\\/call>', '<call>.*?(<\\/call>|\\z)']
    """
    if not closing:
        return f"{in_regex(opening)}.*"
    keeps_out = getattr(statement, "effect", None) == "mask" or getattr(statement, "kind", None) == "never"
    end = f"({in_regex(closing)}|\\z)" if keeps_out else in_regex(closing)
    return f"{in_regex(opening)}.*?{end}"


def by_text(statement: CheckedStatement, parts: frozenset[str], regex: str) -> str:
    """The statement with a regex in place of each selector of `parts` alone.

    All else stays as it is written, without comments and on one line: verb, turns, relations, conditions and weight.
    Where a `let` names the parts, the answer is a selector for the `let`.

    >>> from policy_engine.lang.check import check_text
    >>> rule = check_text("train assistant.text, assistant.tool_call before tool weight 2").rules[0]
    >>> by_text(rule, frozenset({"tool_call", "tool_call.name", "tool_call.text", "tool_call.arguments"}), "/<call>/")
    'train assistant.text, /<call>/ in assistant.text before tool weight 2'
    """
    whole = statement.span
    selected = (t for t in statement.targets if isinstance(t, Atom) and t.parts <= parts)
    # The span of an atom that a `let` selects is the name of the `let`.
    written = {atom.span.start: atom for atom in selected if _NAME.search(atom.span.text)}
    if not written:
        return f"{regex} in assistant.text"
    pieces, at = [], whole.start
    for start, atom in sorted(written.items()):
        # A part alone is of anyone's turns, and others may quote the markup.
        turns = "assistant.text" if atom.turns is None else _NAME.sub("text", atom.span.text)
        pieces += [whole.source.text[at:start], f"{regex} in {turns}"]
        at = atom.span.end
    text = _on_one_line("".join([*pieces, whole.source.text[at : whole.end]]))
    # `assistant.reasoning, assistant.empty_reasoning` are one text.
    once = f"{regex} in assistant.text"
    return text.replace(f"{once}, {once}", once)


def _on_one_line(text: str) -> str:
    r"""A statement without its comments, which would hide what comes behind them.

    >>> _on_one_line('train user, # why\n  tool where message.a == "x  y"')
    'train user, tool where message.a == "x  y"'
    """
    for comment in reversed(split(Source(name="", text=text)).comments):
        text = text[: comment.span.start] + text[comment.span.end :]
    # Strings and regexes have no line breaks, and keep their blanks.
    return re.sub(r"\s*\n\s*", " ", text)
