"""Writes `docs/reference/grammar.md`, plain EBNF: `python scripts/grammar_page.py`."""

from __future__ import annotations

import re
from pathlib import Path

from policy_engine.lang.library import grammar_text

PATH = Path(__file__).parents[1] / "docs" / "reference" / "grammar.md"
_HEAD = """# The grammar

Written from `grammars/policy.lark`, the reference, by `python scripts/grammar_page.py`. `?` is optional, `*` any
number of times, `+` one or more. Regexes are those of Python. What a policy means is in [the language](language.md).

```ebnf
"""
_TAIL = """```

A statement ends with `;` or a newline. A newline does not end it after a comma or an open bracket, nor before a closing
bracket or one of the words `where unless weight by of after before right and or`. Blanks and `#` comments are
allowed between words.
"""


def page() -> str:
    """The page's text."""
    text = re.sub(r"^//.*\n|^%.*\n", "", grammar_text(), flags=re.MULTILINE)
    entries = re.findall(r"^(\??[\w]+)(?:\.\d+)?\s*:((?:.*\n)(?:[ \t]+\|.*\n)*)", text, re.MULTILINE)
    words = {name: _literal(body) for name, body in entries if name.isupper() and _literal(body)}
    lines = []
    for name, body in entries:
        name = name.removeprefix("?")
        if name in words or (name.startswith("_") and name != "_END"):
            continue
        shown = [re.sub(r"\s*->\s*\w+\s*$", "", line).strip() for line in body.strip().split("\n")]
        if not name.isupper() and name != "_END":
            shown = [re.sub(r"\b_?[A-Z]+\b", lambda m: words.get(m[0], m[0].strip("_")), line) for line in shown]
        pad = "\n" + " " * 12
        lines.append(f"{name.strip('_'):<11} ::= {shown[0]}" + "".join(pad + "  " + line for line in shown[1:]))
    return _HEAD + "\n".join(lines) + "\n" + _TAIL


def _literal(body: str) -> str | None:
    """The word or mark that a terminal always is, in quotes; None for a terminal of many texts."""
    if found := re.fullmatch(r'\s*(?:/(\w+)\\b/|"(.)")\s*', body):
        return f'"{found[1] or found[2]}"'
    return '"="' if body.strip() == "/=(?!=)/" else None


if __name__ == "__main__":
    PATH.write_text(page(), encoding="utf-8")
