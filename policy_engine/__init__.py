"""Decide, token by token, which tokens of a chat carry loss.

    from policy_engine import Masker, load_policy

    masker = Masker(load_policy("my.policy"), tokenizer)
    row = masker(messages, tools=tools)          # input_ids, labels, attention_mask, and why
    dataset.map(masker.batch, batched=True)      # Hugging Face datasets

What is listed in `__all__` is the public interface, with `policy_engine.testing`. Names are imported when they are
first used: `import policy_engine` costs no more than this file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from policy_engine._version import __version__

if TYPE_CHECKING:
    from policy_engine.chat.template import ChatTemplate
    from policy_engine.chat.tokenizer import ChatTokenizer, load_tokenizer
    from policy_engine.core.diagnostics import Diagnostic
    from policy_engine.core.errors import (
        AttributionError,
        ConfigError,
        DataError,
        GuardError,
        PolicyCheckError,
        PolicyEngineError,
        PolicyError,
        PolicySyntaxError,
        PolicyWarning,
        RowError,
        TemplateError,
        TokenizerError,
        UnrenderedError,
    )
    from policy_engine.core.vocabulary import IGNORE_INDEX
    from policy_engine.data.conversation import Conversation
    from policy_engine.lang.format import format_policy
    from policy_engine.lang.parse import parse
    from policy_engine.mask.masker import DoubtfulRoleWarning, LostFieldWarning, MaskedRow, Masker
    from policy_engine.mask.token_mask import TokenMask
    from policy_engine.proof.diff import compare
    from policy_engine.proof.findings import prove
    from policy_engine.proof.load import load_policy, policy_from_text
    from policy_engine.rules.program import Program

__all__ = [
    "IGNORE_INDEX",
    "AttributionError",
    "ChatTemplate",
    "ChatTokenizer",
    "ConfigError",
    "Conversation",
    "DataError",
    "Diagnostic",
    "DoubtfulRoleWarning",
    "GuardError",
    "LostFieldWarning",
    "MaskedRow",
    "Masker",
    "PolicyCheckError",
    "PolicyEngineError",
    "PolicyError",
    "PolicySyntaxError",
    "PolicyWarning",
    "Program",
    "RowError",
    "TemplateError",
    "TokenMask",
    "TokenizerError",
    "UnrenderedError",
    "__version__",
    "compare",
    "format_policy",
    "load_policy",
    "load_tokenizer",
    "parse",
    "policy_from_text",
    "prove",
]

_HOMES = {
    "data.conversation": ("Conversation",),
    "chat.template": ("ChatTemplate",),
    "chat.tokenizer": ("ChatTokenizer", "load_tokenizer"),
    "core.diagnostics": ("Diagnostic",),
    "core.errors": (
        "AttributionError",
        "ConfigError",
        "DataError",
        "GuardError",
        "PolicyCheckError",
        "PolicyEngineError",
        "PolicyError",
        "PolicySyntaxError",
        "PolicyWarning",
        "RowError",
        "TemplateError",
        "TokenizerError",
        "UnrenderedError",
    ),
    "core.vocabulary": ("IGNORE_INDEX",),
    "lang.format": ("format_policy",),
    "lang.parse": ("parse",),
    "mask.masker": ("DoubtfulRoleWarning", "LostFieldWarning", "MaskedRow", "Masker"),
    "mask.token_mask": ("TokenMask",),
    "proof.diff": ("compare",),
    "proof.findings": ("prove",),
    "proof.load": ("load_policy", "policy_from_text"),
    "rules.program": ("Program",),
}
_HOME_OF = {name: f"policy_engine.{module}" for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module `policy_engine` has no attribute `{name}`")
    value = getattr(import_module(home), name)
    globals()[name] = value  # so that the next use is a plain lookup
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
