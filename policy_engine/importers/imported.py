"""The result of an importer: a policy, a dataset file, and what could not be carried over."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import TextWrapper
from typing import Any

import yaml

from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import ConfigError, DataError
from policy_engine.core.suggest import file_meant, nearest
from policy_engine.data.yaml_text import read_yaml


@dataclass(frozen=True, kw_only=True)
class Imported:
    """One dataset of a foreign configuration.

    `rules` are the policy's lines in order, `dataset` the keys of the dataset file, `notes` what a reader has to know:
    settings that are harmless to leave behind, and where a policy says it otherwise. `warnings` are of what is perhaps
    not harmless; those of the whole configuration are the same in each of its datasets.
    """

    name: str
    source: str
    rules: Sequence[str]
    dataset: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    warnings: Sequence[Diagnostic] = ()

    @property
    def policy_text(self) -> str:
        """The policy, opening with where it comes from and the notes.

        >>> print(Imported(name="sft", source="TRL, sft.yaml", rules=["train assistant"]).policy_text, end="")
        # Imported from TRL, sft.yaml.
        train assistant
        """
        listed = TextWrapper(110, "- ", "  ", break_long_words=False, break_on_hyphens=False)
        notes = [line for note in self.notes for line in listed.wrap(" ".join(note.split()))]
        lines = [f"# Imported from {self.source}.", *(f"# {line}" for line in notes)]
        return "\n".join([*lines, *self.rules]) + "\n"

    @property
    def dataset_text(self) -> str:
        """The dataset file.

        >>> print(Imported(name="sft", source="TRL, sft.yaml", rules=["train assistant"]).dataset_text, end="")
        # Imported from TRL, sft.yaml.
        policy: sft.policy
        """
        # In the order in which an importer built it, as a person would write it.
        body = yaml.safe_dump({"policy": f"{self.name}.policy", **self.dataset}, sort_keys=False, allow_unicode=True)
        return f"# Imported from {self.source}.\n{body}"


def read_config(path: Path) -> dict[str, Any]:
    """Reads a YAML or JSON configuration.

    Raises DataError if it cannot be read, ConfigError if it is not a mapping.
    """
    try:
        found = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        meant = file_meant(path)
        raise DataError(f"there is no file `{path}`", help=meant or "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"`{path}` cannot be read: {error}", help="it has to be YAML or JSON in UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", error)
        raise ConfigError(f"{path}{where}: not valid YAML: {problem}", help="fix the line, or quote it") from None
    if not isinstance(found, dict):
        raise ConfigError(f"`{path}` holds no settings", help="give the trainer's own configuration file")
    return found


def refuse_unknown(given: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Raises ConfigError naming every key that no importer knows."""
    unknown = _unknown(given, known)
    if unknown:
        meant = {key: nearest(key, known) for key in unknown}
        slips = ", ".join(f"`{near}` for `{key}`" for key, near in meant.items() if near)
        raise ConfigError(
            f"{where} has keys that cannot be carried over: {', '.join(f'`{key}`' for key in unknown)}",
            help=f"{f'did you mean {slips}? ' if slips else ''}"
            "remove a key if it says nothing about which tokens are trained",
        )


def refuse_slips(given: Mapping[str, Any], about: Collection[str], where: str) -> None:
    """Raises ConfigError for keys that are close to one of those `about` masks.

    Passed over, the settings that were meant would be lost in silence.
    """
    # Strict: a configuration has hundreds of keys about other things, which must not be taken for slips.
    meant = {str(key): nearest(str(key), about, cutoff=0.9) for key in sorted(set(given) - set(about), key=str)}
    slips = {key: near for key, near in meant.items() if near}
    if slips:
        said = ", ".join(f"`{near}` for `{key}`" if len(slips) > 1 else f"`{near}`" for key, near in slips.items())
        raise cannot("`, `".join(slips), where, f"nobody knows {_it(slips)}; did you mean {said}?",
                     f"spell {_it(slips)} so, or remove {_it(slips)}")  # fmt: skip


def note_of_others(
    given: Mapping[str, Any],
    about: Collection[str],
    known: Collection[str] | None = None,
    *,
    what: str = "Not about masks",
) -> list[str]:
    """Notes of the keys that are not carried over, if there are any.

    All of them are `what`; with `known`, only those that are in it.

    >>> note_of_others({"optim": "adamw", "packing": True}, {"packing"})
    ['Not about masks, and left behind: optim.']
    """
    others = _unknown(given, about)
    strange = [] if known is None else _unknown(given, about, known)
    named = ((what, [key for key in others if key not in strange]), ("Not known here", strange))
    return [f"{why}, and left behind: {', '.join(keys)}." for why, keys in named if keys]


def warning_of_others(
    given: Mapping[str, Any], about: Collection[str], known: Collection[str], where: str, release: str
) -> list[Diagnostic]:
    """A warning of keys that are left behind and not `known`, if there are any.

    >>> [warning] = warning_of_others({"optimm": 1}, {"packing"}, {"optim"}, "a.yaml", "TRL 1.16")
    >>> warning.message
    'a.yaml: `optimm` is left behind'
    """
    strange = _unknown(given, about, known)
    if not strange:
        return []
    message = f"{where}: {', '.join(f'`{key}`' for key in strange)} {'is' if len(strange) == 1 else 'are'} left behind"
    help = (
        f"{release} has no such key, or it may be about masks: check that it says nothing about which tokens are "
        "trained, or remove it"
    )
    return [Diagnostic(code="PE503", severity="warning", message=message, help=help)]


def _unknown(given: Mapping[str, Any], *known: Collection[str]) -> list[str]:
    """The keys that are in none of `known`, in order. YAML has numbers for keys too."""
    return sorted({str(key) for key in given}.difference(*known))


def _it(several: Collection[str]) -> str:
    return "it" if len(several) == 1 else "them"


def cannot(key: str, where: str, why: str, instead: str) -> ConfigError:
    """The error for a setting that no policy can express.

    For several settings, `key` is their names with "`, `" between.

    >>> cannot("packing", "a.yaml", "rows are packed later", "apply --pack").message
    'a.yaml: `packing` cannot be carried over: rows are packed later'
    """
    return ConfigError(f"{where}: `{key}` cannot be carried over: {why}", help=instead)
