"""The pytest plugin, run in pytest itself."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from xml.etree import ElementTree

import pytest

from policy_engine.testing.conformance import PROPERTIES

_INSTALLED = any(entry.value == "policy_engine.testing.plugin" for entry in entry_points(group="pytest11"))
# Where the package is installed pytest finds the plugin by itself, and refuses to load it twice.
PLUGIN = (*(() if _INSTALLED else ("-p", "policy_engine.testing.plugin")), "-p", "no:cacheprovider")
GOOD = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ENDLESS = "{% macro m(x) %}{{ m(x) }}{% endmacro %}{% for message in messages %}{{ m(message) }}{% endfor %}"


@pytest.fixture
def folder(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.path.joinpath("templates").mkdir()
    pytester.path.joinpath("templates", "good.jinja").write_text(GOOD)
    pytester.path.joinpath("policies").mkdir()
    pytester.path.joinpath("policies", "chat.policy").write_text(
        "train assistant; train eos after assistant; never train user, system, tool, preamble"
    )
    return pytester


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_inprocess(*PLUGIN, "--chat-examples", "8", *arguments)


def test_one_test_per_property_and_policy(folder: pytest.Pytester) -> None:
    result = run(folder, "--chat-template", "templates", "--chat-policy", "policies", "--junitxml", "out.xml", "-v")
    assert 0 == result.ret
    result.assert_outcomes(passed=len(PROPERTIES) + 1)
    cases = ElementTree.parse(folder.path / "out.xml").iter("testcase")
    assert {*PROPERTIES, "policy[policies/chat.policy]"} == {case.get("name") for case in cases}
    result.stdout.fnmatch_lines(["templates/good.jinja::parity PASSED*"])


def test_a_property_that_fails_shows_a_conversation(folder: pytest.Pytester) -> None:
    folder.path.joinpath("endless.jinja").write_text(ENDLESS)
    result = run(folder, "--chat-template", "endless.jinja")
    assert 1 == result.ret
    result.stdout.fnmatch_lines(["*recurses without end*", "in the conversation", "*'role': 'user'*"])
    assert 1 == result.parseoutcomes()["failed"]
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_template_that_does_not_compile_is_told(folder: pytest.Pytester) -> None:
    folder.path.joinpath("broken.jinja").write_text("{% for %}")
    result = run(folder, "--chat-template", "broken.jinja")
    assert 1 == result.ret
    result.stdout.fnmatch_lines(["*does not compile*"])


def test_a_guard_that_breaks(folder: pytest.Pytester) -> None:
    folder.path.joinpath("bad.policy").write_text("train everything; never train user")
    result = run(folder, "--chat-template", "templates", "--chat-policy", "bad.policy")
    assert 1 == result.ret
    assert 1 == result.parseoutcomes()["failed"]
    result.stdout.fnmatch_lines(["*never train user*"])


def test_beside_other_tests_and_selected_by_name(folder: pytest.Pytester) -> None:
    folder.makepyfile("def test_own(): pass")
    result = run(folder, "--chat-template", "templates", "-k", "parity or own")
    result.assert_outcomes(passed=2, deselected=len(PROPERTIES) - 1)


@pytest.mark.parametrize(
    "arguments",
    [("--chat-template", "none"), ("--chat-policy", "policies"), ("--chat-template", "policies")],
    ids=["no such file", "policies without templates", "no templates in the folder"],
)
def test_bad_options_end_the_run(folder: pytest.Pytester, arguments: tuple[str, ...]) -> None:
    result = run(folder, *arguments)
    assert pytest.ExitCode.USAGE_ERROR == result.ret


def test_without_its_options_nothing_is_imported(tmp_path: Path) -> None:
    tmp_path.joinpath("test_it.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    ours = {m for m in sys.modules if m.startswith('policy_engine')}\n"
        "    assert ours == {'policy_engine', 'policy_engine._version', 'policy_engine.testing', "
        "'policy_engine.testing.plugin'}, ours\n"
        "    assert not {'transformers', 'jinja2', 'numpy', 'typer'} & set(sys.modules)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", *PLUGIN, "--rootdir", str(tmp_path), str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert 0 == ran.returncode, ran.stdout + ran.stderr
