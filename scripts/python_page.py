"""Writes the reference of `docs/reference/python.md`; `--check` says whether it is current.

    python scripts/python_page.py [--check]

The lines between `<!-- reference -->` and `<!-- end -->` are replaced; the rest is written by hand.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import policy_engine

PATH = Path(__file__).parents[1] / "docs" / "reference" / "python.md"
_BLOCK = re.compile(r"(<!-- reference -->\n).*?(<!-- end -->)", re.DOTALL)
GROUPS = {
    "Policies": (
        "load_policy", "policy_from_text", "Program", "prove", "compare", "parse", "format_policy", "Diagnostic",
    ),
    "Masking": ("Masker", "MaskedRow", "MediaOptions", "MediaCollator", "TokenMask", "Conversation", "IGNORE_INDEX"),
    "Tokenizers and templates": ("load_tokenizer", "ChatTokenizer", "ChatTemplate"),
    "Warnings": (
        "PolicyWarning", "DataWarning", "DoubtfulRoleWarning", "LeftOutWarning", "LostFieldWarning",
        "OpenAnswerWarning", "PrintedDataWarning", "QuotedArgumentsWarning", "UnusedColumnWarning",
        "WrittenCallWarning",
    ),
    "Errors": (
        "PolicyEngineError", "PolicyError", "PolicySyntaxError", "PolicyCheckError", "GuardError", "TemplateError",
        "AttributionError", "UnrenderedError", "TokenizerError", "RowError", "MediaError", "DriftError", "DataError",
        "ConfigError",
    ),
}  # fmt: skip
"""Every public name once, in the order of the page."""


def page() -> str:
    """The page with its reference made again."""
    body = "\n".join(_reference())
    return _BLOCK.sub(lambda match: f"{match[1]}\n{body}\n{match[2]}", PATH.read_text(encoding="utf-8"))


def _reference() -> Iterator[str]:
    listed = {name for names in GROUPS.values() for name in names}
    missing = set(policy_engine.__all__) - listed - {"__version__"}
    if missing or listed - set(policy_engine.__all__):
        raise SystemExit(f"scripts/python_page.py leaves out {sorted(missing)}, or lists what is not public")
    for group, names in GROUPS.items():
        yield from (f"### {group}", "")
        for name in names:
            yield from _entry(name, getattr(policy_engine, name))


def _entry(name: str, value: Any) -> Iterator[str]:
    if not callable(value):
        yield from (f"#### `{name}`", "", f"`{value!r}`", "")
        return
    if inspect.isclass(value) and issubclass(value, (Exception, Warning)):
        bases = ", ".join(f"`{base.__name__}`" for base in value.__bases__)
        code = f", code `{value.code}`" if "code" in vars(value) else ""
        said = _doc(value)
        # Nothing may follow the end of a fence on its line: it would not end.
        gap = "\n\n" if said.endswith("```") else " "
        yield from (f"#### `{name}`", "", f"{said}{gap}A {bases}{code}.", "")
        return
    yield from (f"#### `{name}{_signature(value)}`", "", _doc(value), "")
    if inspect.isclass(value):
        yield from _members(value)


def _members(cls: type) -> Iterator[str]:
    named = {f.name for f in fields(cls)} if is_dataclass(cls) else set()
    rows = [f"* `.{name}`: {_below(text)}" for name, text in _field_docs(cls)]
    for name, member in vars(cls).items():
        if name in named or (name.startswith("_") and name != "__call__"):
            continue
        if isinstance(member, (classmethod, staticmethod)):
            member = member.__func__
        function = getattr(member, "func", None) or getattr(member, "fget", None)
        if function is not None:
            rows.append(f"* `.{name}`: {_inner(function)}")
        elif inspect.isfunction(member):
            shown = f"({cls.__name__.lower()})" if name == "__call__" else f".{name}"
            rows.append(f"* `{shown}{_signature(member)}`: {_inner(member)}")
    for row, following in pairwise((*rows, "")):
        # Behind an item of several paragraphs, a line right below is read as more of its last one.
        yield row if "\n\n" not in row or not following else f"{row}\n"
    if rows:
        yield ""


def _inner(value: Any) -> str:
    """A docstring below an item of a list."""
    return _below(inspect.getdoc(value) or "")


def _below(text: str) -> str:
    return re.sub(r"\n(?=.)", "\n    ", _markdown(text))


def _signature(value: Any) -> str:
    """Names, defaults and what may only be given by keyword; the types are in the package."""
    shown = []
    star = False
    for p in inspect.signature(value).parameters.values():
        if p.name in ("self", "cls"):
            continue
        if p.kind is p.KEYWORD_ONLY and not star:
            shown.append("*")
            star = True
        prefix = {p.VAR_POSITIONAL: "*", p.VAR_KEYWORD: "**"}.get(p.kind, "")
        star = star or p.kind is p.VAR_POSITIONAL
        default = "" if p.default is p.empty else f"={_default(p.default)}"
        shown.append(f"{prefix}{p.name}{default}")
    return f"({', '.join(shown)})"


def _default(value: Any) -> str:
    text = repr(value)
    return "…" if " object at " in text or "<factory>" in text or len(text) > 30 else text


def _doc(value: Any) -> str:
    return _markdown(inspect.getdoc(value) or "")


def _markdown(text: str) -> str:
    """A docstring as Markdown: a paragraph is one line, an example is a block of code."""
    # An example may have blank lines in it.
    parts = re.split(r"\n{2,}(?! )|(?<=\S)\n{2,}(?= )", text)
    return "\n\n".join(_paragraph(part) for part in parts)


def _paragraph(text: str) -> str:
    if text.startswith(("    ", ">>> ")):
        code = textwrap.dedent(text)
        return f"```{'pycon' if '>>> ' in code else 'text'}\n{code}\n```"
    # What is between backticks is shown as it is; elsewhere `<` would open an element.
    return re.sub(r"(`[^`]*`)|<", lambda match: match[1] or "\\<", text.replace("\n", " "))


def _field_docs(cls: type) -> Iterator[tuple[str, str]]:
    """The fields of a class that have a docstring below them, with it."""
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    assert isinstance(tree, ast.ClassDef)
    for statement, below in pairwise(tree.body):
        match statement, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                if not name.startswith("_"):
                    yield name, inspect.cleandoc(text)


def main(arguments: list[str]) -> int:
    """The command."""
    new = page()
    if arguments == ["--check"]:
        return int(new != PATH.read_text(encoding="utf-8"))
    PATH.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
