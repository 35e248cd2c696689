"""Hypothesis profiles: `dev` for work, `ci` for every push, `nightly` for the night. HYPOTHESIS_PROFILE names one.

`ci` takes the same examples every time, so that a push is not red for what another brought; `nightly` takes new ones,
and so does `long`, fewer, for the tests outside `tests/properties`;
`mutation` does not make a failure small, since that it fails is all it asks.
"""

from __future__ import annotations

import gc
import importlib.machinery
import os
import sys
import tempfile
from types import ModuleType

import pytest
from hypothesis import HealthCheck, Phase, settings

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}

settings.register_profile("dev", max_examples=50, **_COMMON)
settings.register_profile("ci", max_examples=100, derandomize=True, **_COMMON)
settings.register_profile("long", max_examples=2_000, print_blob=True, **_COMMON)
settings.register_profile("nightly", max_examples=20_000, print_blob=True, **_COMMON)
settings.register_profile(
    "mutation", max_examples=50, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate), **_COMMON
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "dev"))

pytest_plugins = ["pytester"]

# The tests keep hundreds of templates and tokenizers: to look through them for garbage takes longer than it frees.
gc.set_threshold(10_000, 20, 20)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Declares what `pyproject.toml` sets for pytest-asyncio where it is not installed: unknown settings are errors."""
    if not pluginmanager.hasplugin("asyncio"):
        parser.addini("asyncio_default_fixture_loop_scope", "a setting of pytest-asyncio, without effect")


def pytest_collection_finish() -> None:
    """What is imported by now stays to the end, so the garbage collector need not look at it again."""
    gc.freeze()


# Not the user's own cache; one for all test processes, whose entries are named by what they are made of.
os.environ.setdefault("POLICY_ENGINE_CACHE", f"{tempfile.gettempdir()}/policy-engine-test-cache-{os.getuid()}")


@pytest.fixture
def without_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    """LLaMA-Factory imports torchaudio for audio data, of which there is no build for the CPU's torch."""
    made = ModuleType("torchaudio")
    made.__spec__ = importlib.machinery.ModuleSpec("torchaudio", None)
    monkeypatch.setitem(sys.modules, "torchaudio", made)
