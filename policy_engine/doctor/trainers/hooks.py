"""Sets, silences and records things during a trainer's step, and puts all back after it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from typing import Any
from unittest.mock import patch

from policy_engine.core.errors import ConfigError

Seen = list[tuple[dict[str, Any], float, Any]]
"""Batch, loss and model of each step."""


@contextmanager
def watched(trainer: type[Any], method: str = "training_step") -> Iterator[Seen]:
    """Records batch, loss and model of each step that trainers of a class take.

    The class is of transformers' kind. Recorded is what its own `method` is given and returns.
    """
    seen: Seen = []
    cls: Any = trainer
    taken = getattr(cls, method)

    def spy(self: Any, model: Any, inputs: Mapping[str, Any], *rest: Any, **more: Any) -> Any:
        # Copied before the step, which may change its inputs (transformers pops `labels` for some losses).
        batch = {name: value.clone() if hasattr(value, "clone") else value for name, value in inputs.items()}
        loss = taken(self, model, inputs, *rest, **more)
        seen.append((batch, float(loss), self.model))
        return loss

    with patch.object(cls, method, spy):
        yield seen


def first_of(seen: Seen) -> tuple[dict[str, Any], float, Any]:
    """The first step that was recorded.

    Raises ConfigError if there was no step.

    >>> first_of([({"labels": [[-100, 7]]}, 2.5, None)])
    ({'labels': [[-100, 7]]}, 2.5, None)
    """
    if not seen:
        raise ConfigError(
            "the trainer took no step: none of the rows came to it",
            help="look at the settings that drop rows or end training: lengths, filters, callbacks",
        )
    return seen[0]


@contextmanager
def quietly() -> Iterator[None]:
    """No progress bars of datasets and transformers, and no advice in their logs, meanwhile."""
    import datasets

    logging: Any = import_module("transformers.utils.logging")
    bars = (
        (not datasets.are_progress_bars_disabled(), datasets.disable_progress_bars, datasets.enable_progress_bars),
        (logging.is_progress_bar_enabled(), logging.disable_progress_bar, logging.enable_progress_bar),
    )
    for _, off, _ in bars:
        off()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        for shown, _, on in bars:
            if shown:
                on()


@contextmanager
def surroundings(**variables: str) -> Iterator[StringIO]:
    """Sets environment variables for the step alone, and switches progress bars off.

    What the step writes to the terminal goes to the text that is given.
    """
    said = StringIO()
    # Variables that the trainer sets itself go afterwards, too.
    with patch.dict(os.environ, variables), quietly(), redirect_stderr(said), redirect_stdout(said):
        yield said
