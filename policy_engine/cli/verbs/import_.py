"""`import SYSTEM CONFIG`: another system's settings as a policy and a dataset file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from policy_engine.cli.files import exists, write_text_file
from policy_engine.cli.options import FormatWithoutFindingsOption
from policy_engine.cli.outcome import Outcome
from policy_engine.core.errors import ConfigError, DataError
from policy_engine.core.suggest import did_you_mean


def import_(
    system: Annotated[
        str, typer.Argument(metavar="SYSTEM", help="axolotl, trl, llamafactory, swift, tinker or openai.")
    ],
    config: Annotated[
        str,
        typer.Argument(metavar="CONFIG", help="Its configuration file; for swift and tinker the setting itself."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FOLDER", help="Write the files there (default: print them)."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", metavar="DATA", help="For trl: the dataset, so that no rule is about rows that it does not have."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    format: FormatWithoutFindingsOption = "text",
) -> Outcome:
    """Turn another system's configuration into a policy and a dataset file."""
    # Imported here: the other verbs need none of it.
    from policy_engine.importers.registry import IMPORTERS, WITH_DATA
    from policy_engine.lang.check import check_text

    if system not in IMPORTERS:
        systems = f"the systems are {', '.join(IMPORTERS)}"
        meant = did_you_mean(system, IMPORTERS)
        raise ConfigError(f"nothing imports `{system}`", help=f"{meant} {systems}" if meant else systems)
    if data is not None and system not in WITH_DATA:
        raise ConfigError(
            f"`import {system}` takes no --data", help=f"leave it out: it is for {', '.join(WITH_DATA)} alone"
        )
    made = IMPORTERS[system](config) if data is None else WITH_DATA[system](config, data)
    texts: dict[str, str] = {}
    for item in made:
        check_text(item.policy_text, name=f"{item.name}.policy")  # what is imported has to mean something
        texts |= {f"{item.name}.policy": item.policy_text, f"{item.name}.yaml": item.dataset_text}
    parts: list[Text] = []
    written: list[str] = []
    if out is None:
        parts = [
            part for name, text in texts.items() for part in (Text(name, style="bold"), *map(Text, text.split("\n")))
        ]
    else:
        written = _write(out, texts, overwrite)
        parts = [Text(f"wrote {path}") for path in written]
    facts = [{"name": i.name, "policy": i.policy_text, "dataset": i.dataset_text, "notes": list(i.notes)} for i in made]
    # Datasets of one configuration share the warnings of the whole: once is enough.
    warnings = tuple(dict.fromkeys(warning for item in made for warning in item.warnings))
    return Outcome(diagnostics=warnings, data={"imported": facts, "written": written}, body=tuple(parts))


def _write(folder: Path, texts: Mapping[str, str], overwrite: bool) -> list[str]:
    """Writes all the files, or nothing if one of them exists; their paths."""
    paths = {folder / name: text for name, text in texts.items()}
    # All are looked at before the first is written.
    for path in paths:
        if path.exists() and not overwrite:
            raise exists(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"`{folder}` cannot be made: {error.strerror}", help="name another folder with -o") from None
    for path, text in paths.items():
        write_text_file(path, text, overwrite=overwrite)
    return [str(path) for path in paths]
