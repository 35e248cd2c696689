"""Versions of installed packages, by the names of their folders.

    site-packages/tokenizers-0.23.3.dist-info    →    "0.23.3"

`importlib.metadata` imports half of `email`, and reads a file for each package: 15 ms, a fortieth of what `show` takes.
It is used only where no folder's name has the version.
"""

from __future__ import annotations

import functools
import os
import re
import sys
from typing import Final

_ENDING: Final = ".dist-info"


@functools.cache
def version_of(package: str) -> str | None:
    """The installed version of a package by its name on PyPI; None if it is not installed.

    >>> version_of("no-such-package") is None
    True
    """
    beginning = _normal(package) + "-"
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        # A path that does not exist, or an archive.
        except OSError:
            continue
        found = [name for name in names if name.endswith(_ENDING) and _normal(name).startswith(beginning)]
        versions = [name.removesuffix(_ENDING).rpartition("-") for name in found]
        if len(versions) == 1 and _normal(versions[0][0]) + "-" == beginning:
            return versions[0][2]
        if found:
            break
    # Two of one name, an archive, an old form, or not installed.
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _normal(name: str) -> str:
    """Names as the packaging standard compares them.

    >>> _normal("Typing.Extensions") == _normal("typing-extensions")
    True
    """
    return re.sub(r"[-_.]+", "-", name).lower()
