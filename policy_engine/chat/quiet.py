"""transformers, imported without its advice to install torch, which nothing here needs."""

from __future__ import annotations

import os
import sys
from typing import Any, Final

_NO_ADVICE: Final = "TRANSFORMERS_NO_ADVISORY_WARNINGS"


def transformers() -> Any:
    """The package. The first import of it in a process says nothing; loggers and the environment stay as they were."""
    if "transformers" not in sys.modules and _NO_ADVICE not in os.environ:
        os.environ[_NO_ADVICE] = "1"
        try:
            import transformers as package
        finally:
            del os.environ[_NO_ADVICE]
        return package
    import transformers as package

    return package
