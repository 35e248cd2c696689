"""The importers by the name of the system they read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from policy_engine.importers.axolotl import from_axolotl
from policy_engine.importers.imported import Imported
from policy_engine.importers.others import from_llamafactory, from_openai, from_tinker
from policy_engine.importers.swift import from_swift
from policy_engine.importers.trl import from_trl

IMPORTERS: dict[str, Callable[[str], list[Imported]]] = {
    "axolotl": lambda config: from_axolotl(Path(config)),
    "trl": lambda config: from_trl(Path(config)),
    "llamafactory": lambda config: from_llamafactory(Path(config)),
    "swift": from_swift,
    "tinker": from_tinker,
    "openai": lambda config: from_openai(Path(config)),
}
"""Importers by system. Each takes a file's path; for `swift` and `tinker`, the setting itself."""

WITH_DATA: dict[str, Callable[[str, str], list[Imported]]] = {
    "trl": lambda config, data: from_trl(Path(config), data),
}
"""Importers that write a shorter policy where the data is known."""
