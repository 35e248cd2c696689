"""The trainers whose step can be taken, and what each needs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Literal, get_args

from policy_engine.core.choices import Collator, Denominator
from policy_engine.core.errors import ConfigError
from policy_engine.doctor.steps import Runner


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One trainer that `doctor` can run.

    `needs` are modules, `install` what to give to pip. `config` are the module and classes of its settings, else
    `SETTINGS` of the runner's module are. `weights` says how they reach its loss: by `weighted_trainer`, on its own,
    divided by their sum or by the number of tokens, or (None) not at all.
    """

    needs: tuple[str, ...]
    install: str
    config: tuple[str, tuple[str, ...]] | None = None
    weights: Literal["wrapped"] | Denominator | None = None


_ENTRIES: Final = {
    "transformers": _Entry(
        needs=("torch", "accelerate", "datasets"),
        install="torch accelerate datasets",
        config=("transformers", ("TrainingArguments",)),
        weights="wrapped",
    ),
    "trl": _Entry(
        needs=("torch", "accelerate", "datasets", "trl"),
        install="torch trl",
        config=("trl", ("SFTConfig",)),
        weights="wrapped",
    ),
    "trl-grpo": _Entry(
        needs=("torch", "accelerate", "datasets", "trl"), install="torch trl", config=("trl", ("GRPOConfig",))
    ),
    "llamafactory": _Entry(
        needs=("torch", "accelerate", "datasets", "llamafactory"),
        install="llamafactory",
        config=(
            "llamafactory.hparams",
            ("DataArguments", "FinetuningArguments", "GeneratingArguments", "ModelArguments", "TrainingArguments"),
        ),
    ),
    "torchtune": _Entry(needs=("torch", "torchtune", "torchao"), install="torch torchao torchtune"),
    "verl": _Entry(needs=("torch", "verl", "tensordict"), install="verl", weights="weights"),
    "verl-ppo": _Entry(needs=("torch", "verl", "tensordict", "ray"), install="verl"),
    "axolotl": _Entry(needs=("torch", "accelerate", "datasets", "axolotl"), install="axolotl"),
    "swift": _Entry(needs=("torch", "modelscope", "swift"), install="ms-swift", weights="tokens"),
}
TRAINERS: Final = tuple(_ENTRIES)
"""The trainers by name; each is run by `run_NAME` in the module of that name, with `_` for `-`."""
WEIGHTED: Final = tuple(name for name, entry in _ENTRIES.items() if entry.weights == "wrapped")
"""Those that `weighted_trainer` gives weights."""
OWN_WEIGHTS: Final[dict[str, Denominator]] = {
    name: entry.weights for name, entry in _ENTRIES.items() if entry.weights in ("weights", "tokens")
}
"""Those whose own loss takes weights, and what it divides by."""
COLLATORS: Final[tuple[Collator, ...]] = get_args(Collator)


def runner_of(trainer: str) -> Runner:
    """The function that runs a trainer's step.

    Raises ConfigError if there is no such trainer, or what it needs is not installed.
    """
    entry = _ENTRIES.get(trainer)
    if entry is None:
        raise ConfigError(f"there is no trainer `{trainer}` here", help=f"the trainers are {', '.join(TRAINERS)}")
    # Looked for, not imported: importing torch takes seconds, and the options are checked first.
    missing = [name for name in entry.needs if find_spec(name) is None]
    if missing:
        raise not_installed(trainer, f"{' and '.join(missing)} not installed")
    name = _module(trainer)
    runner: Runner = getattr(import_module(f"policy_engine.doctor.trainers.{name}"), name)
    return runner


def _module(trainer: str) -> str:
    return f"run_{trainer.replace('-', '_')}"


def not_installed(trainer: str, what: str) -> ConfigError:
    """The error for a trainer that is not there, or of which a part cannot be imported.

    >>> not_installed("swift", "modelscope not installed").message
    '`swift` cannot take a step: modelscope not installed'
    """
    return ConfigError(
        f"`{trainer}` cannot take a step: {what}",
        help=f"beside policy-engine: pip install {_ENTRIES[trainer].install} (any build of torch does, the CPU is "
        "enough)",
    )


def settings_read(trainer: str) -> tuple[str, ...] | None:
    """Settings of a trainer that are read here, by their paths.

    None where a class of the trainer's says it.

    >>> settings_read("verl")
    ('data.max_length', 'data.truncation', 'data.pad_mode')
    """
    if _ENTRIES[trainer].config is not None:
        return None
    names: tuple[str, ...] = import_module(f"policy_engine.doctor.trainers.{_module(trainer)}").SETTINGS
    return names


ALSO_TAKEN: Final = frozenset({"pad_token"})
"""Settings that count whatever the trainer: what pads."""


def check_names(trainer: str, names: Iterable[str]) -> None:
    """Raises ConfigError if one of the names is not a setting of the trainer.

    It needs the trainer installed, but not torch.
    """
    wanted = [name for name in names if name not in ALSO_TAKEN]
    if not wanted:
        return
    config, listed = _ENTRIES[trainer].config, settings_read(trainer)
    if config is None or listed is not None:
        known = sorted(listed or ())
        said, otherwise = (
            f"doctor reads no setting `{{}}` of {trainer}",
            f"those that say something are {', '.join(known)}",
        )
    else:
        module, titles = config
        try:
            classes: list[Any] = [getattr(import_module(module), title) for title in titles]
        except ImportError as error:
            raise not_installed(trainer, " ".join(str(error).split())) from None
        known = sorted({f.name for cls in classes for f in fields(cls)})
        titled = f"`{titles[0]}` of {module}" if len(titles) == 1 else trainer
        said, otherwise = f"{titled} has no setting `{{}}`", "leave it out"
    for name in wanted:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ConfigError(said.format(name), help=f"did you mean `{near[0]}`?" if near else otherwise)
