"""Every code has a line and a page, and the examples of a page do what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policy_engine.core.codes import CODES
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import PolicyError
from policy_engine.core.schema import Schema
from policy_engine.lang.check import check_text
from policy_engine.lang.lint.lint import lint

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "diagnostics"
LANGUAGE = [code for code in CODES if code[:3] in ("PE1", "PE2", "PE6") and code not in ("PE100", "PE109", "PE213")]
SCHEMA = Schema(fields={"message.train": "boolean"})


def test_the_codes_that_the_package_gives_are_those_that_are_listed() -> None:
    used: set[str] = set()
    for path in (ROOT / "policy_engine").rglob("*.py"):
        if path.name == "codes.py":
            continue
        used |= set(re.findall(r'"(PE[0-9]{3})"', path.read_text(encoding="utf-8")))
    assert used == set(CODES)


def test_every_code_has_a_page_and_the_index_lists_them() -> None:
    assert set(CODES) == {path.stem for path in PAGES.glob("PE*.md")}
    index = (PAGES / "index.md").read_text(encoding="utf-8")
    assert [f"| [{code}]({code}.md) | {meaning} |" for code, meaning in CODES.items()] == index.splitlines()[
        -len(CODES) :
    ]


@pytest.mark.parametrize("code", CODES)
def test_a_page_says_what_avoid_prefer_and_why(code: str) -> None:
    text = (PAGES / f"{code}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {code}: {CODES[code]}\n\n")
    assert ["Avoid", "Prefer", "Why"] == re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert all(section.strip() for section in re.split(r"^#.*$", text, flags=re.MULTILINE)[1:])


@pytest.mark.parametrize("code", LANGUAGE)
def test_the_examples_of_a_page(code: str, tmp_path: Path) -> None:
    blocks = re.findall(r"```policy (.*)\n((?:.*\n)*?)```", (PAGES / f"{code}.md").read_text(encoding="utf-8"))
    files = {head.removeprefix("file="): body for head, body in blocks if head.startswith("file=")}
    examples = {head: body.replace("␍", "\r") for head, body in blocks if not head.startswith("file=")}
    for name, body in files.items():
        (tmp_path / name).write_text(body, encoding="utf-8")
    assert {"avoid", "prefer"} == set(examples)
    assert code in {d.code for d in said(examples["avoid"], code, tmp_path if files else None)}
    better = said(examples["prefer"], code, tmp_path if files else None)
    assert code not in {d.code for d in better}
    assert not [d for d in better if d.is_error]


def said(text: str, code: str, folder: Path | None) -> tuple[Diagnostic, ...]:
    name = "<string>"
    if folder is not None:
        name = str(folder / "main.policy")
        Path(name).write_text(text, encoding="utf-8")
    try:
        policy = check_text(text, name=name, schema=SCHEMA if code == "PE223" else None)
    except PolicyError as error:
        return error.diagnostics
    return (*policy.warnings, *lint(policy))
