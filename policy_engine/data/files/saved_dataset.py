"""Folders that `datasets.save_to_disk` wrote: their data files, in order.

chats/state.json    {"_data_files": [{"filename": "data-00000-of-00002.arrow"}, …]}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from policy_engine.core.errors import DataError


def arrow_files(folder: Path) -> list[Path] | None:
    """The data files of a folder that `datasets.save_to_disk` wrote, in order; else None.

    Raises DataError if the folder holds several splits, or if a file that it lists is missing.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = [str(split) for split in _listed(folder / "dataset_dict.json", "splits")]
        # One split leaves nothing to choose.
        if len(splits) == 1:
            return arrow_files(folder / splits[0])
        names = ", ".join(f"`{folder / split}`" for split in splits)
        raise DataError(f"`{folder}` holds several splits", help=f"give one of {names}")
    # Both: other programs write a `state.json` too.
    if not (folder / "state.json").is_file() or not (folder / "dataset_info.json").is_file():
        return None
    files = [folder / str(entry["filename"]) for entry in _listed(folder / "state.json", "_data_files")]
    for file in files:
        if not file.is_file():
            raise DataError(f"`{folder}` lacks `{file.name}`, which its state.json lists", help="save it to disk again")
    return files


def _listed(path: Path, key: str) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"`{path}` cannot be read: {error}", help="save the dataset to disk again") from None
    return list(found)
