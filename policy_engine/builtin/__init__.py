"""Data that comes with the package: a small tokenizer with a chat template, and sample rows.

`chat.loading.load_tokenizer("builtin")` loads the tokenizer; `FOLDER` is also a tokenizer folder as transformers
reads it. How the tokenizer was trained: `scripts/builtin_tokenizer`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).parent
"""Holds `tokenizer.json`, `tokenizer_config.json` and `chat_template.jinja`."""
TOKENIZER: Final = FOLDER / "tokenizer.json"
TEMPLATE: Final = FOLDER / "chat_template.jinja"
SAMPLE: Final = FOLDER / "sample.jsonl"
"""Conversations as OpenAI messages, one in a line.

The row `broken-on-purpose` cannot be read as a conversation.
"""


def sample_rows() -> list[dict[str, Any]]:
    """The rows of the sample dataset, in order.

    >>> len(sample_rows()) > 3
    True
    """
    return [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]


def template_text() -> str:
    """The text of the built-in chat template.

    >>> "<|im_start|>" in template_text()
    True
    """
    return TEMPLATE.read_text(encoding="utf-8")
