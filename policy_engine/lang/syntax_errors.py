"""Diagnostics for a text that does not parse: Lark's error in the words of the language."""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import Any, Final, get_args

from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from policy_engine.core.diagnostics import Diagnostic, error_at
from policy_engine.core.source import Source, Span
from policy_engine.core.suggest import nearest
from policy_engine.core.vocabulary import (
    CONTINUATIONS,
    KEYWORDS,
    OTHER_FUNCTIONS,
    SCOPES,
    SETTINGS,
    STATEMENTS,
    RelationKind,
)
from policy_engine.lang.bad_characters import short, unexpected_character
from policy_engine.lang.split import words_before

_RELATIONS: Final = ("of", *get_args(RelationKind))
_SYMBOLS: Final = {
    "NAME": "a name", "STRING": "a string in quotes", "NUMBER": "a number", "REGEX": "a regex (`/…/`)",
    "COMPARISON": "a comparison (`==`, `!=`, `<`, `<=`, `>`, `>=`)", "EQUALS": "`=`", "COMMA": "`,`", "DOT": "`.`",
    "LPAR": "`(`", "RPAR": "`)`", "LSQB": "`[`", "RSQB": "`]`",
}  # fmt: skip
"""Names of terminals, in the order in which messages list them."""
_FIELD: Final = "a field such as `message.name`"
_FIELD_HELP: Final = f"write a scope and a name; scopes are {', '.join(f'`{s}`' for s in SCOPES)}"
_WITH_COMMAS: Final = "targets are listed with commas: `train assistant, user`; `and` and `or` are for conditions"
_BLOCK_COMMENT: Final = "write `#` at the start of each line of the comment"
# In order of the dict: the first terminal that is accepted decides. `EVERYTHING` can only start a target, and so
# on.
_MARKS: Final = {
    "EVERYTHING": "a role or a part (`assistant`, `eos`, …)",
    "NOT": 'a condition such as `message.name == "x"`',
    "NULL": "a value (a string in quotes, a number, `true`, `false`, `null`)",
    "COMPARISON": "a comparison, `in`, `contains` or `matches`",
    "BY": "`by` and a factor",
    "IN": "`in` and where to look",
}
"""Names of what is expected, by a terminal that only this can start with."""
_EXAMPLES: Final = {
    "EVERYTHING": "name what the rule is about, for example `assistant`, `assistant.reasoning`, `eos of assistant`",
    "NOT": "a condition is `FIELD OPERATOR VALUE`, `has FIELD`, or a field alone that has to be `true`",
    "COMPARISON": "a condition is `FIELD OPERATOR VALUE`, `has FIELD`, or a field alone that has to be `true`",
    "NULL": 'write a value such as `"x"`, `2` or `true`',
    "BY": "write `scale assistant by 2`, or name a field: `scale assistant by message.weight`",
    "IN": "write `/pattern/ in assistant.text`, `spans message.spans in assistant.text` or `sampled in assistant`",
    "LSQB": 'write `in ["a", "b"]` for one of several values, or `in "text"` for a part of a text',
    "REGEX": "write `matches /pattern/`",
    "EQUALS": "write `let NAME = TARGETS`",
    "TRAIN": "a guard is written `never train user` or `always train eos of assistant`",
}
_AFTER: Final = {
    "let": ("a name to define", "write `let NAME = TARGETS`"),
    "on": (f"a setting ({', '.join(f'`{s}`' for s in SETTINGS)})", "write `on straddle mask`"),
    "use": ("the name of a shipped policy, or a path in quotes", 'write `use default`, or `use "other.policy"`'),
    ".": ("a name", "write a part of a turn (`assistant.text`) or a key of the data (`message.name`)"),
    "has": (_FIELD, _FIELD_HELP),
    "spans": (_FIELD, _FIELD_HELP),
}
"""Words that a name follows: the name in words, and help to write it."""
_WORDS_OF_OTHERS: Final = {
    "all": "write `everything` for all text", "except": "write `unless` with a condition, or a later `mask` rule",
    "if": "write `where`", "when": "write `where`", "with": "write `where`, or `weight` with a number",
    "ignore": "write `mask`", "skip": "write `mask`", "drop": "write `mask`", "include": "write `use`, or `train`",
    "import": "write `use`", "set": "write `on` for a setting, `let` for a name", "define": "write `let`",
    "learn": "write `train`", "unmask": "write `train`", "is": "write `==`", "to": "write `by`", "from": "write `of`",
    "multiply": "write `scale … by`", "require": "write `always train`", "forbid": "write `never train`",
    "only": "remove it: a rule is about what it names, and nothing else",
}  # fmt: skip
"""Words of other languages, and the words to write here."""

_ALONE: Final = "{does} nothing else"
_ALL: Final = "{does} all of them"
_FILLERS: Final = {
    "only": _ALONE, "just": _ALONE, "the": "{does} the same", "all": _ALL, "every": _ALL, "each": _ALL,
}  # fmt: skip
"""Words of English before a target, and what a statement says without them."""
_STARTS_A_TARGET: Final = (
    "NAME", "STRING", "FIRST", "LAST", "TRAINED", "EVERYTHING", "LPAR", "REGEX", "SPANS", "SAMPLED",
)  # fmt: skip


def syntax_error(error: UnexpectedInput, source: Source, start: int, end: int) -> Diagnostic:
    """The diagnostic for a statement at `[start, end)`, whose text gave `error` by itself.

    >>> from policy_engine.lang.parse import parse_lenient
    >>> error = parse_lenient("train assistant exept user")[1][0]
    >>> error.code, error.message
    ('PE101', 'expected the end of the statement, but found `exept`')
    """
    if isinstance(error, UnexpectedToken):
        return _unexpected_token(error, source, start, end)
    if isinstance(error, UnexpectedCharacters):
        position: Any = error.pos_in_stream  # an int, which Lark's annotations do not say
        return unexpected_character(source, start + position, end)
    span = Span(source=source, start=end, end=end)  # Lark has no other error for this kind of parser
    return error_at("PE102", "this statement is not complete", span, "finish it, or remove it")


def keyword_as_name(word: str, span: Span) -> Diagnostic:
    """The error for a keyword where a role, a part or a `let` name is expected.

    >>> source = Source(name="a.policy", text="train last")
    >>> keyword_as_name("last", Span(source=source, start=6, end=10)).code
    'PE201'
    """
    help = f'write a role or a part there, or `"{word}"` in quotes for a role of that name'
    if word in ("and", "or"):
        help = _WITH_COMMAS
    # A comma too many joins what follows to the list of targets.
    elif word in (*STATEMENTS, "where", "unless", "weight") and span.source.text[: span.start].rstrip().endswith(","):
        help = f"remove the comma before `{word}`; a line goes on after a comma"
    return error_at(
        "PE201",
        f"`{word}` is a keyword, so it cannot name a role, a part or a set of targets",
        span,
        help,
    )


def _unexpected_token(error: UnexpectedToken, source: Source, start: int, end: int) -> Diagnostic:
    # `accepts` is what the parser takes here; `expected` is what the lexer looked for, a superset.
    accepted: Collection[str] = error.accepts or error.expected
    found = str(error.token)
    at_end = error.token.type == "$END"
    offset = end if at_end else start + (error.token.start_pos or 0)
    before, last, last_start = words_before(source.text[start:offset], offset - start)
    at = Span(source=source, start=offset, end=offset if at_end else offset + len(found))
    # Where only a name is allowed, a keyword lexes as one: the word before this token is then the mistake.
    if last in KEYWORDS and "DOT" in accepted and before not in (".", "let", "on"):
        span = Span(source=source, start=start + last_start, end=start + last_start + len(last))
        if before in ("spans", "has"):
            return error_at("PE101", f"expected {_FIELD}, but found `{last}`", span, _FIELD_HELP)
        return keyword_as_name(last, span)
    if at_end:
        # Lark points at the last token; what is missing is missing after it.
        where = "the file ends" if not source.text[end:].strip(" \t\r\n;") else "the statement ends"
        return error_at("PE102", f"expected {_expected(accepted, last)}, but {where}", at, _missing(accepted, last))
    if not last:
        return _unknown_statement(found, at)
    if found.startswith("/*"):
        return error_at("PE103", "a comment starts with `#`", at, _BLOCK_COMMENT)
    # `train only assistant`: `only` was read as a role, and is what should not be there.
    if last in _FILLERS and before in ("train", "mask", "scale") and error.token.type in _STARTS_A_TARGET:
        span = Span(source=source, start=start + last_start, end=start + last_start + len(last))
        without = short(source.text[start : span.start] + source.text[offset:end])
        # By the first word: `never train` is a guard, which trains nothing.
        does = {"train": "trains", "mask": "masks"}.get(without.split()[0], "is about")
        help = f"`{without}` {_FILLERS[last].format(does=does)}"
        return error_at("PE101", f"there is no `{last}`", span, help)
    # Most often the `;` is forgotten on one line; a listing of what may follow would hide that.
    if "$END" in accepted and found in STATEMENTS:
        help = f"write `;` or a new line before `{found}`"
        return error_at("PE110", f"a statement starts at `{found}`, but the one before it has not ended", at, help)
    help = _instead(found, error.token.type, accepted, last)
    return error_at("PE101", f"expected {_expected(accepted, last)}, but found `{short(found)}`", at, help)


def _expected(accepted: Collection[str], last: str) -> str:
    """The text that is most likely missing here, in a reader's words.

    >>> _expected({"COMPARISON", "IN"}, "message")
    'a comparison, `in`, `contains` or `matches`'
    >>> _expected({"NAME", "STRING"}, "use")
    'the name of a shipped policy, or a path in quotes'
    """
    if "$END" in accepted:
        return "the end of the statement"
    for terminal, name in _MARKS.items():
        if terminal in accepted:
            return name
    # Only an amount (`weight`, `by`) takes a number or a name, and no string.
    if "NAME" in accepted and "NUMBER" in accepted and "STRING" not in accepted:
        return "a number, or a field such as `message.weight`"
    if "NAME" in accepted and last in _AFTER:
        return _AFTER[last][0]
    # Only `on SETTING` leaves nothing but a name open.
    if accepted == {"NAME"}:
        return "the value of the setting"
    if "NAME" in accepted:
        return "a role"
    names = [name for terminal, name in _SYMBOLS.items() if terminal in accepted]
    names += sorted(f"`{t.lower()}`" for t in accepted if t.lower() in KEYWORDS)
    return _listed(names or ["something else"])


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def _missing(accepted: Collection[str], last: str) -> str:
    """Help for the end of a statement that is not complete.

    >>> _missing({"EVERYTHING"}, ",")
    'remove the comma, or go on after it'
    """
    if last == ",":
        return "remove the comma, or go on after it"
    if last in ("and", "or"):
        return f"go on after `{last}`; to break the line, put `{last}` at the start of the next one"
    if "RPAR" in accepted or "RSQB" in accepted:
        return "close the bracket; a line goes on after an open bracket or a comma, and before a closing bracket"
    return _write(accepted, last)


def _instead(found: str, kind: str, accepted: Collection[str], last: str) -> str:
    """Help for a token that is not allowed here.

    >>> _instead("execpt", "NAME", {"WHERE", "UNLESS", "$END"}, "assistant")
    'go on with `where` or `unless`; or end the statement with `;` or a new line'
    >>> _instead("except", "NAME", {"UNLESS", "$END"}, "assistant")
    'write `unless` with a condition, or a later `mask` rule'
    """
    keywords = [t.lower() for t in accepted if t.lower() in KEYWORDS]
    # Two words without a blank come first: `unlessmessage` is near to no single keyword.
    if kind == "NAME" and (touching := _taken_apart(found, keywords)):
        return f"did you mean `{touching}`?"
    if found in ("and", "or") and "COMMA" in accepted and found not in keywords:
        return _WITH_COMMAS
    if kind == "NAME" and found.lower() in _WORDS_OF_OTHERS:
        return _WORDS_OF_OTHERS[found.lower()]
    if kind == "NAME" and (near := nearest(found, keywords)):
        return f"did you mean `{near}`?"
    if found == "=" and "COMPARISON" in accepted:
        return "a comparison is written `==`"
    if found == "(" and last in {relation.split()[-1] for relation in _RELATIONS}:
        part = "eos" if last == "of" else "text"
        return f"a relation has one role; repeat it for each: `{part} {last} assistant, {part} {last} tool`"
    if found == "(" and last in OTHER_FUNCTIONS:
        return f"there are no functions; {OTHER_FUNCTIONS[last]}"
    if kind == "STRING" and "NUMBER" in accepted:
        return "write the number without quotes"
    if kind == "STRING" and accepted == {"NAME"}:
        return "write the name without quotes"
    if found == "]" and last == ",":
        return "remove the comma before it"
    if found == "[" and "NULL" in accepted:
        return "a list goes with `in`: `FIELD in [1, 2]`"
    if kind == "NAME" and "NULL" in accepted:
        return f'write a string in quotes: `"{short(found)}"`; a field is on the left only'
    if "$END" in accepted:
        ways = [w for t, w in (("COMMA", "`,` and a further target"), ("DOT", "`.` and a part")) if t in accepted]
        ways += [f"`{w}`" for w in (*_continuations(), "and", "or") if w.split()[0] in keywords]
        ending = "end the statement with `;` or a new line"
        return f"go on with {_listed(ways)}; or {ending}" if ways else ending
    return _write(accepted, last)


def _write(accepted: Collection[str], last: str) -> str:
    """An example of text that is allowed here.

    >>> _write({"AFTER"}, "right")
    'write `right after ROLE`'
    """
    # Where a role may follow too, the relation is complete already.
    if "NAME" not in accepted and (begun := [f"`{r} ROLE`" for r in _RELATIONS if _goes_on(r, last, accepted)]):
        return f"write {_listed(begun)}"
    for terminal, help in _EXAMPLES.items():
        if terminal in accepted:
            return help
    if "NAME" in accepted and "NUMBER" in accepted and "STRING" not in accepted:
        return "write `2`, `0.5` or `message.weight`"
    if "NAME" in accepted:
        # Only `on SETTING` leaves nothing but a name open.
        other = _AFTER["on"][1] if accepted == {"NAME"} else "write a role: `assistant`"
        return _AFTER[last][1] if last in _AFTER else other
    if "RPAR" in accepted or "RSQB" in accepted:
        return "close the bracket, or separate the items with `,`"
    return "write `language 1`" if last == "language" else f"write {_expected(accepted, last)}"


def _goes_on(relation: str, last: str, accepted: Collection[str]) -> bool:
    """True if a relation has `last` before one of the accepted words."""
    return any(word == last and after.upper() in accepted for word, after in pairwise(relation.split()))


def _continuations() -> list[str]:
    """The words that go on with a statement, relations in full.

    >>> _continuations()
    ['of', 'after', 'right after', 'before', 'where', 'unless', 'weight', 'by']
    """
    starts = {relation.split()[0] for relation in _RELATIONS}
    return [*_RELATIONS, *(word for word in CONTINUATIONS if word not in starts)]


def _taken_apart(word: str, keywords: list[str]) -> str | None:
    # Longest first: `trainedassistant` is `trained assistant`, not `train edassistant`.
    for keyword in sorted(keywords, key=len, reverse=True):
        if word.startswith(keyword) and len(word) > len(keyword):
            return f"{keyword} {word[len(keyword) :]}"
    return None


def _unknown_statement(found: str, at: Span) -> Diagnostic:
    if found.startswith("/*"):
        return error_at("PE103", "a comment starts with `#`", at, _BLOCK_COMMENT)
    words = list(STATEMENTS)
    listed = ", ".join(f"`{w}`" for w in words)
    near = _taken_apart(found, words) or nearest(found, words)
    help = f"did you mean `{near}`?" if near else f"a statement starts with {listed}"
    # A known word of another language wins over a near one: `set` is not meant as `let`.
    help = _WORDS_OF_OTHERS.get(found.lower(), help)
    return error_at("PE111", f"no statement starts with `{short(found)}`", at, help)
