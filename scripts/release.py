"""Prepares a release: its version, its section of the changelog, and checks of both.

    python scripts/release.py stamp 0.2.0      # write both into this checkout
    python scripts/release.py verify           # are version and changelog those of a release
    python scripts/release.py built dist/      # is what was built whole

`make release-check` runs all of it on a copy of the checkout, and uses the wheel on each Python.
"""

from __future__ import annotations

import datetime
import email
import re
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[1]
NAME = "chat-policy-engine"
_VERSION = re.compile(r'^__version__ = "([^"]*)"$', re.MULTILINE)
_SECTION = re.compile(r"^## \[([^\]]+)\](?: - (\S+))?$", re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?://|#)([^)]*)\)")
_IN_WHEEL = {
    "policy_engine": "policy_engine",
    "grammars": "policy_engine/_grammars",
    "policies": "policy_engine/_policies",
}
"""Folders of the checkout, and where a wheel has them."""


class NotReady(Exception):
    """A release cannot be made as things are. The message says what to do."""


def stamp(root: Path, version: str, date: datetime.date) -> None:
    """Writes the version, and makes what is under Unreleased the section of that version.

    Raises NotReady for a text that is not a version, for a version not above the last release, and for a changelog
    that has nothing to release.
    """
    try:
        wanted = Version(version)
    except InvalidVersion:
        raise NotReady(f"`{version}` is not a version: write one such as 0.2.0") from None
    if version != str(wanted):
        raise NotReady(f"write `{version}` as `{wanted}`, the form that package indexes give it")
    changelog = root / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    sections = dict(_sections(text))
    released = [Version(name) for name in sections if name != "Unreleased"]
    if released and wanted <= max(released):
        raise NotReady(f"{wanted} is not above {max(released)}, the last release in CHANGELOG.md")
    if not re.search(r"^- ", sections.get("Unreleased", ""), re.MULTILINE):
        raise NotReady("CHANGELOG.md has no entry under `## [Unreleased]`: write what this release changes")
    heading = f"## [Unreleased]\n\n## [{version}] - {date.isoformat()}\n"
    changelog.write_text(text.replace("## [Unreleased]\n", heading, 1), encoding="utf-8")
    place = root / "policy_engine" / "_version.py"
    place.write_text(_VERSION.sub(f'__version__ = "{version}"', place.read_text(encoding="utf-8")), encoding="utf-8")


def verify(root: Path) -> str:
    """The version, if the changelog's newest section is that version's, with a date and entries.

    Raises NotReady with what is missing.
    """
    version = current(root)
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    named = [(match[1], match[2]) for match in _SECTION.finditer(text)]
    if [name for name, _ in named][:1] != ["Unreleased"]:
        raise NotReady("CHANGELOG.md does not begin with `## [Unreleased]`, where the next entries go")
    name, date = named[1] if len(named) > 1 else ("", None)
    if name != version:
        raise NotReady(f"CHANGELOG.md has no section `## [{version}] - DATE` below Unreleased: make release VERSION=…")
    try:
        datetime.date.fromisoformat(date or "")
    except ValueError:
        raise NotReady(f"the section of {version} has `{date}` for its date: write it as 2026-01-31") from None
    if not re.search(r"^- ", dict(_sections(text))[version], re.MULTILINE):
        raise NotReady(f"the section of {version} in CHANGELOG.md has no entry")
    return version


def built(folder: Path, version: str) -> None:
    """Checks the sdist and the wheel in a folder: names, metadata, and files.

    Raises NotReady with what is wrong.
    """
    stem = f"{NAME.replace('-', '_')}-{version}"
    wheel, sdist = folder / f"{stem}-py3-none-any.whl", folder / f"{stem}.tar.gz"
    if found := {path.name for path in folder.iterdir()} ^ {wheel.name, sdist.name}:
        raise NotReady(f"{folder} is not one wheel and one sdist of {version}: {', '.join(sorted(found))}")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = email.message_from_bytes(archive.read(f"{stem}.dist-info/METADATA"))
    if missing := sorted(set(wheel_files(ROOT)) - names):
        raise NotReady(f"the wheel has no {', '.join(missing)}")
    if others := sorted({name.split("/")[0] for name in names} - {"policy_engine", f"{stem}.dist-info"}):
        raise NotReady(f"the wheel installs more than the package: {', '.join(others)}")
    if (NAME, version) != (metadata["Name"], metadata["Version"]):
        raise NotReady(f"the wheel says that it is {metadata['Name']} {metadata['Version']}")
    if dead := _LINK.findall(str(metadata.get_payload())):
        raise NotReady(f"the description on PyPI would have links that lead nowhere: {', '.join(dead)}")
    with tarfile.open(sdist) as source:
        inside = {name.partition("/")[2] for name in source.getnames()}
    if missing := sorted({"README.md", "CHANGELOG.md", "LICENSE", "Makefile", "tests/conftest.py"} - inside):
        raise NotReady(f"the sdist has no {', '.join(missing)}")


def wheel_files(root: Path) -> list[str]:
    """Every file of the package in a checkout, by the name that it has in a wheel."""
    return [
        f"{inside}/{path.relative_to(root / folder).as_posix()}"
        for folder, inside in _IN_WHEEL.items()
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    ]


def current(root: Path) -> str:
    """The version of the checkout."""
    found = _VERSION.search((root / "policy_engine" / "_version.py").read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def _sections(text: str) -> list[tuple[str, str]]:
    parts = _SECTION.split(text)
    return list(zip(parts[1::3], parts[3::3], strict=True))


def main(arguments: Sequence[str]) -> int:
    """The command."""
    try:
        match list(arguments):
            case ["stamp", version]:
                stamp(ROOT, version, datetime.date.today())
            case ["verify"]:
                print(verify(ROOT))
            case ["version"]:
                print(current(ROOT))
            case ["built", folder]:
                built(Path(folder), current(ROOT))
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except NotReady as error:
        print(f"not ready: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
