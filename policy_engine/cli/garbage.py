"""Thresholds of the garbage collector: high while a verb starts, usual in a served page."""

from __future__ import annotations

import gc
from typing import Final

_USUAL: Final = gc.get_threshold()
"""Those of this Python: the module is imported before any are set."""


def collect_rarely() -> None:
    """Looks for garbage less often than Python does by itself."""
    # Hardly anything that starting makes is garbage, but by default Python looks through it every 700 objects: `show`
    # makes some 100,000 that stay.
    gc.set_threshold(200_000, 20, 20)


def collect_as_usual() -> None:
    """Looks for garbage as often as Python does by itself, but not in what is loaded now."""
    gc.freeze()
    gc.set_threshold(*_USUAL)
