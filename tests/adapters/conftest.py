"""What tests of several frameworks need."""

from __future__ import annotations

import importlib.machinery
import sys
from types import ModuleType

import pytest


@pytest.fixture
def without_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """LLaMA-Factory imports torchaudio for audio data, of which there is no build for the CPU's torch."""
    made = ModuleType("torchaudio")
    made.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
    monkeypatch.setitem(sys.modules, "torchaudio", made)
