from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.cli.support import cli, write_policy

UGLY = "# why\ntrain   assistant ;mask system,user  # both\n"


def test_writes_in_place_and_is_stable(tmp_path: Path) -> None:
    path = write_policy(tmp_path, UGLY)
    assert cli("fmt", path).code == 0
    once = path.read_text()
    assert once != UGLY
    assert "# why" in once
    assert "# both" in once
    ran = cli("fmt", path, "--format", "json")
    assert [False] == [f["changed"] for f in ran.document["files"]]
    assert once == path.read_text()
    assert [path] == list(tmp_path.iterdir())


def test_check_and_diff_write_nothing(tmp_path: Path) -> None:
    path = write_policy(tmp_path, UGLY)
    check, diff = cli("fmt", "--check", path), cli("fmt", "--diff", path)
    assert (1, 1) == (check.code, diff.code)
    assert str(path) in check.out
    assert "-train   assistant ;mask system,user  # both" in diff.out
    assert "+train assistant" in diff.out
    assert UGLY == path.read_text()
    cli("fmt", path)
    assert (0, 0) == (cli("fmt", "--check", path).code, cli("fmt", "--diff", path).code)


def test_stdin_to_stdout() -> None:
    ran = cli("fmt", "-", stdin=UGLY)
    assert ran.code == 0
    assert ran.out.startswith("# why\ntrain assistant")


def test_what_does_not_parse_is_left_alone(tmp_path: Path) -> None:
    bad, ugly = write_policy(tmp_path, "train ,,", name="bad.policy"), write_policy(tmp_path, UGLY)
    ran = cli("fmt", bad, ugly)
    assert ran.code == 2
    assert "bad.policy:1:" in ran.err
    assert "train ,," == bad.read_text()
    assert UGLY != ugly.read_text()


def test_missing_file_and_shipped_name() -> None:
    assert cli("fmt", "none.policy").code == 2
    ran = cli("fmt", "default")
    assert ran.code == 2
    assert "shipped" in ran.err


def test_keeps_mode_and_link(tmp_path: Path) -> None:
    path = write_policy(tmp_path, UGLY)
    path.chmod(0o640)
    link = tmp_path / "link.policy"
    link.symlink_to(path)
    assert cli("fmt", link).code == 0
    assert link.is_symlink()
    assert 0o640 == stat.S_IMODE(path.stat().st_mode)
    assert UGLY != path.read_text()


def test_full_disk_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_policy(tmp_path, UGLY)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    ran = cli("fmt", path)
    assert ran.code == 2
    assert "no space left on device" in ran.err
    assert UGLY == path.read_text()
    assert [path] == list(tmp_path.iterdir())
