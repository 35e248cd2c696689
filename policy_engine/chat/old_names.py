"""Names of modules before they moved out of this folder, for pickles that were made then."""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any, Final

_NEW_NAMES: Final = {
    "policy_engine.chat.conversation": "policy_engine.data.conversation",
    "policy_engine.chat.dataset": "policy_engine.data.dataset",
    "policy_engine.chat.fast_backend": "policy_engine.chat.tokens.fast_backend",
    "policy_engine.chat.formats": "policy_engine.data.formats",
    "policy_engine.chat.tokenize": "policy_engine.chat.tokenizer",
}
"""Those whose classes are in pickles of a Masker, a ChatTokenizer or a Conversation."""


class _Moved(ModuleType):
    """A module under its old name; the new one is imported when a name of it is asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python asks every module for these
            raise AttributeError(name)
        return getattr(import_module(_NEW_NAMES[self.__name__]), name)


def keep_old_names() -> None:
    """Lets pickles of earlier versions find what they name."""
    for name in _NEW_NAMES:
        # `setdefault`: whoever has imported something under the name keeps it.
        sys.modules.setdefault(name, _Moved(name))
