from __future__ import annotations

from policy_engine.lang.library import shipped
from tests.cli.support import cli


def test_lists_all_with_what_they_are_for() -> None:
    ran = cli("policies", "--format", "json")
    assert ran.code == 0
    assert list(shipped()) == [p["name"] for p in ran.document["policies"]]
    assert all(p["summary"] for p in ran.document["policies"])
    text = cli("policies").out
    assert all(name in text for name in shipped())


def test_prints_one_as_it_is() -> None:
    for name in shipped():
        ran = cli("policies", name)
        assert ran.code == 0
        assert cli("check", "-", stdin=ran.out).code == 0


def test_unknown_name() -> None:
    ran = cli("policies", shipped()[0] + "x")
    assert ran.code == 2
    assert f"`{shipped()[0]}`" in ran.err
