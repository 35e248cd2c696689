"""`import SYSTEM CONFIG`: another system's settings as a policy and a dataset file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from policy_engine.cli.options import FormatOption
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.reporters import Format
from policy_engine.cli.run import finish
from policy_engine.core.errors import ConfigError, DataError


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command(name="import")
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
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
        format: FormatOption = Format.text,
    ) -> None:
        """Turn another system's configuration into a policy and a dataset file."""
        finish("import", format, lambda: _import(system, config, out, overwrite))


def _import(system: str, config: str, out: Path | None, overwrite: bool) -> Outcome:
    # Imported here: the other verbs need none of it.
    from policy_engine.adapters.importers import IMPORTERS
    from policy_engine.lang.check import check_text

    if system not in IMPORTERS:
        raise ConfigError(f"nothing imports `{system}`", help=f"the systems are {', '.join(IMPORTERS)}")
    made = IMPORTERS[system](config)
    written: list[str] = []
    parts: list[Text] = []
    for item in made:
        check_text(item.policy_text, name=f"{item.name}.policy")  # what is imported has to mean something
        for suffix, text in ((".policy", item.policy_text), (".yaml", item.dataset_text)):
            if out is None:
                parts += [Text(f"{item.name}{suffix}", style="bold"), Text(text)]
                continue
            path = out / f"{item.name}{suffix}"
            if path.exists() and not overwrite:
                raise DataError(f"`{path}` exists", help="name another folder with -o, or pass --overwrite")
            try:
                out.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            except OSError as error:
                raise DataError(f"`{path}` cannot be written: {error.strerror}", help="check the folder") from None
            written.append(str(path))
            parts.append(Text(f"wrote {path}"))
    data = [{"name": i.name, "policy": i.policy_text, "dataset": i.dataset_text, "notes": list(i.notes)} for i in made]
    return Outcome(data={"imported": data, "written": written}, body=tuple(parts))
