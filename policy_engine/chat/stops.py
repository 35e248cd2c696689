"""Tokens at which a model stops: `generation_config.json` beside its tokenizer.

Gemma 4's says `"eos_token_id": [1, 106, 50]`: `<eos>`, `<turn|>` and `<|tool_response>`. They are a hint for chat
templates that do not show where a turn of the model ends.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from policy_engine.chat.tokens.load import BUILTIN
from policy_engine.core.errors import TokenizerError

FILE = "generation_config.json"


def stop_tokens(name_or_path: str | Path, tokenizer: Any) -> frozenset[str]:
    """Stop tokens of a model, by the folder, file or hub name of its tokenizer; often empty.

    A hub name is looked up in the local cache only.

    Raises TokenizerError if the file is no JSON object, or its `eos_token_id` neither a number nor a list of them.
    """
    file = _file(name_or_path)
    if file is None:
        return frozenset()
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenizerError(f"cannot read `{file}`: {error}", help="correct it, or remove it") from error
    ids = said.get("eos_token_id") if isinstance(said, dict) else said
    # transformers writes a number for one and a list for several.
    ids = [] if ids is None else ids if isinstance(ids, list) else [ids]
    if any(isinstance(id_, bool) or not isinstance(id_, int) for id_ in ids):
        raise TokenizerError(
            f"`{file}` has an `eos_token_id` that is neither a number nor a list of numbers",
            help="correct it, or remove it",
        )
    # A file of another model may name ids that this vocabulary does not have.
    found = (tokenizer.convert_ids_to_tokens(id_) for id_ in ids if 0 <= id_ < len(tokenizer))
    return frozenset(str(token) for token in found if token)


def _file(name_or_path: str | Path) -> Path | None:
    path = Path(name_or_path).expanduser()
    try:
        if path.is_dir() or path.is_file():
            file = (path if path.is_dir() else path.parent) / FILE
            return file if file.is_file() else None
    except OSError:
        return None
    name = str(name_or_path)
    # `builtin`, a path that is not there, a text in angle brackets: no name of the hub, so nothing is asked.
    if name.count("/") > 1 or not name or name == BUILTIN or name.startswith(("<", ".", "/")):
        return None
    from huggingface_hub import try_to_load_from_cache

    try:
        # The cache alone: the tokenizer was loaded just before, so the file is there if the hub has it.
        cached = try_to_load_from_cache(name, FILE)
    except ValueError:  # no name that the hub allows
        return None
    return Path(cached) if isinstance(cached, str) else None
