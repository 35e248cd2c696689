"""Pygments lexer of policies: colours for docs sites, notebooks and terminals.

The words and marks are read from the grammar, so a new keyword is coloured without a change here. Roles, parts and
fields are told apart by the vocabulary and by their neighbours:

    train last assistant.eot where message.score >= 2  # good ones
    Keyword    Name.Class    Name.Variable
          Keyword.Reserved Name.Builtin            Number
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import ClassVar, Final

from pygments.lexer import Lexer
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Text, Whitespace, _TokenType

from policy_engine.core.vocabulary import GROUPS, PART_NAMES, SCOPES
from policy_engine.lang.library import grammar_text

_TERMINAL = re.compile(r'^(_?[A-Z]+)(?:\.(\d+))?: (?:/(.*)/|"(.+)")$', re.MULTILINE)
_LINE_JOINING = ("_OPEN", "_MORE")
"""Terminals that are blanks, newlines and comments in one, which get their colours one by one."""
_TYPES: Final = {
    "TRAIN": Keyword, "MASK": Keyword, "SCALE": Keyword, "NEVER": Keyword, "ALWAYS": Keyword,
    "AND": Operator.Word, "OR": Operator.Word, "NOT": Operator.Word, "HAS": Operator.Word, "IN": Operator.Word,
    "CONTAINS": Operator.Word, "MATCHES": Operator.Word,
    "TRUE": Keyword.Constant, "FALSE": Keyword.Constant, "NULL": Keyword.Constant,
    "STRING": String.Double, "NUMBER": Number, "REGEX": String.Regex, "COMPARISON": Operator, "EQUALS": Operator,
    "_BLANK": Whitespace, "_COMMENT": Comment.Single,
}  # fmt: skip
"""By terminal of the grammar. Any other keyword is reserved, any other mark is punctuation."""


class PolicyLexer(Lexer):  # type: ignore[misc]  # Pygments ships no types
    """Lexer of the policy language. Other text gets no colour, and is not an error."""

    name = "Policy"
    aliases: ClassVar = ["policy"]
    filenames: ClassVar = ["*.policy"]
    mimetypes: ClassVar = ["text/x-policy"]

    def get_tokens_unprocessed(self, text: str) -> Iterator[tuple[int, _TokenType, str]]:
        """Offset, type and text of each token; together they are the whole text.

        >>> [(word, str(kind)) for _, kind, word in PolicyLexer().get_tokens_unprocessed("mask user")]
        [('mask', 'Token.Keyword'), (' ', 'Token.Text.Whitespace'), ('user', 'Token.Name.Class')]
        """
        terminals = _terminals()
        at, settings, dot, field = 0, 0, False, False
        while at < len(text):
            match = terminals.match(text, at)
            # Text that is no policy: one character without colour, and on. A lexer must never stop.
            if match is None or match.end() == at:
                yield at, Text, text[at]
                at += 1
                continue
            kind, word = str(match.lastgroup), match[0]
            # After a dot and after `on` every word is a name: `message.train`, `on straddle mask`.
            if word.isidentifier() and (dot or settings):
                kind = "NAME"
            if kind == "NAME":
                field = field if dot else word in SCOPES and text.startswith(".", match.end())
                yield at, _name(word, dot=dot, field=field, setting=settings), word
            elif word.isspace():
                yield at, Whitespace, word
            else:
                yield at, _TYPES.get(kind, Keyword.Reserved if word.isidentifier() else Punctuation), word
            # A semicolon or line break ends `on …`, so that the next word is a keyword again.
            if kind == "_END":
                settings, dot = 0, False
            elif not kind.startswith("_"):
                # `on straddle mask`: two words after `on`, the setting and its value.
                settings = 2 if kind == "ON" else max(settings - 1, 0)
                dot = kind == "DOT"
            at = match.end()


def _name(word: str, *, dot: bool, field: bool, setting: int) -> _TokenType:
    if setting:
        return Name.Attribute if setting == 2 else Keyword.Constant
    if field:
        return Name.Variable
    return Name.Builtin if dot or word in PART_NAMES or word in GROUPS else Name.Class


@functools.cache
def _terminals() -> re.Pattern[str]:
    """One regex for all terminals of the grammar, those of high priority first."""
    found = []
    # Lark's priorities decide between a keyword and a name, so they decide here.
    for name, priority, regex, mark in _TERMINAL.findall(grammar_text()):
        if name not in _LINE_JOINING:
            found.append((-int(priority or 0), name, regex or re.escape(mark)))
    return re.compile("|".join(f"(?P<{name}>{regex})" for _, name, regex in sorted(found)))
