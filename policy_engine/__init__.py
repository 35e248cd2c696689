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

# For type checkers and editors; a test compares it with the table below.
if TYPE_CHECKING:
    from policy_engine.adapters.media import MediaCollator as MediaCollator
    from policy_engine.chat.media.open_media import MediaOptions as MediaOptions
    from policy_engine.chat.template import ChatTemplate as ChatTemplate
    from policy_engine.chat.loading import load_tokenizer as load_tokenizer
    from policy_engine.chat.tokenizer import ChatTokenizer as ChatTokenizer
    from policy_engine.core.diagnostics import Diagnostic as Diagnostic
    from policy_engine.core.errors import (
        AttributionError as AttributionError,
        ConfigError as ConfigError,
        DataError as DataError,
        DriftError as DriftError,
        GuardError as GuardError,
        MediaError as MediaError,
        PolicyCheckError as PolicyCheckError,
        PolicyEngineError as PolicyEngineError,
        PolicyError as PolicyError,
        PolicySyntaxError as PolicySyntaxError,
        PolicyWarning as PolicyWarning,
        RowError as RowError,
        TemplateError as TemplateError,
        TokenizerError as TokenizerError,
        UnrenderedError as UnrenderedError,
    )
    from policy_engine.core.vocabulary import IGNORE_INDEX as IGNORE_INDEX
    from policy_engine.data.conversation import Conversation as Conversation
    from policy_engine.lang.format import format_policy as format_policy
    from policy_engine.lang.parse import parse as parse
    from policy_engine.mask.masker import (
        DoubtfulRoleWarning as DoubtfulRoleWarning,
        LostFieldWarning as LostFieldWarning,
        MaskedRow as MaskedRow,
        Masker as Masker,
        QuotedArgumentsWarning as QuotedArgumentsWarning,
    )
    from policy_engine.mask.token_mask import TokenMask as TokenMask
    from policy_engine.mask.warner import (
        DataWarning as DataWarning,
        LeftOutWarning as LeftOutWarning,
        OpenAnswerWarning as OpenAnswerWarning,
        PrintedDataWarning as PrintedDataWarning,
        UnusedColumnWarning as UnusedColumnWarning,
        WrittenCallWarning as WrittenCallWarning,
    )
    from policy_engine.proof.policy_diff import compare as compare
    from policy_engine.proof.policy_proof import prove as prove
    from policy_engine.proof.load_policy import load_policy as load_policy, policy_from_text as policy_from_text
    from policy_engine.rules.program import Program as Program

_HOMES = {
    "adapters.media": ("MediaCollator",),
    "data.conversation": ("Conversation",),
    "chat.media.open_media": ("MediaOptions",),
    "chat.template": ("ChatTemplate",),
    "chat.loading": ("load_tokenizer",),
    "chat.tokenizer": ("ChatTokenizer",),
    "core.diagnostics": ("Diagnostic",),
    "core.errors": (
        "AttributionError",
        "ConfigError",
        "DataError",
        "DriftError",
        "GuardError",
        "MediaError",
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
    "mask.masker": ("DoubtfulRoleWarning", "LostFieldWarning", "MaskedRow", "Masker", "QuotedArgumentsWarning"),
    "mask.token_mask": ("TokenMask",),
    "mask.warner": (
        "DataWarning",
        "LeftOutWarning",
        "OpenAnswerWarning",
        "PrintedDataWarning",
        "UnusedColumnWarning",
        "WrittenCallWarning",
    ),
    "proof.policy_diff": ("compare",),
    "proof.policy_proof": ("prove",),
    "proof.load_policy": ("load_policy", "policy_from_text"),
    "rules.program": ("Program",),
}
_HOME_OF = {name: f"policy_engine.{module}" for module, names in _HOMES.items() for name in names}
__all__ = [*sorted(_HOME_OF), "__version__"]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module `policy_engine` has no attribute `{name}`")
    value = getattr(import_module(home), name)
    globals()[name] = value  # so that the next use is a plain lookup
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
