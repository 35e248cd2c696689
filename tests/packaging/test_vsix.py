"""The check of the packaged VS Code extension; `make vsix` makes one with npm and looks at it."""

from __future__ import annotations

import zipfile
from pathlib import Path

from scripts.check_vsix import problems

EXTENSION = Path(__file__).parents[2] / "editors" / "vscode"


def package(folder: Path, *left_out: str) -> Path:
    """A package of the extension as it is, with a stand-in for what npm installs."""
    files = {f"extension/{path.relative_to(EXTENSION)}": path.read_bytes() for path in EXTENSION.rglob("*.*")}
    files["extension/node_modules/vscode-languageclient/package.json"] = b"{}"
    files |= {"[Content_Types].xml": b"", "extension.vsixmanifest": b""}
    made = folder / "policy-engine.vsix"
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in files.items():
            if name not in left_out:
                archive.writestr(name, data)
    return made


def test_a_whole_package(tmp_path: Path) -> None:
    assert [] == problems(package(tmp_path))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    client = "extension/node_modules/vscode-languageclient/package.json"
    grammar = "extension/syntaxes/policy.tmLanguage.json"
    assert [grammar, client] == problems(package(tmp_path, client, grammar))
    assert ["extension/package.json"] == problems(package(tmp_path, "extension/package.json"))
