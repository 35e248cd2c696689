"""`play` up to the page itself, which `make play-browser` tests."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policy_engine.cli.work import play
from policy_engine.core.memory import collect_rarely
from policy_engine.play import serve
from policy_engine.play.loaded_rows import NO_FILE, Board
from tests.cli.support import cli, write_chats, write_policy

Boards = list[tuple[Board, dict[str, Any]]]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Boards:
    """Boards that would have been served, with the options."""
    boards: Boards = []

    def serve(board: Board, *, say: Callable[[str], None], **options: Any) -> None:
        boards.append((board, options))
        say("http://127.0.0.1:7860/")

    monkeypatch.setattr(play, "check_installed", lambda: None)
    monkeypatch.setattr(play, "serve", serve)
    return boards


def test_without_gradio_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    ran = cli("play")
    assert 2 == ran.code
    assert "error[PE503]: the live page needs Gradio, which is not installed" in ran.err
    assert "help: install the extra: pip install '.[play]' in a clone; from the first release on: " in ran.err


def test_alone_it_opens_on_the_sample_and_a_preset(served: Boards) -> None:
    ran = cli("play")
    assert (0, "serving http://127.0.0.1:7860/ – Ctrl-C ends it\n") == (ran.code, ran.err)
    ((board, options),) = served
    assert {"host": "127.0.0.1", "port": None, "browser": True} == options
    assert (54, "builtin", NO_FILE) == (len(board.rows), board.tokenizer.name, board.policy_name)
    assert "train assistant\n" in board.opening
    assert board.opening.endswith("on media ignore\n")


def test_garbage_is_collected_as_usual_while_the_page_is_open(served: Boards) -> None:
    usual = gc.get_threshold()
    collect_rarely()
    try:
        cli("play")
        assert usual == gc.get_threshold()
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()


def test_data_policy_and_tokenizer(tmp_path: Path, served: Boards) -> None:
    chats, policy = write_chats(tmp_path), write_policy(tmp_path)
    ran = cli("play", chats, "-p", policy, "-t", "builtin", "--limit", "2", "--port", "9000", "--no-browser")
    assert 0 == ran.code
    ((board, options),) = served
    assert {"host": "127.0.0.1", "port": 9000, "browser": False} == options
    assert (2, True, str(policy)) == (len(board.rows), board.more, board.policy_name)
    assert policy.read_text() == board.opening
    assert 0 == cli("play", chats, "-p", "default", "-t", "builtin").code
    assert NO_FILE == served[1][0].policy_name
    assert 0 == cli("play", chats, "-t", "builtin").code
    assert "on media" not in served[2][0].opening


def test_a_dataset_file_names_policy_and_tokenizer(tmp_path: Path, served: Boards) -> None:
    write_policy(tmp_path)
    dataset = tmp_path / "data.yaml"
    dataset.write_text("policy: my.policy\ntokenizer: builtin\nmessages: {field: messages}\n")
    assert 0 == cli("play", write_chats(tmp_path), "--dataset", dataset).code
    assert str(tmp_path / "my.policy") == served[0][0].policy_name


@pytest.mark.parametrize(
    ("host", "warned"), [("127.0.0.1", 0), ("::1", 0), ("localhost", 0), ("0.0.0.0", 1), ("a.b", 1)]
)
def test_other_machines_are_warned_of(host: str, warned: int, served: Boards) -> None:
    ran = cli("play", "--host", host)
    assert 0 == ran.code
    assert warned == ran.err.count("is not this machine alone: whoever reaches it sees the first 54 rows")


def test_bad_input_is_told_before_anything_is_served(tmp_path: Path, served: Boards) -> None:
    assert 2 == cli("play", tmp_path / "none.jsonl", "-t", "builtin").code
    assert "no tokenizer is given" in cli("play", write_chats(tmp_path)).err
    assert 2 == cli("play", write_chats(tmp_path), "-t", "builtin", "-p", tmp_path / "none.policy").code
    assert [] == served
