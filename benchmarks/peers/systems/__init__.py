"""One file for each system: how it is run, and on what."""

from __future__ import annotations

from typing import Final

SYSTEMS: Final = {
    "axolotl": "benchmarks.peers.systems.axolotl_strategy",
    "trl": "benchmarks.peers.systems.trl_preparation",
    "transformers": "benchmarks.peers.systems.transformers_tracker",
    "unsloth": "benchmarks.peers.systems.unsloth_responses",
    "tinker": "benchmarks.peers.systems.tinker_renderers",
    "renderers": "benchmarks.peers.systems.prime_renderers",
}
"""Modules that run each system.

Each has `trials(count)`, `RELEASES` (packages whose release is named) and `timed()`.
"""
