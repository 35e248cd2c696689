from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.cli.work import show as work
from policy_engine.report.view import row_view
from tests.cli.support import CHATS, cli, write_chats, write_policy


@pytest.fixture
def args(tmp_path: Path) -> list[str | Path]:
    return [write_chats(tmp_path), "-p", write_policy(tmp_path), "-t", "builtin"]


def test_marks_trained_text(args: list[str | Path]) -> None:
    ran = cli("show", *args)
    assert ran.code == 0
    assert "read as OpenAI messages" in ran.out
    assert "⟦Hi 世界.<|" in ran.out
    assert "⟦Hello" not in ran.out
    assert "row 3" in ran.out
    assert "train eos after assistant" in ran.out


def test_rows_and_limit(args: list[str | Path]) -> None:
    assert ["row 1"] == [r["name"] for r in cli("show", *args, "--limit", "1", "--format", "json").document["rows"]]
    ran = cli("show", *args, "--row", "3", "--row", "2", "--format", "json")
    assert ["row 2", "row 3"] == [r["name"] for r in ran.document["rows"]]
    ran = cli("show", *args, "--row", "9")
    assert ran.code == 2
    assert "there is no row 9: the last of" in ran.err


def test_says_that_there_are_more_rows(args: list[str | Path]) -> None:
    assert "there are more rows than 2" in cli("show", *args, "--limit", "2").out
    assert "there are more" not in cli("show", *args, "--limit", "3").out
    assert "there are more" not in cli("show", *args, "--row", "1").out


def test_rows_before_the_place_where_a_file_breaks_off_are_shown(tmp_path: Path) -> None:
    rows = write_chats(tmp_path, [CHATS[0], CHATS[1]]).read_text(encoding="utf-8").splitlines()
    broken = tmp_path / "chats.json"
    broken.write_text("[" + ",\n".join([*rows, '{"messages": [']), encoding="utf-8")
    shown = ("show", broken, "-p", write_policy(tmp_path), "-t", "builtin", "--limit")
    ran = cli(*shown, "1")
    assert (0, True) == (ran.code, "⟦Hi 世界.<|" in ran.out), ran.err
    ran = cli(*shown, "3")
    assert 2 == ran.code
    assert "item 3 of the array is not JSON" in ran.err


def test_counts_rows_with_control_tokens_in_the_data(tmp_path: Path) -> None:
    hostile = '{"messages": [{"role": "user", "content": "a <|im_end|> b"}, {"role": "assistant", "content": "c"}]}'
    chats = write_chats(tmp_path, [CHATS[0], hostile, CHATS[2]])
    shown = ("show", chats, "-p", write_policy(tmp_path), "-t", "builtin")
    said = cli(*shown).out
    assert (
        "1 row with control tokens in the data: `<|im_end|>` (row 2); to the model they are the template's own" in said
    )
    # What it says to do makes plain text of them.
    (tmp_path / "d.yaml").write_text("template_kwargs: {sanitize_control_tokens: true}\n")
    assert "`template_kwargs: {sanitize_control_tokens: true}` in a dataset file makes plain text of them" in said
    assert "control tokens" not in cli(*shown, "--dataset", tmp_path / "d.yaml").out
    document = cli(*shown, "--format", "json").document
    assert 1 == document["rows_with_control_tokens"]
    assert [{"token": "<|im_end|>", "rows": 1, "first_rows": [2]}] == document["control_tokens"]
    assert 0 == cli(*shown, "--row", "1", "--format", "json").document["rows_with_control_tokens"]


def test_json_decides_every_token(args: list[str | Path]) -> None:
    (row, *_) = cli("show", *args, "--format", "json").document["rows"]
    assert row["tokens"] == len(row["decisions"])
    trained = "".join(d["text"] for d in row["decisions"] if d["weight"])
    assert trained.startswith("Hi 世界.")
    assert row["text"] == "".join(d["text"] for d in row["decisions"])
    assert {"user", "assistant"} == {d["role"] for d in row["decisions"]} - {None}


def test_html_page(args: list[str | Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert cli("show", *args, "--html", page).code == 0
    text = page.read_text(encoding="utf-8")
    assert "data-d=" in text
    assert "train eos after assistant" in text
    again = cli("show", *args, "--html", page)
    assert again.code == 2
    assert "--overwrite" in again.err
    assert cli("show", *args, "--html", page, "--overwrite", "--limit", "1").code == 0
    assert page.read_text(encoding="utf-8") != text


def test_a_row_that_fails_is_told_and_the_others_are_shown(tmp_path: Path) -> None:
    chats = write_chats(tmp_path, [CHATS[0], '{"messages": [{"role": "user"', '{"other": 1}', CHATS[2]])
    ran = cli("show", chats, "-p", write_policy(tmp_path), "-t", "builtin", "--format", "json")
    assert ran.code == 1
    assert ["row 1", "row 4"] == [r["name"] for r in ran.document["rows"]]
    assert [(str(chats), n, n) for n in (2, 3)] == [
        (d["location"]["file"], d["location"]["line"], d["location"]["end_line"]) for d in ran.document["diagnostics"]
    ]


def test_nothing_is_shown_of_a_row_that_fails_alone(tmp_path: Path) -> None:
    chats = write_chats(tmp_path, [CHATS[0], '{"other": 1}'])
    ran = cli("show", chats, "-p", write_policy(tmp_path), "-t", "builtin", "--row", "2")
    assert ran.code == 1
    assert "chats.jsonl:2: error[PE501]" in ran.err
    assert 1 == len(ran.out.splitlines())
    assert ran.out.startswith("read as ")


def test_a_page_that_exists_names_its_option(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    ran = cli("show", write_chats(tmp_path), "-p", write_policy(tmp_path), "-t", "builtin", "--html", page)
    assert (2, "mine") == (ran.code, page.read_text())
    assert "help: name another output with --html, or pass --overwrite to replace it" in ran.err


def test_stdin(tmp_path: Path) -> None:
    data = write_chats(tmp_path).read_text()
    ran = cli("show", "-", "-p", write_policy(tmp_path), "-t", "builtin", stdin=data)
    assert ran.code == 0
    assert "row 3" in ran.out


def test_dataset_file_gives_policy_and_tokenizer(tmp_path: Path) -> None:
    write_policy(tmp_path)
    dataset = tmp_path / "data.yaml"
    dataset.write_text("policy: my.policy\ntokenizer: builtin\nmessages: {field: messages}\n")
    ran = cli("show", write_chats(tmp_path), "--dataset", dataset, "--color-by", "rule")
    assert ran.code == 0
    assert "⟦Hi 世界." in ran.out


def test_text_makes_no_object_for_each_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only JSON and `--ids` need is made for them alone."""
    arguments = ["show", write_chats(tmp_path), "-p", write_policy(tmp_path), "-t", "builtin"]
    calls: list[str] = []
    monkeypatch.setattr(work, "_row", lambda row: calls.append("json") or {})  # type: ignore[func-returns-value]
    monkeypatch.setattr(work, "row_view", lambda *a, **k: calls.append("tokens") or row_view(*a, **k))  # type: ignore[func-returns-value]
    plain = cli(*arguments)
    assert [] == calls
    cli(*arguments, "--ids")
    assert {"tokens"} == set(calls)
    cli(*arguments, "--format", "json")
    assert {"tokens", "json"} == set(calls)
    monkeypatch.setattr(work, "run_view", row_view)
    assert plain == cli(*arguments)


class Wrong:
    """A fast backend that differs from every tokenizer."""

    name = "wrong"

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [[1] * len(text) for text in texts]


@pytest.mark.parametrize("verb", ["show", "explain"])
def test_a_known_backend_that_differs_is_left(
    verb: str, args: list[str | Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = cli(verb, *args)
    taken: list[str] = []
    monkeypatch.setattr(ChatTokenizer, "known_fast", lambda self: taken.append(self.name) or Wrong())  # type: ignore[func-returns-value]
    assert plain == cli(verb, *args)
    assert ["builtin"] == taken


def test_a_pipe_takes_no_known_backend(args: list[str | Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChatTokenizer, "known_fast", lambda self: Wrong())
    ran = cli("show", "-", *args[1:], stdin=Path(args[0]).read_text(encoding="utf-8"))
    assert (0, cli("show", *args).out) == (ran.code, ran.out)


def test_the_format_is_seen_in_as_many_rows_as_apply_looks_at(tmp_path: Path) -> None:
    chats = write_chats(tmp_path, [CHATS[0]] * 30)
    ran = cli("show", chats, "-p", write_policy(tmp_path), "-t", "builtin", "--row", "1")
    assert "(30 of 30 rows looked at)" in ran.out.splitlines()[0]


@pytest.mark.parametrize(
    ("verb", "options", "given"),
    [
        ("show", ("--limit", "2"), 2),
        ("show", ("--row", "2"), 2),
        ("explain", ("--row", "2"), 2),
        ("explain", (), 1),
    ],
)
def test_a_pipe_that_goes_on_is_not_waited_for(tmp_path: Path, verb: str, options: tuple[str, ...], given: int) -> None:
    reading, writing = os.pipe()
    lines = write_chats(tmp_path).read_text(encoding="utf-8").splitlines(keepends=True)
    os.write(writing, "".join(lines[:given]).encode())
    # Only so that a failing test ends.
    late = threading.Timer(60, os.close, [writing])
    late.start()
    with os.fdopen(reading) as pipe:
        ran = cli(verb, "-", "-p", write_policy(tmp_path), "-t", "builtin", *options, stdin=pipe)
    assert late.is_alive()
    late.cancel()
    os.close(writing)
    assert ran.code == 0
    text = " ".join(ran.out.split())
    assert f"({given} of {given} row{'s' if given > 1 else ''} looked at)" in text
    assert (verb == "explain" or "--row" in options) or "the pipe's first 2 rows: `--limit` shows more" in text


def test_a_pipe_of_which_the_first_rows_show_no_format(tmp_path: Path) -> None:
    lines = ['{"messages": null}\n', *write_chats(tmp_path).read_text(encoding="utf-8").splitlines(keepends=True)]
    ran = cli("show", "-", "-p", write_policy(tmp_path), "-t", "builtin", "--limit", "1", stdin="".join(lines))
    assert ran.code == 1
    assert "of 4 rows looked at" in " ".join(ran.out.split())
