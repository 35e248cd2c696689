"""Versions read from the names of folders are those of `importlib.metadata`."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_engine.core.versions import version_of


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    version_of.cache_clear()
    yield
    version_of.cache_clear()


@pytest.mark.parametrize("name", ["transformers", "tokenizers", "kitoken", "PyYAML", "typing_extensions", "Jinja2"])
def test_installed_packages(name: str) -> None:
    assert importlib.metadata.version(name) == version_of(name)


@pytest.mark.parametrize(
    ("folders", "version"),
    [
        (["no_such-1.2.dist-info"], "1.2"),
        (["No.Such-1.2rc1.dist-info"], "1.2rc1"),
        (["no_such_more-9.dist-info"], None),
        (["no_such-1.2.dist-info", "no_such_more-9.dist-info"], "1.2"),
        ([], None),
    ],
)
def test_names_of_folders(
    folders: list[str], version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in folders:
        (tmp_path / name).mkdir()
        package, _, version_there = name.removesuffix(".dist-info").rpartition("-")
        (tmp_path / name / "METADATA").write_text(f"Name: {package}\nVersion: {version_there}\n")
    monkeypatch.setattr(sys, "path", ["no folder", str(tmp_path)])
    importlib.invalidate_caches()
    assert version == version_of("no-such")
