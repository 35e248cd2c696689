"""The distribution has a name that PyPI takes, and everything that says how to install it says that name."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:  # pytest needs it there
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TAKEN = ("policyengine", "policyengine-core", "policyengine-us", "policy")
"""Names that are somebody else's."""
READ = (".md", ".py", ".toml", ".yml", ".yaml", ".json", ".txt", "")


def normalized(name: str) -> str:
    """A name as package indexes compare it: case and runs of `-_.` do not count (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def ultranormalized(name: str) -> str:
    """A name as PyPI compares a new one with those it has: without `-_.`, with l, i and 1 as one, o and 0 as one."""
    bare = re.sub(r"[-_.]", "", name).lower()
    return re.sub(r"o", "0", re.sub(r"[li]", "1", bare))


def test_the_rule_is_pypis() -> None:
    assert normalized("Friendly._-Bard") == "friendly-bard"
    assert ultranormalized("Pi11ow") == ultranormalized("pillow") == ultranormalized("P-I.1_LOW")
    assert ultranormalized("policy-engine") == ultranormalized("policyengine") == ultranormalized("PO1ICY_ENG1NE")


@pytest.mark.parametrize("taken", TAKEN)
def test_the_name_is_nobody_elses(taken: str) -> None:
    assert ultranormalized(PROJECT["name"]) != ultranormalized(taken)


def test_the_name_is_written_as_it_is_compared() -> None:
    assert "chat-policy-engine" == PROJECT["name"] == normalized(PROJECT["name"])
    assert ["policy-engine"] == list(PROJECT["scripts"])


def files() -> list[Path]:
    folders = ("policy_engine", "docs", "examples", "editors", "scripts", ".ci", "benchmarks", "tests")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    own = [path for path in ROOT.iterdir() if path.is_file()]
    return [p for p in [*found, *own] if p.suffix in READ and p != Path(__file__) and "__pycache__" not in p.parts]


def test_the_page_of_installing_lists_each_extra() -> None:
    table = (ROOT / "docs" / "index.md").read_text(encoding="utf-8").partition("| extra |")[2].partition("\n\n")[0]
    listed = {name for line in table.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert set(PROJECT["optional-dependencies"]) == listed


def test_advice_names_the_distribution_and_extras_that_exist() -> None:
    seen = 0
    for path in files():
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r"([\w-]*)policy-engine\[([\w,]+)\]", text):
            seen += 1
            where = f"{path.relative_to(ROOT)}: {match[0]}"
            assert "chat-" == match[1], where
            assert set(match[2].split(",")) <= set(PROJECT["optional-dependencies"]), where
        for match in re.finditer(r"pip install [^\n`]*?(?<!chat-)(?<![\w/])policy-engine\b", text):
            pytest.fail(f"{path.relative_to(ROOT)}: {match[0]}")
    assert seen >= 8


def test_advice_works_before_a_release_too() -> None:
    """A package that is not on the index yet cannot be installed from there: each page says what a clone does."""
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    lines = [(page, line) for page in pages for line in page.read_text(encoding="utf-8").splitlines()]
    named = [(page, line) for page, line in lines if re.search(r"pip install '?chat-policy-engine", line)]
    assert 8 <= len(named)
    assert [] == [(page.name, line) for page, line in named if "from the first release on: " not in line]
    for page, line in named:
        extra = re.search(r"chat-policy-engine(\[[\w,]+\])", line)
        assert f"'.{extra[1]}'" in line if extra else "pip install ." in line, (page.name, line)
