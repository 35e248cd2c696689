"""torchvision as it comes for CUDA, beside a torch for CPUs: its compiled operators do not load, and nothing here needs
them. Importing this module first lets the rest of it be imported."""

from __future__ import annotations

from typing import Any

import torch

_register = torch.library.register_fake


def _register_if_there(name: Any, *arguments: Any, **options: Any) -> Any:
    if arguments and callable(arguments[0]):
        return _register(name, *arguments, **options)

    def decorate(function: Any) -> Any:
        try:
            return _register(name, *arguments, **options)(function)
        except RuntimeError:  # there is no operator of that name
            return function

    return decorate


torch.library.register_fake = _register_if_there  # type: ignore[assignment]
try:
    import torchvision  # noqa: F401
finally:
    torch.library.register_fake = _register
