"""Ctrl-C while a tokenizer reads a huge text: the caller goes on at once, and the call is left behind."""

from __future__ import annotations

import _thread
import ctypes
import signal
import threading

import pytest

from policy_engine.chat.tokens.locator import _encodings
from policy_engine.core.interrupt import LONG, interruptible

HUGE = ["x" * LONG]


def test_ctrl_c_does_not_wait_for_a_huge_text() -> None:
    done = threading.Event()

    def encode(texts: list[str], *, add_special_tokens: bool) -> list[str]:
        ctypes.CDLL(None).usleep(4_000_000)  # as compiled code does: no signal is heard
        done.set()
        return texts

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process of xdist ignores it
    try:
        threading.Timer(0.2, _thread.interrupt_main).start()
        with pytest.raises(KeyboardInterrupt):
            _encodings(encode, HUGE)
    finally:
        signal.signal(signal.SIGINT, before)
    assert not done.is_set()


@pytest.mark.parametrize("texts", [["a", "b"], HUGE, []])
def test_results_and_errors_are_the_call_s(texts: list[str]) -> None:
    def fails(given: list[str]) -> None:
        raise LookupError(f"{len(given)} texts")

    assert [len(text) for text in texts] == interruptible(lambda given: [len(text) for text in given], texts)
    with pytest.raises(LookupError, match=f"{len(texts)} texts"):
        interruptible(fails, texts)


def test_only_a_huge_text_in_the_main_thread_has_a_thread_of_its_own() -> None:
    def thread(_: list[str]) -> threading.Thread:
        return threading.current_thread()

    assert threading.main_thread() is interruptible(thread, ["short"])
    assert "tokenizer" == interruptible(thread, HUGE).name
    found: list[threading.Thread] = []
    other = threading.Thread(target=lambda: found.append(interruptible(thread, HUGE)))
    other.start()
    other.join()
    assert [other] == found
