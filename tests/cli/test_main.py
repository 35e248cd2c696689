from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import policy_engine
from policy_engine.cli import run
from policy_engine.cli.app import VERBS
from policy_engine.cli.verbs import policies
from tests.cli.support import cli


def program(*arguments: str, **kwargs: object) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    command = [sys.executable, "-m", "policy_engine", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(policy_engine.__file__).parents[1]), **kwargs.pop("env", {})}  # type: ignore[dict-item]
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, timeout=120, **kwargs)  # type: ignore[call-overload, no-any-return]


def test_version() -> None:
    ran = cli("--version")
    assert (0, f"policy-engine {policy_engine.__version__}\n") == (ran.code, ran.out)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str) -> None:
    ran = cli(verb, "--help")
    assert ran.code == 0
    assert "--format" in ran.out


def test_without_arguments_the_help_is_printed_and_nothing_was_answered() -> None:
    ran = cli()
    assert (2, "", cli("--help").out) == (ran.code, ran.err, ran.out)
    assert "apply" in ran.out


@pytest.mark.parametrize("arguments", [["--"], ["chek"], ["check"], ["check", "x", "--formt", "json"], ["--nothing"]])
def test_usage_errors_are_2(arguments: list[str]) -> None:
    ran = cli(*arguments)
    assert ran.code == 2
    assert "error[PE503]" in ran.err
    assert "help: " in ran.err


@pytest.mark.parametrize(
    ("arguments", "says", "help"),
    [
        ("apply x -o y --workers 0", "--workers: 0 is too small: the least is 1", ""),
        ("explain x --token -1", "--token: -1 is too small: the least is 0", ""),
        ("play --port 65536", "--port: 65536 is too large: the most is 65535", ""),
        ("apply x -o y --max-length two", "--max-length: `two` is no whole number", ""),
        ("apply x -o y --truncate keepstart", "--truncate: there is no `keepstart`", "did you mean `keep_start`? "),
        ("show x --color-by e", "--color-by: there is no `e`", "give one of `effect`, `rule`; "),
        ("show x --limit", "`--limit` needs a value", ""),
        ("show x y", "`show` has no place for `y`", ""),
    ],
)
def test_values_that_do_not_fit_are_told_in_our_words(arguments: str, says: str, help: str) -> None:
    verb = arguments.split()[0]
    ran = cli(*arguments.split())
    expected = f"error[PE503]: {says}\n  help: {help}`policy-engine {verb} --help` lists the options\n"
    assert (2, expected) == (ran.code, ran.err)


@pytest.mark.parametrize("arguments", ["test {}", "demo -o {}"])
def test_paths_that_cannot_be_read_are_named(arguments: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)  # as root, who runs tests in containers, all can be read
    ran = cli(*arguments.format(tmp_path).split())
    assert 2 == ran.code
    assert f"`{tmp_path}` cannot be read\n  help: " in ran.err


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("form", ["json", "sarif", "github"])
def test_usage_errors_are_valid_documents(verb: str, form: str) -> None:
    ran = cli(verb, "--format", form, "--no-such-option")
    assert ran.code == 2
    if form == "github":
        assert ran.out.startswith("::error ")
    else:
        document = json.loads(ran.out)
        assert 2 == (document["exit_code"] if form == "json" else document["runs"][0]["invocations"][0]["exitCode"])


def test_unknown_format_is_told_as_text() -> None:
    ran = cli("check", "x", "--format=yaml")
    assert ran.code == 2
    assert "yaml" in ran.err


def test_a_defect_of_ours_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "_list", lambda: 1 // 0)
    ran = cli("policies", "--format", "json")
    assert ran.code == 2
    assert "defect" in ran.document["diagnostics"][0]["message"]
    assert "ZeroDivisionError" in ran.err


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(policies, "_list", stop)
    ran = cli("policies", "--format", "json")
    assert (130, "interrupted") == (ran.code, ran.document["verdict"])


def test_system_errors_name_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device", "/x/out.parquet")

    outcome = run.answer(full)  # type: ignore[arg-type]
    assert "`/x/out.parquet`: no space left on device" == outcome.diagnostics[0].message


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -c 'from policy_engine.cli.main import main; main()' policies --format json"
    ran = subprocess.run(
        f"{command} | true; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        encoding="utf-8",
        cwd=Path(policy_engine.__file__).parents[1],
        timeout=120,
    )
    assert "Traceback" not in ran.stderr
    assert ran.stdout.strip() in {"0", "141"}


def test_a_narrow_locale_never_ends_a_run(tmp_path: Path) -> None:
    (tmp_path / "p.policy").write_text("# 世界\ntrain assistant", encoding="utf-8")
    ran = program("fmt", "--diff", str(tmp_path / "p.policy"), env={"PYTHONIOENCODING": "ascii"})
    assert ran.returncode in {0, 1}
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("verb", ["check", "fmt", "prove", "apply"])
def test_closed_standard_input_is_an_error(verb: str, tmp_path: Path) -> None:
    more = ["-p", "default", "-t", "builtin", "-o", "out.jsonl"] if verb == "apply" else []
    ran = program(verb, "-", *more, cwd=tmp_path, stdin=None, preexec_fn=lambda: os.close(0))
    assert 2 == ran.returncode
    assert "standard input is closed" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_closed_standard_streams_get_nothing_of_the_output(tmp_path: Path) -> None:
    """The first files that a process opens get the numbers of streams that are closed."""
    (tmp_path / "a.jsonl").write_text(
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}\n'
    )
    arguments = ("apply", "a.jsonl", "-p", "default", "-t", "builtin", "-o", "out.jsonl")
    ran = program(*arguments, cwd=tmp_path, preexec_fn=lambda: os.closerange(0, 3))
    assert (0, "", "") == (ran.returncode, ran.stdout, ran.stderr)
    (line,) = (tmp_path / "out.jsonl").read_text().splitlines()
    assert 1 == json.loads(line)["row"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is full is needed")
@pytest.mark.parametrize("called", ["main", "script"])
def test_an_output_that_cannot_be_written_is_no_success(called: str) -> None:
    program = f"from policy_engine.cli.main import {called}; {called}()"
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", program, "policies", "--format", "json"]
        ran = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
    assert ran.returncode
    assert b"No space left" in ran.stderr


def test_what_others_do_at_the_end_is_done_and_codes_stay(tmp_path: Path) -> None:
    (tmp_path / "p.policy").write_text("trian assistant", encoding="utf-8")
    (tmp_path / "good.policy").write_text("train assistant", encoding="utf-8")
    for first, last, called in (("early", "", "script"), ("", "late", "script"), ("early", "late", "main")):
        program = (
            f"import atexit\nif {first!r}: atexit.register(print, {first!r})\n"
            f"from policy_engine.cli.main import main, script\n"
            f"try: {called}()\nfinally:\n  if {last!r}: atexit.register(print, {last!r})"
        )
        for policy, code in (("p.policy", 2), ("good.policy", 0)):
            ran = run_python(tmp_path, program, "check", policy)
            assert ran.returncode == code
            assert ran.stdout.split()[-1] == (first or last)


def test_a_program_that_goes_on_after_a_command_has_its_own_exit_code(tmp_path: Path) -> None:
    program = "from policy_engine.cli.main import main\ntry: main()\nexcept SystemExit as end: print(end.code)\nexit(7)"
    (tmp_path / "p.policy").write_text("trian assistant", encoding="utf-8")
    ran = run_python(tmp_path, program, "check", "p.policy")
    assert ran.returncode == 7
    assert ran.stdout.split()[-1] == "2"


def test_the_script_alone_ends_at_once(tmp_path: Path) -> None:
    watched = "import os\nend = os._exit\nos._exit = lambda code: (os.write(1, b'at once'), end(code))\n"
    for called, at_once in (("script", True), ("main", False)):
        ran = run_python(tmp_path, f"{watched}from policy_engine.cli.main import {called}\n{called}()", "policies")
        assert ran.returncode == 0
        assert ran.stdout.endswith("at once") == at_once


def run_python(folder: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program, *arguments], cwd=folder, capture_output=True, text=True)
