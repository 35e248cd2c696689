"""Keys that importers know are those of the systems themselves, read out of their sources."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy_engine.core.errors import ConfigError
from policy_engine.importers.axolotl import TOLD
from policy_engine.importers.imported import note_of_others, refuse_unknown, warning_of_others
from policy_engine.importers.known_keys import AXOLOTL

ABOUT_MASKS = {
    "pretraining_dataset", "process_reward_model", "reward_model", "role_boundaries", "skip_prepare_dataset",
    "test_datasets",
}  # fmt: skip
"""Keys of axolotl that choose other masks than those of `datasets`."""


def test_axolotl() -> None:
    spec = importlib.util.find_spec("axolotl")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent
    classes = dict(_classes(sorted((folder / "utils" / "schemas").glob("*.py"))))
    theirs = _fields(classes, "AxolotlInputConfig")
    plugins = dict(_classes(sorted((folder / "integrations").glob("*/args.py"))))
    ours = AXOLOTL | TOLD | ABOUT_MASKS
    assert set() == theirs - ours
    # What is known beside the schema are the keys of integrations.
    more = set().union(*(_fields(plugins, name) for name in plugins))
    assert set() == AXOLOTL - theirs - more
    assert {"liger_rope", "cut_cross_entropy", "lora_r", "wandb_project"} <= AXOLOTL
    assert AXOLOTL.isdisjoint(ABOUT_MASKS | TOLD)


def _classes(paths: list[Path]) -> Iterator[tuple[str, ast.ClassDef]]:
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield node.name, node


def _fields(classes: dict[str, ast.ClassDef], name: str) -> set[str]:
    """Fields of a class and of its bases, by their aliases too."""
    if name not in classes:
        return set()
    declared = [item for item in classes[name].body if isinstance(item, ast.AnnAssign)]
    own = {item.target.id for item in declared if isinstance(item.target, ast.Name)}
    keywords = [word for item in declared if isinstance(item.value, ast.Call) for word in item.value.keywords]
    own |= {str(word.value.value) for word in keywords if word.arg == "alias" and isinstance(word.value, ast.Constant)}
    bases = [base.id for base in classes[name].bases if isinstance(base, ast.Name)]
    return own.union(*(_fields(classes, base) for base in bases))


def test_unknown_keys_may_be_numbers() -> None:
    with pytest.raises(ConfigError) as caught:
        refuse_unknown({"sytem": 1, 7: 2, "tags": 3}, {"system", "tags"}, "`columns` of `a`")
    assert "`columns` of `a` has keys that cannot be carried over: `7`, `sytem`" == caught.value.message
    assert str(caught.value.help).startswith("did you mean `system` for `sytem`? ")
    given = {"optim": 1, 7: 2, "packing": 3}
    known = "Not about masks, and left behind: optim.", "Not known here, and left behind: 7."
    assert [*known] == note_of_others(given, {"packing"}, {"optim"})
    (warning,) = warning_of_others(given, {"packing"}, {"optim"}, "a.yaml", "TRL 1.16")
    assert "a.yaml: `7` is left behind" == warning.message
