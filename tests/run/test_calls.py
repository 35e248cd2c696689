"""A guard on speed that does not time: what is called how often on a fixed corpus."""

from __future__ import annotations

import gc
import sys
from collections import Counter

from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.tokens.locator import TokenLocator
from policy_engine.data.formats import named_format
from policy_engine.run.batches import BatchMasker
from policy_engine.run.columns import schema_of, table_of
from tests.properties.skeletons import never_compared
from tests.run.support import chat, masker

ROWS = 50
FORMAT = named_format("messages")


def rows(words):
    return [(n, {"messages": chat(*(f"{n} " + "word " * words for _ in range(4)))}) for n in range(1, ROWS + 1)]


def mask(batch):
    bound = masker()
    return table_of(BatchMasker(bound, FORMAT).mask(batch).rows, schema_of(bound))


def calls(batch):
    """Python functions called while a batch is masked, by file and name."""
    found = Counter()

    def count(frame, event, _):
        if event == "call":
            found[frame.f_code.co_filename.rsplit("policy_engine", 1)[-1], frame.f_code.co_name] += 1

    gc.collect()
    gc.disable()  # it calls finalizers of what other tests left behind
    sys.setprofile(count)
    try:
        mask(batch)
    finally:
        sys.setprofile(None)
        gc.enable()
    return found


def instructions(batch):
    """Instructions of the interpreter that masking a batch takes in this package and in templates, by file and name."""
    found = Counter()

    def count(frame, event, _):
        code = frame.f_code
        if "policy_engine" not in code.co_filename and "<template>" not in code.co_filename:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            found[code.co_filename.rsplit("policy_engine", 1)[-1], code.co_name] += 1
        return count

    sys.settrace(count)
    try:
        mask(batch)
    finally:
        sys.settrace(None)
    return found


def test_one_render_a_row_and_one_tokenizer_call_a_batch(monkeypatch):
    mask(rows(5))  # what is learned once of a template
    counts = Counter()
    for kind, name in ((ChatTemplate, "render"), (TokenLocator, "locate"), (TokenLocator, "_ids")):
        original = getattr(kind, name)

        def counted(self, *args, _original=original, _name=name, **kwargs):
            counts[_name] += 1
            return _original(self, *args, **kwargs)

        monkeypatch.setattr(kind, name, counted)
    mask(rows(7))
    assert {"render": ROWS, "locate": 1, "_ids": 1} == dict(counts)


def test_nothing_is_called_per_token():
    mask(rows(5))
    with never_compared():  # which replays are compared with a rendering depends on how many there were
        short, long = calls(rows(5)), calls(rows(200))
    assert short == long, ((long - short).most_common(5), (short - long).most_common(5))


def test_no_loop_runs_over_tokens():
    """Not even one that calls nothing: rows forty times as long take the same instructions."""
    mask(rows(5))
    with never_compared():
        short, long = instructions(rows(5)), instructions(rows(200))
    assert sum(short.values()) > 50 * ROWS
    assert short == long, ((long - short).most_common(5), (short - long).most_common(5))


def test_calls_per_row_are_bounded():
    """Raise the bound only with a measurement in hand: each call is about a tenth of a microsecond, or more."""
    mask(rows(5))
    found = calls(rows(5))
    assert sum(found.values()) / ROWS < 440, found.most_common(12)
