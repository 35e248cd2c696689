"""Looks into a packaged VS Code extension for everything that its `package.json` names.

python scripts/check_vsix.py dist/policy-engine.vsix
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path


def problems(package: Path) -> list[str]:
    """Everything that is missing in a package."""
    with zipfile.ZipFile(package) as archive:
        names = set(archive.namelist())
        missing = [name for name in ("[Content_Types].xml", "extension.vsixmanifest") if name not in names]
        if "extension/package.json" not in names:
            return [*missing, "extension/package.json"]
        manifest = json.loads(archive.read("extension/package.json"))
        contributes = manifest["contributes"]
        named = [manifest["main"], *(grammar["path"] for grammar in contributes["grammars"])]
        named += [language["configuration"] for language in contributes["languages"]]
        wanted = [f"extension/{path.removeprefix('./')}" for path in named]
        # The extension cannot start without what it requires.
        main = archive.read(wanted[0]).decode("utf-8") if wanted[0] in names else ""
        for module in re.findall(r'require\("([^"/]+)', main):
            if module != "vscode":
                wanted.append(f"extension/node_modules/{module}/package.json")
        return [*missing, *(name for name in wanted if name not in names)]


def main() -> int:
    """The command."""
    found = problems(Path(sys.argv[1]))
    for name in found:
        print(f"{sys.argv[1]} lacks {name}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
