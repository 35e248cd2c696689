"""Files that are given to an importer and are surely of another kind.

    {"alpaca": {"file_name": "alpaca.json"}}         LLaMA-Factory's `dataset_info.json`, given for a training YAML
    {"base_model": "…", "datasets": [{"path": "…"}]}  axolotl's configuration, given to `import trl`

Without this, each of their keys would be left behind, and the policy would be that of an empty configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from policy_engine.core.errors import ConfigError

_SOURCES: Final = {"file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name"}
"""Keys of an entry of LLaMA-Factory's `dataset_info.json` that say where its rows are; it wants one of them."""
_LAYOUT: Final = {"formatting", "columns", "tags"}
DATASET_KEYS: Final = _SOURCES | _LAYOUT | {"ranking", "subset", "split", "folder", "num_samples"}
"""All keys of an entry."""


def _lists_datasets(given: Mapping[str, Any]) -> bool:
    entries = [set(value) if isinstance(value, Mapping) else set() for value in given.values()]
    # An entry may lack its source; then all its keys have to be those of an entry.
    told = all(entry & _SOURCES or (entry and entry <= DATASET_KEYS) for entry in entries)
    return told and any(entry & (_SOURCES | _LAYOUT) for entry in entries)


_SYSTEMS: Final[Mapping[str, tuple[str, Callable[[Mapping[str, Any]], bool]]]] = {
    "axolotl": (
        "a configuration of axolotl",
        lambda given: "base_model" in given and isinstance(given.get("datasets"), list),
    ),
    "llamafactory": ("a training YAML of LLaMA-Factory", lambda given: "finetuning_type" in given),
    "trl": ("TRL's `SFTConfig`", lambda given: not {"assistant_only_loss", "completion_only_loss"}.isdisjoint(given)),
}
"""By the name of the importer that reads them."""
_OTHERS: Final[tuple[tuple[str, Callable[[Mapping[str, Any]], bool]], ...]] = (
    ("LLaMA-Factory's `dataset_info.json`, the list of its datasets", _lists_datasets),
    ("the description of a dataset that `datasets` wrote", lambda given: {"features", "citation"} <= set(given)),
    ("a model's `config.json`", lambda given: {"model_type", "architectures"} <= set(given)),
    ("a tokenizer's configuration", lambda given: "tokenizer_class" in given),
    ("an adapter's `adapter_config.json`", lambda given: "peft_type" in given),
)
_WANTED: Final = {
    "axolotl": "give axolotl's own configuration file",
    "llamafactory": "give the training YAML, whose `dataset` names the datasets",
    "trl": "give the YAML or JSON of `SFTConfig`",
}


def refuse_other_kind(given: Mapping[str, Any], system: str, path: Path) -> None:
    """Raises ConfigError for a file that is surely not what `import SYSTEM` reads.

    >>> refuse_other_kind({"a": {"file_name": "a.json"}}, "llamafactory", Path("d.json"))
    Traceback (most recent call last):
    policy_engine.core.errors.ConfigError: `d.json` is LLaMA-Factory's `dataset_info.json`, the list of its datasets
      help: give the training YAML, whose `dataset` names the datasets
    """
    if _SYSTEMS[system][1](given):
        return
    for name, (what, fits) in _SYSTEMS.items():
        if name != system and fits(given):
            raise ConfigError(f"`{path}` is {what}", help=f"`policy-engine import {name}` reads it; {_WANTED[system]}")
    for what, fits in _OTHERS:
        if fits(given):
            raise ConfigError(f"`{path}` is {what}", help=_WANTED[system])
    # A list of datasets whose sources are misspelled. A training YAML has options that are no objects.
    if system == "llamafactory" and given and all(isinstance(value, Mapping) for value in given.values()):
        raise ConfigError(
            f"`{path}` has no option of LLaMA-Factory: each of its entries is an object", help=_WANTED[system]
        )
