"""The vocabulary: parts of a turn, groups of parts, effects, reasons, and reserved words."""

from __future__ import annotations

from typing import Final, Literal

IGNORE_INDEX: Final = -100
"""Label of a token that carries no loss (PyTorch's `cross_entropy` default)."""

Effect = Literal["train", "mask"]
Reason = Literal["rule", "default", "straddle", "structural", "truncated"]

PART_DOCS: Final[dict[str, str]] = {
    "bos": "begin-of-sequence that the template or the tokenizer writes",
    "preamble": "text no message wrote: default system prompt, dates",
    "preamble.tools": "tool schemas",
    "preamble.documents": "documents given beside the messages",
    "header": "opens a message, up to where its author starts writing",
    "reasoning.open": "delimiter that opens the thinking",
    "reasoning.text": "the thinking",
    "reasoning.close": "delimiter that closes the thinking",
    "empty_reasoning": "a delimiter pair with nothing between, put there by the template",
    "text": "the message's content",
    "tool_call": "framing of a tool call",
    "tool_call.name": "name of the called tool",
    "tool_call.arguments": "arguments of the call",
    "media": "image, audio and video placeholders",
    "markup": "other scaffold the author of the turn writes inside the body",
    "eot": "marker that ends this turn",
    "eod": "a further end-of-document marker",
    "separator": "whitespace and scaffold between turns",
    "generation_prompt": "a trailing opener with nothing after it; never trainable",
}
"""Every part a segment can have, with its meaning. A selector `X` covers `X` and every `X.…`."""

PARTS: Final[tuple[str, ...]] = tuple(PART_DOCS)

BODY: Final = frozenset(
    {"reasoning.open", "reasoning.text", "reasoning.close", "text", "tool_call", "tool_call.name",
     "tool_call.arguments", "media", "markup"}
)  # fmt: skip
EOS: Final = frozenset({"eot", "eod"})
UNOWNED: Final = frozenset({"bos", "preamble", "preamble.tools", "preamble.documents", "generation_prompt"})
"""Parts that belong to no message."""
TURN: Final = frozenset(PARTS) - UNOWNED
UNTRAINABLE: Final = frozenset({"generation_prompt"})
ENDINGS: Final = frozenset({"eot", "eod", "separator"})
"""Parts on which `after ROLE` means `of ROLE`."""


def parts_of(selector: str) -> frozenset[str] | None:
    """The parts that the name of a part or group covers; None if no part has that name.

    >>> sorted(parts_of("eos"))
    ['eod', 'eot']
    >>> sorted(parts_of("reasoning"))
    ['reasoning.close', 'reasoning.open', 'reasoning.text']
    """
    groups = {"body": BODY, "eos": EOS, "turn": TURN}
    if selector in groups:
        return groups[selector]
    found = frozenset(p for p in PARTS if p == selector or p.startswith(selector + "."))
    return found or None


GROUPS: Final = ("body", "eos", "turn")
KEYWORDS: Final = (
    "train", "mask", "scale", "by", "never", "always", "use", "let", "on", "everything", "in", "spans", "first",
    "last", "trained", "of", "right", "after", "before", "where", "unless", "weight", "and", "or", "not", "has",
    "contains", "matches", "true", "false", "null", "language",
)  # fmt: skip
PART_NAMES: Final = tuple(dict.fromkeys(name for p in PARTS for name in (p.split(".")[0],)))
"""First names of parts; with the groups and keywords these are reserved, a role of such a name is quoted."""

KNOWN_ROLES: Final = ("system", "developer", "user", "assistant", "tool", "ipython", "function", "critic")
"""Roles that need no declaration. Any other role draws a warning unless a dataset file declares it."""

SETTINGS: Final[dict[str, tuple[str, ...]]] = {
    "straddle": ("mask", "train", "error"),
    "empty": ("drop", "keep", "error"),
    "unrendered": ("error", "warn", "ignore"),
}
"""Settings of `on NAME VALUE` and the values each takes. Unset, `straddle` is `mask` and `empty` is `drop`; unset
`unrendered` is an error where a trained turn lost its text or its tool calls, and a warning elsewhere."""

SCOPES: Final[dict[str, tuple[str, ...] | None]] = {
    "message": None,
    "part": None,
    "call": None,
    "sample": None,
    "turn": ("index", "from_end", "round", "chars"),
    "segment": ("text", "empty"),
}
"""Scopes of a condition's field, with the fields each has; None where the data decides."""
