"""Options in records: each field is an option of its own, in the record's place, and reaches the verb in the record."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import typer

from policy_engine.cli.signature import spread


@dataclass(frozen=True, kw_only=True)
class Size:
    width: Annotated[int, typer.Option("--width", min=1)]
    height: Annotated[int, typer.Option("--height", min=1)] = 2


def verb(name: str, size: Size, times: Annotated[int, typer.Option("--times")] = 1) -> None:
    """Prints an area."""
    print(name, size.width * size.height * times)


def test_fields_are_parameters_in_the_records_place() -> None:
    parameters = inspect.signature(spread(verb)).parameters
    assert ["name", "width", "height", "times"] == list(parameters)
    assert (inspect.Parameter.empty, 2) == (parameters["width"].default, parameters["height"].default)


def test_options_reach_the_verb_in_its_record() -> None:
    from typer.testing import CliRunner

    app = typer.Typer()
    app.command()(spread(verb))
    ran = CliRunner().invoke(app, ["a", "--width", "3", "--times", "2"])
    assert "a 12\n" == ran.output
    assert 2 == CliRunner().invoke(app, ["a"]).exit_code
