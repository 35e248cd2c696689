"""Many rows with one tokenizer call: whatever fails for a row costs that row alone."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens.fast_backend import BackendMismatch
from policy_engine.core.errors import RowError
from policy_engine.mask.batch import attempt, mask_rows, mask_samples
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from tests.run.support import CARD, chat, conversation, masked, masker

BAD = "this one"


def rows_with_a_bad_one():
    return [conversation(chat(text, "yes")) for text in ("one", BAD, "two")]


class Kept(dict):
    """A message that weak references may be made to."""


def raising(error):
    def fail(real):
        def work(self, given, *more, **options):
            text = given.text if hasattr(given, "text") else str(given.messages)
            if BAD in text:
                raise error
            return real(self, given, *more, **options)

        return work

    return fail


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyError("x"), "PE000", "policy-engine failed on this row (KeyError: 'x'); that is a defect of policy-engine"),
        (RecursionError("deep"), "PE501", "the row is nested too deeply"),
        (MemoryError(), "PE501", "there is not enough memory for the row"),
        (RowError("its own"), "PE501", "its own"),
    ],
)
@pytest.mark.parametrize("unrolled", [False, True])
def test_any_exception_of_a_row_is_its_error(monkeypatch, error, code, said, unrolled):
    monkeypatch.setattr(ChatTemplate, "render", raising(error)(ChatTemplate.render))
    made = mask_samples(rows_with_a_bad_one(), masker().row_masker, unrolled=unrolled)
    assert (code, said) == (made[1].code, made[1].message)
    assert [masked("one", "yes").labels, masked("two", "yes").labels] == [made[i][0].row.labels for i in (0, 2)]


def test_a_row_that_fails_leaves_no_garbage():
    """Its text would stay until the garbage collector comes by: in a long run that of thousands of rows."""
    source = "{% for m in messages %}{{ m.content }}{% endfor %}{{ raise_exception('no') }}"
    bound = Masker(compile_text(CARD), load_tokenizer("builtin", template=source))
    mask_rows(rows_with_a_bad_one(), bound.row_masker)
    gc.disable()
    try:
        rows = [replace(row, messages=tuple(map(Kept, row.messages))) for row in rows_with_a_bad_one()]
        seen = [weakref.ref(row.messages[0]) for row in rows]
        (error, *_) = mask_rows(rows, bound.row_masker)
        del rows
        assert [None] * 3 == [row() for row in seen]
    finally:
        gc.enable()
    assert error.message.endswith(": no")
    causes = [error]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    assert "no" == str(causes[-1])
    assert {None} == {link.__traceback__ for link in causes}


def test_a_batch_that_the_tokenizer_refuses_is_encoded_row_by_row(monkeypatch):
    real = ChatTokenizer.encode_batch

    def encode_batch(self, chats, **options):
        if any(BAD in given.text for given in chats):
            raise TypeError("no text")
        return real(self, chats, **options)

    monkeypatch.setattr(ChatTokenizer, "encode_batch", encode_batch)
    made = mask_rows(rows_with_a_bad_one(), masker().row_masker)
    assert "TypeError: no text" in made[1].message
    assert [masked("one", "yes").labels, masked("two", "yes").labels] == [made[0].labels, made[2].labels]


@pytest.mark.parametrize("unrolled", [False, True])
def test_a_backend_that_differs_is_no_error_of_a_row(monkeypatch, unrolled):
    def differ(self, chats, **options):
        raise BackendMismatch("other ids")

    monkeypatch.setattr(ChatTokenizer, "encode_batch", differ)
    with pytest.raises(BackendMismatch):
        mask_samples(rows_with_a_bad_one(), masker().row_masker, unrolled=unrolled)


def test_errors_stay_in_their_places():
    error = RowError("could not be read")
    first, second = mask_rows([error, conversation(chat("q", "a"))], masker().row_masker)
    assert error is first
    assert masked("q", "a").labels == second.labels


def test_what_goes_well_is_returned_as_it_is():
    assert 3 == attempt(len, "abc")
