"""Tokenizer files of Mistral's later versions, made of the one that mistral-common ships.

Versions differ in how messages are written, and in the names of control tokens. The vocabulary is the same.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path


def tekken_of(version: str) -> Path:
    """A file of a version from v11 on, with all control tokens that mistral-common knows."""
    import mistral_common
    from mistral_common.tokens.tokenizers.base import SpecialTokens

    data = json.loads((Path(mistral_common.__file__).parent / "data" / "tekken_240911.json").read_text())
    first = ["<unk>", "<s>", "</s>"]
    names = first + [token.value for token in SpecialTokens if token.value not in first]
    data["config"]["version"] = version
    data["special_tokens"] = [{"rank": at, "token_str": name, "is_control": True} for at, name in enumerate(names)]
    if version == "v15":  # which has settings of the model, written into the conversation
        efforts = {"type": "enum", "values": ["none", "high"], "accepts_none": True, "default": "none"}
        data["model_settings_builder"] = {"reasoning_effort": efforts}
    file = Path(tempfile.mkdtemp(prefix="policy-engine-test-mistral-")) / f"tekken_{version}.json"
    file.write_text(json.dumps(data))
    return file
