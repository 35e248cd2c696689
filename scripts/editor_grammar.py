"""Writes the TextMate grammar of `editors/vscode`: `python scripts/editor_grammar.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from policy_engine.core.vocabulary import GROUPS, KEYWORDS, PART_NAMES, SCOPES, SETTINGS

PATH = Path(__file__).parents[1] / "editors" / "vscode" / "syntaxes" / "policy.tmLanguage.json"
_VERBS = ("train", "mask", "scale", "never", "always")
_CONSTANTS = ("true", "false", "null")
_OPERATORS = ("and", "or", "not", "has", "contains", "matches", "in")


def grammar() -> str:
    """The grammar's JSON text."""
    rest = [word for word in KEYWORDS if word not in (*_VERBS, *_CONSTANTS, *_OPERATORS)]
    values = dict.fromkeys(value for values in SETTINGS.values() for value in values)
    on = rf"\b(on)\s+({'|'.join(SETTINGS)})\s+({'|'.join(values)})\b"
    patterns: list[dict[str, Any]] = [
        {"name": "comment.line.number-sign.policy", "match": "#.*$"},
        {"name": "string.quoted.double.policy", "match": r'"(?:[^"\\]|\\.)*"'},
        {"name": "string.regexp.policy", "match": r"/(?:[^/\\]|\\.)+/[A-Za-z]*"},
        {"match": on, "captures": {
            "1": {"name": "keyword.other.policy"},
            "2": {"name": "support.type.property-name.policy"},
            "3": {"name": "constant.language.policy"},
        }},
        # The scope of a field and its path, before words of the same names (`message.train`, `turn.index`).
        {"match": rf"\b({'|'.join(SCOPES)})((?:\.[A-Za-z_][A-Za-z0-9_]*|\[[0-9]+\])+)", "captures": {
            "1": {"name": "variable.language.policy"},
            "2": {"name": "variable.other.property.policy"},
        }},
        {"name": "keyword.control.policy", "match": _any(_VERBS)},
        {"name": "keyword.operator.word.policy", "match": _any(_OPERATORS)},
        {"name": "constant.language.policy", "match": _any(_CONSTANTS)},
        {"name": "keyword.other.policy", "match": _any(rest)},
        {"name": "support.type.part.policy", "match": _any((*PART_NAMES, *GROUPS))},
        {"name": "constant.numeric.policy", "match": r"-?\b[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?\b"},
        {"name": "keyword.operator.policy", "match": "==|!=|<=|>=|<|>|="},
        {"name": "entity.name.type.role.policy", "match": r"\b[A-Za-z_][A-Za-z0-9_]*\b"},
    ]  # fmt: skip
    document = {"name": "Policy", "scopeName": "source.policy", "fileTypes": ["policy"], "patterns": patterns}
    return json.dumps(document, indent=2) + "\n"


def _any(words: tuple[str, ...] | list[str]) -> str:
    return rf"\b(?:{'|'.join(words)})\b"


if __name__ == "__main__":
    PATH.write_text(grammar(), encoding="utf-8")
