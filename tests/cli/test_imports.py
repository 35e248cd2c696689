"""Modules that a verb does without, so that it answers at once. Asserts what is imported, never times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from policy_engine.cli.app import VERBS, app_with
from tests.cli.support import write_chats, write_policy

TOKENIZING = frozenset({"transformers", "tokenizers", "kitoken", "gigatoken", "pyarrow"})
NEVER = frozenset({"torch", "pandas", "datasets", "hypothesis", "ray", "pygls", "IPython", "pydantic"})
POLICIES = TOKENIZING | NEVER | {"numpy", "jinja2", "yaml"}
UNUSED = {
    *("transformers", "pyarrow", "urllib.request"),
    *(f"policy_engine.chat.{name}" for name in ("skeleton.skeletons", "encoders.encoded_template", "media.encode")),
    *("policy_engine.chat.given.place", "policy_engine.run.summary", "policy_engine.builtin.verdicts"),
}
NOTHING = POLICIES | {"lark", "re2", "policy_engine.lang.check", "policy_engine.proof"}

SCRIPT = """
import json, sys
from policy_engine.cli.app import run
code = run(json.loads(sys.argv[1]))
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


def imported(*arguments: str | Path, cwd: Path) -> set[str]:
    """Modules that a command imports in a process of its own."""
    command = [sys.executable, "-c", SCRIPT, json.dumps([str(a) for a in arguments])]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True, timeout=120)
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == 0, done.stderr
    return set(modules)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_policy(tmp_path)
    write_chats(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "without"),
    [
        ("--help", NOTHING | {"rich"}),
        ("apply --help", NOTHING | {"rich"}),
        ("policies", NOTHING - {"policy_engine.lang.check"}),
        ("fmt --check my.policy", POLICIES | {"policy_engine.proof"}),
        ("check my.policy", POLICIES | {"policy_engine.proof.policy_diff", "policy_engine.proof.witness"}),
        ("check --no-prove my.policy", POLICIES | {"policy_engine.proof"}),
        ("prove my.policy", POLICIES),
        # Conversations that show a difference may bring ids along, which are arrays.
        ("diff my.policy my.policy", POLICIES - {"numpy"}),
    ],
)
def test_verbs_that_read_policies(files: Path, command: str, without: frozenset[str]) -> None:
    assert set() == imported(*command.split(), cwd=files) & without


@pytest.mark.parametrize("command", ["show", "explain"])
def test_verbs_that_show_rows(files: Path, command: str) -> None:
    """A tokenizer that was loaded once is read from the cache, and nothing makes Arrow columns."""
    arguments = [command, "chats.jsonl", "-p", "my.policy", "-t", "builtin"]
    imported(*arguments, cwd=files)
    explains = {"policy_engine.mask.explain"} if command == "show" else set()
    assert set() == imported(*arguments, cwd=files) & (NEVER | UNUSED | explains)


def test_apply_loads_a_tokenizer_before_arrow(files: Path) -> None:
    """Both at once would be the peak of a first run's memory; a bad output is refused before either."""
    script = (
        "import sys\n"
        "from policy_engine.chat import loading\n"
        "load = loading.load_tokenizer\n"
        "def watched(*arguments, **options):\n"
        "    loaded = load(*arguments, **options)\n"
        "    print('loaded', 'pyarrow' in sys.modules)\n"
        "    return loaded\n"
        "loading.load_tokenizer = watched\n"
        "from policy_engine.cli.app import run\n"
        "code = run(sys.argv[1:])\n"
        "print('ended', code, 'pyarrow' in sys.modules)\n"
    )
    arguments = ("apply", "chats.jsonl", "-p", "my.policy", "-t", "builtin", "-o", "out.parquet")
    command = [sys.executable, "-c", script, *arguments]
    first, second = (
        subprocess.run(command, cwd=files, capture_output=True, text=True, check=True, timeout=120) for _ in range(2)
    )
    said = [line for line in first.stdout.splitlines() if line.startswith(("loaded", "ended"))]
    assert ["loaded False", "ended 0 True"] == said
    assert "ended 2 False" == second.stdout.splitlines()[-1]
    assert "loaded" not in second.stdout
    assert "`out.parquet` exists" in second.stderr


@pytest.mark.parametrize("verb", ["check", "import", "policies"])
def test_a_verb_imports_no_other(files: Path, verb: str) -> None:
    given = "policy_engine.cli.verbs."
    modules = {name.removeprefix(given) for name in imported(verb, "--help", cwd=files) if name.startswith(given)}
    assert {"import_" if verb == "import" else verb} == modules


def test_help_names_verbs_as_they_name_themselves() -> None:
    whole = app_with()
    own = {
        str(c.name or c.callback.__name__): c.callback.__doc__ or "" for c in whole.registered_commands if c.callback
    }  # type: ignore[attr-defined]
    assert VERBS == {verb: " ".join(text.split("\n\n")[0].split()) for verb, text in own.items()}
    assert list(VERBS) == list(own)


@pytest.mark.parametrize(
    ("words", "completed"),
    [("policy-engine sh", {"show"}), ("policy-engine show --li", {"--limit"}), ("policy-engine fmt --di", {"--diff"})],
)
def test_shells_complete_verbs_and_options(tmp_path: Path, words: str, completed: set[str]) -> None:
    environment = {
        **os.environ,
        "_POLICY_ENGINE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    command = [sys.executable, "-c", "from policy_engine.cli.main import main; main()"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert completed == set(done.stdout.split())


def test_the_command_line_imports_nothing_for_what_it_does_not_use(files: Path) -> None:
    """Lark takes `regex` and `interegular` where they are installed; others may import them afterwards."""
    script = (
        "import sys\n"
        "from policy_engine.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "print(sorted(sys.modules.keys() & {'lark', 'regex', 'interegular', 'importlib.metadata', "
        "'gzip', 'numpy.ma'}))\n"
        "import regex\n"
    )
    arguments = ("show", "chats.jsonl", "-p", "my.policy", "-t", "builtin")
    command = [sys.executable, "-c", script, *arguments]
    for _ in range(2):  # the first run loads the tokenizer
        done = subprocess.run(command, cwd=files, capture_output=True, text=True, timeout=120)
    assert "['lark']" == done.stdout.splitlines()[-1], done.stderr
    assert done.returncode == 0
