"""Values that are taken as they are, beside what typer makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from policy_engine.cli.app import app_with
from policy_engine.cli.plain_values import _HARD, plain, take_plain_values

VALUES = ["text", "", "0", "1", "007", "-1", "65536", "1e3", "¹", "json", "JSON", "drop", ".", "no/such", "-", None]


def own_ways() -> list[tuple[Any, Any]]:
    """Each parameter of each verb as typer converts it, and as it is taken here."""
    theirs, ours = (typer.main.get_command(app_with()) for _ in range(2))
    take_plain_values(ours)
    return list(zip(parameters(theirs), parameters(ours)))


def parameters(command: Any) -> Iterator[Any]:
    yield from command.get_params(typer.Context(command))
    for below in getattr(command, "commands", {}).values():
        yield from parameters(below)


def converted(parameter: Any, value: Any) -> Any:
    context = typer.Context(typer.main.get_command(app_with(())))
    try:
        return parameter.get_runtime_param().coerce(value, param=parameter, ctx=context)
    except typer.BadParameter as error:
        return error.message


@pytest.mark.skipif(
    not any(hasattr(p, "get_runtime_param") for p in typer.main.get_command(app_with(())).params),
    reason="this release of typer makes no schemas",
)
def test_every_option_of_every_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: set[tuple[str, str]] = set()
    for theirs, ours in own_ways():
        # Options that are declared once are the same in each verb.
        descriptor = theirs.type_descriptor
        one = (str(descriptor.annotation), str(vars(descriptor.parameter_info)))
        if one in seen:
            continue
        seen.add(one)
        several = theirs.multiple or theirs.nargs == -1
        for value in VALUES:
            given = (value, "text") if several and value is not None else value
            assert converted(theirs, given) == converted(ours, given), (theirs.name, given)
    assert len(seen) > 40


def test_a_path_that_cannot_be_read_is_typers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = typer.models.OptionInfo()
    assert tmp_path == plain(str(tmp_path), Path, info)
    monkeypatch.setattr("os.access", lambda *_: False)
    assert _HARD is plain(str(tmp_path), Path, info)
    assert tmp_path / "new" == plain(str(tmp_path / "new"), Path, info)
