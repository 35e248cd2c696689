"""Verdicts on fast backends that come with the package hold for their versions, and for no others."""

from __future__ import annotations

import importlib.metadata
import unicodedata
from itertools import islice

import pytest

from policy_engine.builtin import verdicts
from policy_engine.builtin.verdicts import Verdict, shipped_verdict, shipped_verdicts, write_verdicts
from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.tokens import cache, qualify
from policy_engine.chat.tokens.check_texts import full_check
from policy_engine.chat.tokens.fast_backend import PACKAGES, load_backend
from scripts.verdicts import made, merged
from tests.support.tokenizers import REAL

CURRENT = {"version": importlib.metadata.version("kitoken"), "tokenizers": importlib.metadata.version("tokenizers")}


def own() -> Verdict:
    """The verdict on kitoken for the tokenizer that comes with the package."""
    return next(v for v in shipped_verdicts() if (v.of, v.backend) == ("builtin", "kitoken"))


def asked(**other: str) -> Verdict | None:
    verdict = own()
    names = ("backend", "version", "tokenizers", "unicode", "checks")
    return shipped_verdict(verdict.vocabulary, **{**{name: getattr(verdict, name) for name in names}, **other})


@pytest.mark.parametrize("name", ["version", "tokenizers", "checks"])
def test_a_verdict_of_other_versions_is_none(name: str) -> None:
    assert asked() == own()
    assert asked(**{name: "0.0.1"}) is None


def test_a_newer_unicode_has_characters_that_were_not_compared() -> None:
    assert asked(unicode="13.0.0") == own()
    assert asked(unicode="99.0.0") is None


def test_the_checks_are_those_of_today() -> None:
    # After a change of `check_texts`: `make verdicts`.
    assert {verdict.checks for verdict in shipped_verdicts()} == {qualify.check_code()}
    assert {verdict.of for verdict in shipped_verdicts()} == {"builtin", *REAL}


def test_a_shipped_difference_names_the_text() -> None:
    known = {(v.of, v.backend): v.difference for v in shipped_verdicts()}
    wrong = "token 1 of a text, near '<unk><unk>', is 0, and none from the fast backend"
    # It fuses unknown tokens that are written out.
    assert {named for named, difference in known.items() if difference == wrong} == {
        (f"mistral-v{n}", "kitoken") for n in (1, 2, 3)
    }
    assert set(known.values()) == {None, wrong}
    # gigatoken cannot read this one's normalizer.
    assert {(of, backend) for of in ("builtin", *REAL) for backend in PACKAGES} - known.keys() == {
        ("claude", "gigatoken")
    }


def test_a_verdict_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {"version": own().version, "tokenizers": own().tokenizers} == CURRENT, "make verdicts"
    # Every 300th text: all of them take ten seconds.
    monkeypatch.setattr(qualify, "full_check", lambda pieces: islice(full_check(pieces), 0, None, 300))
    monkeypatch.setattr("scripts.verdicts.PACKAGES", {"kitoken": None})
    found = made("builtin")
    assert [(v.vocabulary, v.checks, v.difference) for v in found] == [(own().vocabulary, own().checks, None)]


def test_a_backend_that_cannot_be_loaded_has_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scripts.verdicts.PACKAGES", {"kitoken": None})
    monkeypatch.setattr(qualify, "load_backend", lambda *given, **how: "kitoken cannot read this tokenizer: no model")
    assert made("builtin") == []


def test_verdicts_of_other_versions_stay_and_those_of_other_texts_go() -> None:
    first = vars(own())
    new, older, stale = (Verdict(**{**first, **c}) for c in ({"difference": "x"}, {"version": "0"}, {"checks": "0"}))
    other = Verdict(**{**first, "of": "other", "checks": "0"})
    assert merged([new], [own(), older, stale, other]) == [older, new]


def test_a_known_vocabulary_needs_no_full_check(monkeypatch: pytest.MonkeyPatch) -> None:
    if unicodedata.unidata_version > own().unicode:
        monkeypatch.setattr(unicodedata, "unidata_version", own().unicode)
    monkeypatch.setenv(cache.FOLDER_VARIABLE, "off")
    monkeypatch.setattr(qualify, "full_check", lambda pieces: pytest.fail("a full check"))
    found = load_tokenizer("builtin").locator.qualify_fast([], ("kitoken",), full=True)
    assert not isinstance(found, str)
    assert found.risk.whole


def test_a_backend_that_is_known_to_differ_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Verdict(**{**vars(own()), "difference": "token 1 of a text"})
    monkeypatch.setattr(qualify, "_shipped", lambda *given: wrong)
    monkeypatch.setattr(qualify, "load_backend", lambda *given, **how: pytest.fail("loaded"))
    monkeypatch.setenv(cache.FOLDER_VARIABLE, "off")
    found = load_tokenizer("builtin").locator.qualify_fast([], ("kitoken",))
    assert isinstance(found, str)
    assert "kitoken differs from" in found
    assert found.endswith("token 1 of a text")


def test_added_tokens_of_a_known_vocabulary_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        name = "kitoken"

        def __init__(self, definition: str) -> None:
            self.right = load_backend("kitoken", lambda: definition)

        def encode_batch(self, texts: list[str]) -> list[list[int]]:
            found = self.right.encode_batch(texts)  # type: ignore[union-attr]
            return [[*ids, 1] if "<|im_end|>" in text else ids for text, ids in zip(texts, found)]

    monkeypatch.setenv(cache.FOLDER_VARIABLE, "off")
    monkeypatch.setattr(qualify, "load_backend", lambda name, definition, normalizes: Wrong(definition()))
    found = load_tokenizer("builtin").locator.qualify_fast([], ("kitoken",), full=True)
    assert isinstance(found, str)
    assert "kitoken differs" in found


def test_verdicts_are_written_as_they_are_read(tmp_path) -> None:
    path = tmp_path / "verdicts.json"
    write_verdicts([*shipped_verdicts()][::-1], path)
    assert shipped_verdicts(path) == shipped_verdicts()
    assert path.read_text() == verdicts.VERDICTS.read_text()
