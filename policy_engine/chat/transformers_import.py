"""Imports transformers without its advice to install torch, and says what its release does."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from policy_engine.core.versions import version_of

_NO_ADVICE: Final = "TRANSFORMERS_NO_ADVISORY_WARNINGS"


def transformers() -> Any:
    """The package.

    The first import of it in a process says nothing; loggers and the environment stay as they were.
    """
    # The variable is read once, while the package is imported; it is the user's if it is set.
    if "transformers" not in sys.modules and _NO_ADVICE not in os.environ:
        os.environ[_NO_ADVICE] = "1"
        try:
            import transformers as package
        finally:
            del os.environ[_NO_ADVICE]
        return package
    import transformers as package

    return package


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
