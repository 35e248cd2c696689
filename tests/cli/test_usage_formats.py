"""`--format sarif` is offered by the verbs that have findings, and by those alone."""

from __future__ import annotations

import pytest

from tests.cli.support import cli
from tests.cli.test_exit_codes import WITHOUT_FINDINGS
from tests.cli.test_main import VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_sarif(verb: str) -> None:
    assert ("sarif" in cli(verb, "--help").out) == (verb not in WITHOUT_FINDINGS)


def test_a_verb_without_findings_refuses_it() -> None:
    ran = cli("policies", "--format", "sarif")
    assert 2 == ran.code
    says, help = ran.document["runs"][0]["results"][0]["message"]["text"].split("\n")
    assert "--format: there is no `sarif`" == says
    assert "help: give one of `text`, `json`, `github`; `policy-engine policies --help` lists the options" == help
