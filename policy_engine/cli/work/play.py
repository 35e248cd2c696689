"""Data, tokenizer and policy of the live page loaded, and the page served."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import Final

from rich.text import Text

from policy_engine import builtin
from policy_engine.cli.options import Named
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.records import PlayOptions
from policy_engine.cli.reporters.console import print_all
from policy_engine.cli.work.inputs import STDIN, load_chat_tokenizer, read_source
from policy_engine.core.memory import collect_as_usual
from policy_engine.data.dataset import load_dataset_spec
from policy_engine.lang.library import path_of, read_shipped
from policy_engine.play.loaded_rows import NO_FILE, Board, load_board, sample_policy
from policy_engine.play.serve import check_installed, serve

PRESET: Final = "default"


def play_on(data: str | None, named: Named, where: PlayOptions, *, limit: int) -> Outcome:
    """Serves the page until it is ended.

    Raises ConfigError if Gradio is not installed or no tokenizer is named, and what loading and reading raise.
    """
    # Before the tokenizer is loaded, which takes seconds.
    check_installed()
    board = board_for(data, named, limit=limit)
    if not _is_loopback(where.host):
        _say(
            f"warning: `{where.host}` is not this machine alone: whoever reaches it sees the first {len(board.rows)} "
            "rows of the data, and may use every policy in the policy's folder"
        )
    serve(board, host=where.host, port=where.port, browser=where.browser, say=_opened)
    return Outcome()


def board_for(data: str | None, named: Named, *, limit: int) -> Board:
    """The rows that the options name, with the policy to begin with.

    Without data it is the embedded sample, with its tokenizer unless one is named.
    """
    spec = None if named.dataset is None else load_dataset_spec(named.dataset)
    policy = named.policy if named.policy is not None or spec is None else spec.policy
    if data is None and named.dataset is None:
        named = replace(named, tokenizer=named.tokenizer or "builtin")
    loaded = load_chat_tokenizer(named)
    if policy is None:
        text = sample_policy() if data is None else read_shipped(PRESET).text
        name = NO_FILE
    else:
        source = read_source(policy)
        text = source.text
        # What is edited is no longer the shipped policy, and standard input is no file.
        name = source.name if policy != STDIN and path_of(source) is not None and not _is_shipped(policy) else NO_FILE
    return load_board(
        str(builtin.SAMPLE) if data is None else data,
        loaded,
        dataset=spec,
        limit=limit,
        opening=text,
        policy_name=name,
    )


def _is_shipped(name: str) -> bool:
    # As `read_policy` tells them apart: a name without a dot or slash is a shipped policy's.
    return name.replace("_", "a").isalnum()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _say(line: str) -> None:
    print_all([Text(line)], stderr=True)


def _opened(address: str) -> None:
    # The page may be open for days.
    collect_as_usual()
    _say(f"serving {address} – Ctrl-C ends it")
