"""Rules of the house that no tool holds."""

from __future__ import annotations

import ast
import dataclasses
import doctest
import importlib
import pkgutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import policy_engine

PACKAGES = ("core", "lang", "rules", "mask", "proof")
FILLED_WHILE_WORKING = {
    "lang.File", "mask.ControlTokenRows", "mask.Coverage", "mask.DataDiff", "mask.RowFates", "mask.TemplateDiff",
    "proof.ClassOutcome", "proof.FieldValues", "proof.Paths", "proof.Plan", "proof.SegmentPlan", "proof.SegmentText",
    "proof.TurnPlan", "rules.ScopeFields",
}  # fmt: skip
"""Records that one function or class fills and nobody else sees."""
BY_PLACE = {"proof.AtLeast", "proof.CountTest", "proof.Letter", "proof.Nearest", "proof.Turns"}
"""The proof's alphabet: one or two fields each, which may be given by place."""


def records() -> Iterator[tuple[str, type]]:
    for package in PACKAGES:
        home = importlib.import_module(f"policy_engine.{package}")
        for module in pkgutil.walk_packages(home.__path__, f"{home.__name__}."):
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__ == module.name:
                    yield f"{package}.{name}", value


@pytest.mark.parametrize(("name", "record"), list(records()), ids=[name for name, _ in records()])
def test_records_do_not_change_and_are_made_by_name(name: str, record: type) -> None:
    assert record.__dataclass_params__.frozen == (name not in FILLED_WHILE_WORKING)  # type: ignore[attr-defined]
    by_name = all(field.kw_only for field in dataclasses.fields(record))
    assert by_name == (name not in BY_PLACE)


def modules_with_sessions() -> list[str]:
    home = Path(policy_engine.__file__).parent
    return [
        ".".join(("policy_engine", *path.relative_to(home).with_suffix("").parts))
        for path in sorted(home.rglob("*.py"))
        if "    >>> " in path.read_text(encoding="utf-8")
    ]


@pytest.mark.parametrize("name", modules_with_sessions())
def test_examples_in_docstrings_give_what_they_show(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert (result.attempted > 0, result.failed) == (True, 0)


def test_a_folder_is_read_at_one_glance() -> None:
    package = Path(policy_engine.__file__).parent
    files = Counter(file.parent.relative_to(package).as_posix() for file in package.rglob("*.py"))
    assert {"cli/verbs"} >= {folder for folder, count in files.items() if count > 16}


def test_a_public_class_name_is_of_one_class() -> None:
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in Path(policy_engine.__file__).parent.rglob("*.py"))
    names = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    assert [] == [name for name, count in names.items() if count > 1 and not name.startswith("_")]
