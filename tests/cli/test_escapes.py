"""What data, templates, policies and file names hold reaches no terminal and no build log raw, whatever the verb."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.text import Text

from policy_engine.cli.reporters.console import without_commands
from policy_engine.report.visible import on_one_line, spelled
from tests.cli.support import GOOD, Ran, cli, write_policy
from tests.cli.test_main import VERBS

EVIL = "a\x1b[2J\x9b1m\u202eb\u200b\n::error::owned ##[error]c ##vso[task]\r"
NAME = "n\x1b[31m\u202e\n::error::owned"
"""A file name: it has no slash."""
ROW = {
    "messages": [
        {"role": "user", "content": EVIL, EVIL: EVIL},
        {"role": EVIL, "content": "b"},
        {"role": "asistant\n", "content": "c"},
        {"role": "assistant", "content": "Hi\n::error::owned"},
    ]
}
BAD = {"messages": [{"role": "user", "content": "a", "tool_calls": EVIL}, {"role": EVIL}]}
HALF = {"messages": [{"role": EVIL, "content": "\ud800"}]}
RAISES = "{{ raise_exception(messages[0].content) }}"
FAILING_TEST = {
    "policy": "default",
    "tokenizer": "builtin",
    "tests": [{"name": EVIL, "messages": [{"role": NAME, "content": NAME}], "expect": NAME}],
}

Arguments = list[str | Path]


def rows(folder: Path) -> Path:
    path = folder / f"{NAME}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (ROW, BAD, HALF)), encoding="utf-8")
    return path


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def policy(folder: Path) -> Path:
    return write_policy(folder, GOOD, name=f"{NAME}.policy")


def masking(*extra: str) -> Callable[[Path], Arguments]:
    return lambda folder: [
        rows(folder),
        "-p",
        policy(folder),
        "-t",
        "builtin",
        *(folder / e.removeprefix("@") if e.startswith("@") else e for e in extra),
    ]


def prepared(folder: Path) -> Arguments:
    made = folder / f"{NAME} made.jsonl"
    assert cli("apply", *masking()(folder), "-o", made).code == 1
    kept = json.loads(made.read_text(encoding="utf-8").splitlines()[0]) | ROW
    kept["labels"] = kept["input_ids"]
    made.write_text(json.dumps(kept) + "\n" + json.dumps({"input_ids": EVIL}) + "\n", encoding="utf-8")
    return [made, "-p", policy(folder), "-t", "builtin"]


def raising(folder: Path) -> Arguments:
    return [*masking()(folder), "--template", written(folder, f"{NAME}.jinja", RAISES)]


CASES: list[tuple[str, Callable[[Path], Arguments]]] = [
    ("show", masking()),
    ("show", masking("--html", f"@{NAME}.html")),
    ("show", raising),
    ("explain", masking()),
    ("explain", masking("--at", EVIL)),
    ("explain", masking("--row", "2")),
    ("apply", masking("-o", f"@{NAME} made.jsonl")),
    ("apply", lambda folder: [*raising(folder), "-o", folder / "x.jsonl"]),
    ("init", lambda folder: [rows(folder), "-t", "builtin", "-o", folder / NAME]),
    ("init", lambda folder: [rows(folder), "-t", folder / NAME]),
    ("diff", lambda folder: [policy(folder), "default", "--data", rows(folder), "-t", "builtin"]),
    ("diff", lambda folder: [policy(folder), write_policy(folder, f"train {json.dumps(NAME)}")]),
    ("audit", prepared),
    ("doctor", lambda folder: [folder / NAME, "--trainer", "transformers"]),
    ("check", lambda folder: [policy(folder), write_policy(folder, f"train {json.dumps(NAME)}, asistant"), NAME]),
    ("fmt", lambda folder: [write_policy(folder, "train   assistant", name=NAME), "--diff"]),
    ("fmt", lambda folder: [write_policy(folder, f"train {NAME}", name=NAME)]),
    ("prove", lambda folder: [write_policy(folder, f"train {json.dumps(NAME)}, user\nnever train user", name=NAME)]),
    ("prove", lambda folder: [policy(folder), "--rules"]),
    ("test", lambda folder: [written(folder, f"{NAME}.yaml", json.dumps(FAILING_TEST)), "--coverage"]),
    ("template", lambda folder: [written(folder, f"{NAME}.jinja", RAISES), "--examples", "1"]),
    ("import", lambda folder: ["axolotl", written(folder, f"{NAME}.yml", json.dumps({"datasets": [{"path": NAME}]}))]),
    ("import", lambda folder: [NAME, folder / NAME]),
    ("policies", lambda folder: [NAME]),
    ("demo", lambda folder: ["-o", policy(folder)]),
    ("lsp", lambda folder: [f"--{NAME}"]),
    ("play", lambda folder: [folder / NAME, "-t", "builtin", "--host", NAME]),
    *[(verb, lambda folder: [f"--no{NAME}"]) for verb in VERBS],
]


def commands(text: str) -> list[str]:
    """The lines that a build log would take for commands."""
    return [line for line in text.splitlines() if re.match(r"\s*::[A-Za-z]", line) or re.search(r"##\w*\[", line)]


def check(ran: Ran, form: str) -> None:
    for text in (ran.out, ran.err):
        assert text == spelled(text)
    assert commands(ran.err) == []
    if form != "github":
        assert commands(ran.out) == []
    else:
        assert all(re.fullmatch(r"::(error|warning|notice) [^:\n]+::.*", line) for line in ran.out.split("\n")[:-1])


@pytest.mark.parametrize("form", ["text", "json", "github"])
@pytest.mark.parametrize(("verb", "arguments"), CASES, ids=[f"{i} {verb}" for i, (verb, _) in enumerate(CASES)])
def test_nothing_is_printed_raw(verb: str, arguments: Callable[[Path], Arguments], form: str, tmp_path: Path) -> None:
    ran = cli(verb, "--format", form, *arguments(tmp_path))
    assert ran.out or ran.err or (form == "github" and ran.code == 0)
    check(ran, form)


def test_every_verb_is_tried() -> None:
    assert {*VERBS} == {verb for verb, _ in CASES}


def test_a_line_break_in_a_name_does_not_end_its_line(tmp_path: Path) -> None:
    ran = cli("show", *masking()(tmp_path))
    assert "── 1 a␛[2J<U+009B>1m<U+202E>b<U+200B>↵::error::owned" in ran.out
    (authors,) = [line for line in ran.out.splitlines() if "authors" in line]
    assert "`asistant↵`" in authors
    (doubtful,) = [line for line in ran.err.splitlines() if "PE518" in line]
    assert "nothing declares the role `asistant↵`" in doubtful


def test_json_keeps_the_text_of_the_data(tmp_path: Path) -> None:
    ran = cli("show", *masking()(tmp_path), "--format", "json")
    assert "##[error]c" in ran.document["rows"][0]["text"]
    assert "\x1b[2J" in ran.document["rows"][0]["text"]


def test_junit_of_hostile_names_is_xml(tmp_path: Path) -> None:
    from xml.etree import ElementTree

    file = written(tmp_path, "t.yaml", json.dumps(FAILING_TEST))
    assert cli("test", file, "--junit", tmp_path / "out.xml").code == 1
    (case,) = ElementTree.parse(tmp_path / "out.xml").getroot().iter("testcase")
    assert str(case.get("name")).startswith("a␛[2J")


def test_a_defect_of_ours_prints_no_data_raw(monkeypatch: pytest.MonkeyPatch) -> None:
    from policy_engine.cli.verbs import policies

    def fails() -> None:
        raise ValueError(EVIL)

    monkeypatch.setattr(policies, "_list", fails)
    ran = cli("policies")
    assert "ValueError" in ran.err
    check(ran, "text")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::error::a", "<U+003A>:error::a"),
        ("ok\n  ::set-output name=a::b\n", "ok\n  <U+003A>:set-output name=a::b\n"),
        ("\x1b[1m::error::a", "\x1b[1m<U+003A>:error::a"),
        ("see ##[group]a", "see <U+0023>#[group]a"),
        ("##vso[task.setvariable]", "<U+0023>#vso[task.setvariable]"),
        ("a ::b:: ## c :: d", "a ::b:: ## c :: d"),
        ("::", "::"),
    ],
)
def test_commands_of_build_logs(text: str, shown: str) -> None:
    assert shown == without_commands(text)


def test_styles_stay_where_they_are_on_one_line() -> None:
    text = on_one_line(Text.assemble(("a\n", "bold"), "b\t", ("\x1bc", "red")))
    assert "a↵b→␛c" == text.plain
    assert [("bold", "a↵"), ("red", "␛c")] == [(str(s.style), text.plain[s.start : s.end]) for s in text.spans]
