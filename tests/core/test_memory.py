from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest

from policy_engine.core.memory import not_collecting


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_blocks_may_be_inside_of_others_and_may_raise() -> None:
    seen = []

    @not_collecting()
    def fails() -> None:
        with not_collecting():
            seen.append(gc.isenabled())
        seen.append(gc.isenabled())
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert seen == [False, False]
    assert gc.isenabled()


def test_what_is_off_stays_off() -> None:
    gc.disable()
    with not_collecting():
        pass
    assert not gc.isenabled()


def test_the_last_of_many_threads_begins_again() -> None:
    inside, go_on = threading.Barrier(5), threading.Event()

    def pause() -> None:
        with not_collecting():
            inside.wait()
            go_on.wait()

    threads = [threading.Thread(target=pause) for _ in range(4)]
    for thread in threads:
        thread.start()
    inside.wait()
    with not_collecting():
        pass
    assert not gc.isenabled()
    go_on.set()
    for thread in threads:
        thread.join()
    assert gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_collects() -> None:
    with not_collecting():
        if not (child := os.fork()):
            # Threads that paused it are not there, and blocks that end here have nothing to end.
            is_on = gc.isenabled()
            with not_collecting():
                is_off = not gc.isenabled()
            os._exit(0 if is_on and is_off and gc.isenabled() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert gc.isenabled()
