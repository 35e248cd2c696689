"""Saves the parser's tables when the package is built or installed, so that no start of the program makes them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TablesHook(BuildHookInterface):  # type: ignore[misc]
    """Writes `grammars/policy.tables`. A wheel takes the folder `grammars`; an editable install reads it there."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Hatchling calls it before a wheel is built."""
        sys.path.insert(0, self.root)
        try:
            from policy_engine.lang.tables import save_tables
        finally:
            sys.path.remove(self.root)
        save_tables(Path(self.root) / "grammars" / "policy.tables")
