from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from policy_engine.cli.outcome import Exit, Outcome
from policy_engine.cli.reporters.github import github_commands
from policy_engine.cli.reporters.json import json_document, message_of
from policy_engine.cli.reporters.sarif import sarif_log
from policy_engine.cli.reporters.text import diagnostic_text
from policy_engine.core.diagnostics import Diagnostic, format_diagnostic
from tests.cli.documents import check_sarif, sarif_errors
from tests.cli.findings import GUARD, OUTCOMES, PLACELESS, ROW, ROW_OF_A_PIPE, ROW_WITHOUT_LINES, TYPO


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_sarif_is_valid(outcome: Outcome) -> None:
    log = json.loads(sarif_log("check", outcome))
    assert "2.1.0" == log["version"]
    check_sarif(log)
    (run,) = log["runs"]
    assert [int(outcome.exit)] == [i["exitCode"] for i in run["invocations"]]
    assert (outcome.exit not in (Exit.NO_ANSWER, Exit.INTERRUPTED, Exit.TERMINATED)) == run["invocations"][0][
        "executionSuccessful"
    ]
    assert len(outcome.diagnostics) == len(run["results"])
    for diagnostic, result in zip(outcome.diagnostics, run["results"], strict=True):
        assert diagnostic.code == result["ruleId"] == run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"]
        assert result["level"] in {"error", "warning", "note"}


def test_the_schema_refuses_what_is_wrong() -> None:
    """So that a schema that is not read, or formats that are not checked, would be seen."""
    log = json.loads(sarif_log("check", Outcome(exit=Exit.FAILS, diagnostics=(GUARD,))))
    place = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]
    for wrong in ({"region": {"startLine": 0}}, {"artifactLocation": {"uri": "a b%"}}, {"nothing": 1}):
        kept = dict(place)
        place |= wrong
        assert sarif_errors(log)
        place.clear()
        place |= kept
    assert not sarif_errors(log)


def test_sarif_locations() -> None:
    log = json.loads(sarif_log("check", Outcome(exit=Exit.FAILS, diagnostics=(GUARD,))))
    (result,) = log["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert "a%20dir/my.policy" == place["artifactLocation"]["uri"]
    assert {"startLine": 2, "startColumn": 1, "endLine": 3, "endColumn": 7} == place["region"]
    assert "this rule trains it" == result["relatedLocations"][0]["message"]["text"]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_json_says_verdict_and_findings(outcome: Outcome) -> None:
    text = json_document("check", outcome)
    document = json.loads(text)
    assert text.isascii()
    assert ("check", int(outcome.exit)) == (document["verb"], document["exit_code"])
    assert document["verdict"] in {"holds", "does not hold", "could not answer", "undecided", "interrupted"}
    assert [message_of(d) for d in outcome.diagnostics] == [d["message"] for d in document["diagnostics"]]
    for key, value in outcome.data.items():
        assert value == document[key]


def test_json_location() -> None:
    (finding,) = json.loads(json_document("check", Outcome(diagnostics=(TYPO,))))["diagnostics"]
    expected = {"file": "a dir/my.policy", "line": 1, "column": 7, "end_line": 1, "end_column": 15}
    assert expected == finding["location"]


def test_where_rows_are() -> None:
    outcome = Outcome(diagnostics=(ROW, ROW_WITHOUT_LINES, ROW_OF_A_PIPE))
    findings = json.loads(json_document("show", outcome))["diagnostics"]
    assert ["messages[0] has no role", *["row 7: messages[0] has no role"] * 2] == [d["message"] for d in findings]
    nowhere = {"line": None, "column": None, "end_line": None, "end_column": None}
    assert [
        {"file": "a dir/x.jsonl", **nowhere, "line": 7, "end_line": 7},
        {"file": "x.parquet", **nowhere},
        None,
    ] == [d["location"] for d in findings]
    results = json.loads(sarif_log("show", outcome))["runs"][0]["results"]
    places = [r["locations"][0]["physicalLocation"] for r in results[:2]]
    assert {"artifactLocation": {"uri": "a%20dir/x.jsonl"}, "region": {"startLine": 7, "endLine": 7}} == places[0]
    assert {"artifactLocation": {"uri": "x.parquet"}} == places[1]
    assert "locations" not in results[2]
    assert [
        "::error title=policy-engine PE501,file=a dir/x.jsonl,line=7::messages[0] has no role",
        "::error title=policy-engine PE501,file=x.parquet::row 7: messages[0] has no role",
        "::error title=policy-engine PE501::row 7: messages[0] has no role",
    ] == github_commands("show", outcome).splitlines()


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_github_commands_are_one_line_each(outcome: Outcome) -> None:
    lines = github_commands("check", outcome).splitlines()
    assert all(re.fullmatch(r"::(error|warning|notice) [^:\n]+::.+", line) for line in lines)
    assert bool(lines) == (outcome.exit is not Exit.HOLDS or bool(outcome.diagnostics))


def test_github_escapes_and_places() -> None:
    lines = github_commands("check", Outcome(diagnostics=(TYPO, GUARD, PLACELESS))).splitlines()
    place = "file=a dir/my.policy,line=1,col=7,endColumn=15"
    assert lines[0] == (
        f"::warning title=policy-engine PE201,{place}::nothing declares the role `asistant`: 100%25"
        "%0Ahelp: did you mean `assistant`?"
    )
    assert "line=2,col=1,endLine=3::" in lines[1]
    assert lines[2].endswith("::there is no file `x`%0Ahelp: check%0Athe path")


@pytest.mark.parametrize("diagnostic", [TYPO, GUARD, PLACELESS])
def test_text_is_the_plain_form_with_colours(diagnostic: Diagnostic) -> None:
    assert format_diagnostic(diagnostic) == diagnostic_text(diagnostic).plain
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=200)
    console.print(diagnostic_text(diagnostic))
    assert "\x1b[1;3" in console.file.getvalue()  # type: ignore[attr-defined]
