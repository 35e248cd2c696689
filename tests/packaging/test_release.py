"""A release has a version, a section of the changelog, and files that are whole."""

from __future__ import annotations

import datetime
import io
import runpy
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("packaging")
ROOT = Path(__file__).parents[2]
RELEASE = runpy.run_path(str(ROOT / "scripts" / "release.py"))
NotReady = RELEASE["NotReady"]
DAY = datetime.date(2026, 3, 1)
LOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- Something.\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "policy_engine").mkdir()
    (tmp_path / "policy_engine" / "_version.py").write_text('"""Doc."""\n\n__version__ = "0.1.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(LOG)
    return tmp_path


def test_a_stamped_checkout_is_ready(root: Path) -> None:
    RELEASE["stamp"](root, "0.2.0", DAY)
    assert "0.2.0" == RELEASE["verify"](root) == RELEASE["current"](root)
    log = (root / "CHANGELOG.md").read_text()
    assert "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-03-01\n\n### Added\n\n- Something.\n" == log


def test_the_next_release_needs_entries_and_a_higher_version(root: Path) -> None:
    RELEASE["stamp"](root, "0.2.0", DAY)
    with pytest.raises(NotReady, match="no entry under"):
        RELEASE["stamp"](root, "0.3.0", DAY)
    with pytest.raises(NotReady, match=r"not above 0\.2\.0"):
        RELEASE["stamp"](root, "0.2.0", DAY)


@pytest.mark.parametrize(("version", "said"), [("next", "is not a version"), ("v0.2.0", "as `0.2.0`")])
def test_versions_are_written_as_indexes_write_them(root: Path, version: str, said: str) -> None:
    with pytest.raises(NotReady, match=said):
        RELEASE["stamp"](root, version, DAY)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (LOG, "no section"),
        ("# Changelog\n\n## [0.1.0] - 2026-03-01\n\n- A.\n", "does not begin with"),
        (LOG + "\n## [0.1.0]\n\n- A.\n", "for its date"),
        (LOG + "\n## [0.1.0] - 1 March\n\n- A.\n", "no section"),
        (LOG + "\n## [0.1.0] - 2026-03-01\n\nNothing.\n", "has no entry"),
    ],
)
def test_a_changelog_that_is_not_a_releases(root: Path, log: str, said: str) -> None:
    (root / "CHANGELOG.md").write_text(log)
    with pytest.raises(NotReady, match=said):
        RELEASE["verify"](root)


WHEEL_FILES = tuple(RELEASE["wheel_files"](ROOT))
STEM = "chat_policy_engine-0.1.0"
SOURCES = ("README.md", "CHANGELOG.md", "LICENSE", "Makefile", "tests/conftest.py")


def dist(folder: Path, *, files: tuple[str, ...] = (), sources: tuple[str, ...] = SOURCES, **metadata: str) -> Path:
    said = {
        "name": "chat-policy-engine",
        "version": "0.1.0",
        "description": "See [home](https://example.org).",
        **metadata,
    }
    text = f"Metadata-Version: 2.4\nName: {said['name']}\nVersion: {said['version']}\n\n{said['description']}\n"
    with zipfile.ZipFile(folder / f"{STEM}-py3-none-any.whl", "w") as wheel:
        for name in files or WHEEL_FILES:
            wheel.writestr(name, "")
        wheel.writestr(f"{STEM}.dist-info/METADATA", text)
    with tarfile.open(folder / f"{STEM}.tar.gz", "w:gz") as sdist:
        for name in sources:
            sdist.addfile(tarfile.TarInfo(f"{STEM}/{name}"), io.BytesIO())
    return folder


def test_a_wheel_has_files_of_every_kind_that_the_package_reads() -> None:
    wanted = {".py", ".css", ".js", ".json", ".jsonl", ".jinja", ".lark", ".policy", ".typed"}
    assert wanted <= {"." + name.rsplit(".", 1)[-1] for name in WHEEL_FILES}
    assert {"policy_engine/_grammars/policy.lark", "policy_engine/_policies/default.policy"} <= set(WHEEL_FILES)


def test_whole_files_pass(tmp_path: Path) -> None:
    RELEASE["built"](dist(tmp_path), "0.1.0")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"files": ("policy_engine/py.typed",)}, r"the wheel has no .*policy\.lark.*page\.css"),
        ({"files": (*WHEEL_FILES, "tests/conftest.py")}, "more than the package: tests"),
        ({"name": "policy-engine"}, "says that it is policy-engine"),
        ({"description": "[docs](docs/reference/cli.md)"}, "lead nowhere: docs/reference/cli.md"),
        ({"sources": ("README.md",)}, "the sdist has no CHANGELOG.md"),
    ],
)
def test_files_that_are_not_whole(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(NotReady, match=said):
        RELEASE["built"](dist(tmp_path, **changes), "0.1.0")


def test_another_version_beside_it_is_seen(tmp_path: Path) -> None:
    (dist(tmp_path) / "chat_policy_engine-0.0.9.tar.gz").write_bytes(b"")
    with pytest.raises(NotReady, match="not one wheel and one sdist"):
        RELEASE["built"](tmp_path, "0.1.0")
