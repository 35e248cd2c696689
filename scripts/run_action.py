"""Runs the steps of `action.yml` as a runner of GitHub Actions does.

    python scripts/run_action.py FOLDER [INPUT=VALUE …]
    python scripts/run_action.py my-repository policies=policies data=prepared/ tokenizer=builtin

Each step's text becomes a file for bash, in FOLDER, with an environment that has nothing but PATH, HOME, the variables
of a runner, and what the step's `env` makes of the inputs. It ends with the exit code of the first step that fails.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
SHELL = ("bash", "--noprofile", "--norc", "-e", "-o", "pipefail")
"""The shell of `shell: bash`."""
_INPUT = re.compile(r"\$\{\{ inputs\.([\w-]+) \}\}")


def steps(action: Mapping[str, Any], given: Mapping[str, str]) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Name, text and own variables of each step, for the given inputs.

    Other inputs have their defaults.

    Raises ValueError for inputs that the action does not have, and for what only a runner can do.
    """
    unknown = given.keys() - action["inputs"].keys()
    if unknown:
        raise ValueError(f"the action has no input `{sorted(unknown)[0]}`")
    inputs = {name: str(given.get(name, facts.get("default", ""))) for name, facts in action["inputs"].items()}
    for step in action["runs"]["steps"]:
        if step.keys() - {"name", "shell", "run", "env"} or step["shell"] != "bash" or "${{" in step["run"]:
            raise ValueError(f"step `{step.get('name')}` is more than a text for bash")
        env = {name: _INPUT.sub(lambda found: inputs[found[1]], value) for name, value in step["env"].items()}
        if any("${{" in value for value in step["env"].values() if not _INPUT.fullmatch(value)):
            raise ValueError(f"step `{step['name']}` asks for more than inputs")
        yield step["name"], step["run"], env


def run(folder: Path, given: Mapping[str, str], *, path: str, temporary: Path, action: Path = ROOT) -> int:
    """Runs all steps in a folder, and returns the exit code of the first that fails, or 0.

    `path` is PATH; files of the runner go into `temporary`.
    """
    files = {name: temporary / name.lower() for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "GITHUB_ENV")}
    runner = {
        "PATH": path,
        "HOME": str(temporary),
        "CI": "true",
        "GITHUB_ACTIONS": "true",
        "GITHUB_WORKSPACE": str(folder),
        "GITHUB_ACTION_PATH": str(action),
        "RUNNER_TEMP": str(temporary),
        **{name: str(file) for name, file in files.items()},
    }
    for file in files.values():
        file.touch()
    document = yaml.safe_load((action / "action.yml").read_text(encoding="utf-8"))
    for number, (name, text, env) in enumerate(steps(document, given)):
        print(f"## {name}", flush=True)
        script = temporary / f"step{number}.sh"
        script.write_text(text, encoding="utf-8")
        code = subprocess.run([*SHELL, str(script)], cwd=folder, env={**runner, **env}, check=False).returncode
        if code:
            return code
    return 0


def main() -> int:
    """The command line."""
    folder, *pairs = sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary:
        given = dict(pair.split("=", 1) for pair in pairs)
        return run(Path(folder).resolve(), given, path=os.environ["PATH"], temporary=Path(temporary))


if __name__ == "__main__":
    sys.exit(main())
