"""The trainers whose step can be taken, and what each needs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.util import find_spec
from typing import Final

from policy_engine.adapters.doctor.steps import Runner
from policy_engine.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """`needs` are modules, `install` what to give to pip; `config` the module and the class of its settings; `weighted`
    whether `weighted_trainer` serves it."""

    needs: tuple[str, ...]
    install: str
    config: tuple[str, str]
    weighted: bool = False


_ENTRIES: Final = {
    "transformers": _Entry(
        needs=("torch", "accelerate", "datasets"),
        install="torch accelerate datasets",
        config=("transformers", "TrainingArguments"),
        weighted=True,
    ),
    "trl": _Entry(
        needs=("torch", "accelerate", "datasets", "trl"),
        install="torch trl",
        config=("trl", "SFTConfig"),
        weighted=True,
    ),
}
TRAINERS: Final = tuple(_ENTRIES)
"""The trainers by name; each is run by `run_NAME` in the module of that name."""
WEIGHTED: Final = tuple(name for name, entry in _ENTRIES.items() if entry.weighted)
"""Those that can be given weights."""
COLLATORS: Final = ("padding", "seq2seq", "token_classification", "flattening", "language_modeling", "default")
"""For transformers: `padding` is ours, the others are its `DataCollatorFor…`, `DataCollatorWithFlattening` and
`default_data_collator`."""


def runner_of(trainer: str) -> Runner:
    """What runs a trainer's step. Raises ConfigError if there is none, or what it needs is not installed."""
    entry = _ENTRIES.get(trainer)
    if entry is None:
        raise ConfigError(f"there is no trainer `{trainer}` here", help=f"the trainers are {', '.join(TRAINERS)}")
    missing = [name for name in entry.needs if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"`{trainer}` cannot take a step: {' and '.join(missing)} not installed",
            help=f"beside policy-engine: pip install {entry.install} (any build of torch does, the CPU is enough)",
        )
    name = f"run_{trainer}"
    runner: Runner = getattr(import_module(f"policy_engine.adapters.doctor.{name}"), name)
    return runner


ALSO_TAKEN: Final = frozenset({"pad_token"})
"""Settings that count whatever the trainer: what pads."""


def check_names(trainer: str, names: Iterable[str]) -> None:
    """Raises ConfigError if one of the names is no setting of the trainer; that needs it installed, but not torch."""
    wanted = [name for name in names if name not in ALSO_TAKEN]
    if not wanted:
        return
    module, title = _ENTRIES[trainer].config
    known = sorted(f.name for f in fields(getattr(import_module(module), title)))
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(
                f"`{title}` of {module} has no setting `{name}`",
                help=f"did you mean `{near[0]}`?" if near else "leave it out",
            )
