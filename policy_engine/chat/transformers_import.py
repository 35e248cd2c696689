"""Imports transformers without its advice to install torch, and says what its release does.

import transformers                       reads 1,700 files of models, for the names in them
from transformers import AutoTokenizer    reads them again: 0.25 s, saved here
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from policy_engine.core.versions import version_of

_NO_ADVICE: Final = "TRANSFORMERS_NO_ADVISORY_WARNINGS"
_NAMES_OF_FOLDER: Final = "create_import_structure_from_path"
"""Function of `transformers.utils.import_utils`, cached since 4.56 at the latest."""


def transformers() -> Any:
    """The package.

    The first import of it in a process says nothing; loggers and the environment stay as they were.
    """
    with contextlib.nullcontext() if "transformers" in sys.modules else _first_import():
        import transformers as package
    return package


@contextlib.contextmanager
def _first_import() -> Iterator[None]:
    """Has transformers give no advice, and remember the names in all 560 folders of its models.

    It remembers 128 of them, and so reads all of them again for `transformers.models`, whose names are the same.
    """
    usual = functools.lru_cache

    def larger(maxsize: Any = 128, typed: bool = False) -> Any:
        # Without arguments, the decorator gets the function itself.
        return usual(None)(maxsize) if getattr(maxsize, "__name__", "") == _NAMES_OF_FOLDER else usual(maxsize, typed)

    # The variable is read once, while the package is imported; it is the user's if it is set.
    is_set = _NO_ADVICE in os.environ
    os.environ.setdefault(_NO_ADVICE, "1")
    functools.lru_cache = larger
    try:
        yield
    finally:
        functools.lru_cache = usual
        if not is_set:
            del os.environ[_NO_ADVICE]


def json_schema(function: Callable[..., Any]) -> Any:
    """The JSON schema of a function that is given as a tool, as transformers makes it."""
    transformers()
    from transformers.utils.chat_template_utils import get_json_schema

    return get_json_schema(function)


@functools.cache
def reasoning_has_aliases() -> bool:
    """True if the installed transformers offers a message's reasoning under every name for it.

    It does so from 5.21 on (`transformers/utils/chat_template_utils.py`); before that, a template sees the names of the
    data.
    """
    # Importing the package for its version takes a second.
    major, minor, *_ = (version_of("transformers") or "0.0").split(".")
    return (int(major), int(minor)) >= (5, 21)
