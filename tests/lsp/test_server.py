"""The language server, asked by a real client over stdio."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

pytest.importorskip("pygls")
pytest_lsp = pytest.importorskip("pytest_lsp")

from lsprotocol import types as lsp  # noqa: E402
from pygls.exceptions import JsonRpcException  # noqa: E402
from pygls.uris import to_fs_path  # noqa: E402

from policy_engine.lsp.document import QUICK  # noqa: E402

START = "from policy_engine.cli.main import main; main()"
TEXT = """# 🙂
let answers = assistant
train answers; mask system, user
train eos of answers
never train user
"""


@pytest_lsp.fixture(config=pytest_lsp.ClientServerConfig(server_command=[sys.executable, "-c", START, "lsp"]))
async def client(lsp_client: pytest_lsp.LanguageClient) -> AsyncIterator[None]:
    capabilities = pytest_lsp.client_capabilities("visual-studio-code")
    await lsp_client.initialize_session(lsp.InitializeParams(capabilities=capabilities))
    yield
    await lsp_client.shutdown_session()


def opened(client: pytest_lsp.LanguageClient, path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    client.text_document_did_open(lsp.DidOpenTextDocumentParams(lsp.TextDocumentItem(path.as_uri(), "policy", 1, text)))
    return path.as_uri()


def changed(client: pytest_lsp.LanguageClient, uri: str, version: int, text: str) -> None:
    client.text_document_did_change(
        lsp.DidChangeTextDocumentParams(
            lsp.VersionedTextDocumentIdentifier(version, uri), [lsp.TextDocumentContentChangeWholeDocument(text)]
        )
    )


@pytest.mark.asyncio
async def test_diagnostics(client: pytest_lsp.LanguageClient, tmp_path: Path) -> None:
    uri = opened(client, tmp_path / "a.policy", 'train "🙂" ; train asistant.txt; mask of')
    await client.wait_for_notification(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    found = client.diagnostics[uri]
    assert {"PE201", "PE202"} <= {d.code for d in found}
    # Columns are UTF-16 units: the emoji counts as two.
    assert {19} == {d.range.start.character for d in found if "txt" in d.message or "asistant" in d.message}

    changed(client, uri, 2, "train assistant, eos of assistant\ntrain user after user\nnever train user\n")
    await client.wait_for_notification(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    (guard,) = [d for d in client.diagnostics[uri] if d.code == "PE303"]
    assert (2, 0, lsp.DiagnosticSeverity.Error) == (guard.range.start.line, guard.range.start.character, guard.severity)
    assert [1] == [r.location.range.start.line for r in guard.related_information or ()]

    changed(client, uri, 3, "train assistant, eos of assistant\nnever train user\n")
    await client.wait_for_notification(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    assert [] == list(client.diagnostics[uri])


@pytest.mark.asyncio
async def test_hover_names_and_layout(client: pytest_lsp.LanguageClient, tmp_path: Path) -> None:
    uri = opened(client, tmp_path / "a.policy", TEXT)
    document = lsp.TextDocumentIdentifier(uri)

    async def said(line: int, character: int) -> str:
        found = await client.text_document_hover_async(lsp.HoverParams(document, lsp.Position(line, character)))
        return found.contents.value if found else ""

    assert "`text`: the message's content" in await said(2, 8)
    assert "`eot`" not in await said(2, 8)
    assert "`eot`: marker" in await said(2, 22)  # `mask system` is the whole turn
    assert "**never**" in await said(4, 1)
    assert "" == await said(0, 1)

    at = lsp.Position(3, 15)
    place = await client.text_document_definition_async(lsp.DefinitionParams(document, at))
    assert (uri, 1, 4, 11) == (
        place.uri,
        place.range.start.line,
        place.range.start.character,
        place.range.end.character,
    )

    edit = await client.text_document_rename_async(lsp.RenameParams(document, at, "replies"))
    assert [(1, 4), (2, 6), (3, 13)] == [(e.range.start.line, e.range.start.character) for e in edit.changes[uri]]
    with pytest.raises(JsonRpcException, match="word of the language"):
        await client.text_document_rename_async(lsp.RenameParams(document, at, "train"))

    options = lsp.FormattingOptions(tab_size=2, insert_spaces=True)
    (layout,) = await client.text_document_formatting_async(lsp.DocumentFormattingParams(document, options))
    assert "train answers\nmask system, user\n" in layout.new_text
    symbols = await client.text_document_document_symbol_async(lsp.DocumentSymbolParams(document))
    assert "answers" == symbols[0].name
    assert 5 == len(symbols)


@pytest.mark.asyncio
async def test_a_name_is_renamed_in_every_file_that_uses_it(client: pytest_lsp.LanguageClient, tmp_path: Path) -> None:
    (tmp_path / "names").mkdir()
    home = tmp_path / "names" / "lets.policy"
    home.write_text("let answers = assistant\nlet others = answers after user\n", encoding="utf-8")
    (tmp_path / "uses.policy").write_text('use "names/lets.policy"\ntrain answers\ntrain eos of answers\n')
    (tmp_path / "through.policy").write_text(
        'use "uses.policy"\n# answers\nmask answers where message.x == "answers"\n'
    )
    (tmp_path / "own.policy").write_text("let answers = user\ntrain answers\n")
    (tmp_path / "role.policy").write_text("train answers\n")
    # What is open and not saved counts, not what is on the disk.
    text = 'use "names/lets.policy"\nmask others\ntrain answers.text\n'
    uri = opened(client, tmp_path / "open.policy", text.replace("train answers.text\n", ""))
    changed(client, uri, 2, text)
    at = lsp.Position(2, 8)
    found = await client.text_document_prepare_rename_async(
        lsp.PrepareRenameParams(lsp.TextDocumentIdentifier(uri), at)
    )
    assert (2, 6, 13) == (found.start.line, found.start.character, found.end.character)
    edit = await client.text_document_rename_async(lsp.RenameParams(lsp.TextDocumentIdentifier(uri), at, "replies"))
    places = {
        Path(to_fs_path(uri)).name: [(e.range.start.line, e.range.start.character) for e in edits]
        for uri, edits in edit.changes.items()
    }
    assert {
        "lets.policy": [(0, 4), (1, 13)],
        "uses.policy": [(1, 6), (2, 13)],
        "through.policy": [(2, 5)],
        "open.policy": [(2, 6)],
    } == places
    assert {"replies"} == {e.new_text for edits in edit.changes.values() for e in edits}
    # A name that one of them gives another meaning is refused for all.
    (tmp_path / "uses.policy").write_text('use "names/lets.policy"\ntrain answers\nmask replies\n')
    with pytest.raises(JsonRpcException, match="already means something"):
        await client.text_document_rename_async(lsp.RenameParams(lsp.TextDocumentIdentifier(uri), at, "replies"))


@pytest.mark.asyncio
async def test_a_long_policy_says_that_it_is_not_proven(client: pytest_lsp.LanguageClient, tmp_path: Path) -> None:
    rules = "".join(f"train assistant where message.x == {n}\n" for n in range(QUICK))
    uri = opened(client, tmp_path / "a.policy", f"train assistant, user, eos\n{rules}never train user\n")
    await client.wait_for_notification(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    (note,) = [d for d in client.diagnostics[uri] if d.code == "PE307"]
    assert (lsp.DiagnosticSeverity.Information, QUICK + 1) == (note.severity, note.range.start.line)
    assert "PE303" not in {d.code for d in client.diagnostics[uri]}
    changed(client, uri, 2, "train assistant, user, eos\nnever train user\n")
    await client.wait_for_notification(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    codes = {d.code for d in client.diagnostics[uri]}
    assert "PE303" in codes
    assert "PE307" not in codes


@pytest.mark.asyncio
async def test_hover_of_every_kind(client: pytest_lsp.LanguageClient, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("fields: {message.score: number, message.cuts: list}\n", encoding="utf-8")
    text = (
        "use default\n"
        "on straddle mask\n"
        "mask /train (me|you)/is in assistant.text\n"
        "train spans message.cuts in assistant.text weight message.score\n"
        'train last 2 assistant where message.content matches /mask/ and message.role == "train"\n'
        "train eot after assistant # train\n"
        "mask assistant where result.score < 1 or has previous.tool_call_id\n"
    )
    uri = opened(client, tmp_path / "a.policy", text)

    async def said(line: int, word: str) -> str:
        at = lsp.Position(line, text.splitlines()[line].index(word) + 1)
        found = await client.text_document_hover_async(lsp.HoverParams(lsp.TextDocumentIdentifier(uri), at))
        return found.contents.value if found else ""

    assert "shipped policy **default**" in await said(0, "default")
    assert "Values: `mask`, `train`, `error`" in await said(1, "straddle")
    regex = await said(2, "train")
    assert "**/train (me|you)/is**: an RE2 regex, searched in each run of characters that `assistant.text`" in regex
    assert "case is ignored" in regex
    assert "`text`: the message's content" in await said(2, "text")
    assert "**spans**" in await said(3, "spans")
    spans = await said(3, "cuts")
    assert "**message.cuts**: list, as the dataset file declares" in spans
    assert "`[begin, end)` pairs" in spans
    assert "**message.score**: number" in await said(3, "score")
    assert "**last**" in await said(4, "last")
    assert "searched in `message.content`" in await said(4, "/mask")
    assert "" == await said(4, '"train"')
    assert "the turns that the relation counts from" in await said(5, "assistant")
    assert "" == await said(5, "# train")
    result = await said(6, "result")
    assert result.startswith("**result.score**: any key of the tool message that answers a call of this turn")
    assert result.endswith("number, as the dataset file declares for `message`")
    assert "**previous.tool_call_id**: any key of the message before" in await said(6, "previous")


@pytest.mark.asyncio
async def test_completion_of_declared_fields(client: pytest_lsp.LanguageClient, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "fields: {message.score: number, message.cuts: list, sample.meta.source: string, call.ok: boolean}\n",
        encoding="utf-8",
    )
    lines = [
        "train assistant weight message.",
        "train spans message. in assistant.text",
        "mask user where sample.",
        "mask user where sample.meta.",
        "mask tool unless call.",
        "mask user where ",
        "mask user where turn.",
        "scale assistant by ",
        "mask user where result.",
    ]
    uri = opened(client, tmp_path / "a.policy", "\n".join(lines))

    async def items(line: int, after: str) -> dict[str, str | None]:
        at = lsp.Position(line, lines[line].index(after) + len(after))
        params = lsp.CompletionParams(lsp.TextDocumentIdentifier(uri), at)
        return {item.label: item.detail for item in await client.text_document_completion_async(params)}

    assert "number" == (await items(0, "message."))["score"]
    assert "list" == (await items(1, "message."))["cuts"]
    assert {"meta.source": "string"} == await items(2, "sample.")
    assert {"source": "string"} == await items(3, "sample.meta.")
    assert {"name", "arguments", "ok"} == set(await items(4, "call."))
    assert {"message.score", "sample.meta.source", "has", "turn"} <= set(await items(5, "where "))
    assert {"index", "from_end", "round", "chars"} == set(await items(6, "turn."))
    assert "message.score" in await items(7, "by ")
    assert "has" not in await items(7, "by ")
    assert {"previous", "next", "result", "answer"} <= set(await items(5, "where "))
    assert {"role": None, "content": None, "score": "number", "cuts": "list"} == await items(8, "result.")


@pytest.mark.asyncio
async def test_a_dataset_file_that_cannot_be_read_is_told(client: pytest_lsp.LanguageClient, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("feilds: {message.score: number}\n", encoding="utf-8")
    uri = opened(client, tmp_path / "a.policy", "train assistant\ntrain eos of assistant\n")
    await client.wait_for_notification(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    assert ["a.yaml"] == [w for d in client.diagnostics[uri] for w in ("a.yaml",) if w in d.message]
    client.text_document_did_close(lsp.DidCloseTextDocumentParams(lsp.TextDocumentIdentifier(uri)))
    await client.wait_for_notification(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    assert [] == list(client.diagnostics[uri])


@pytest.mark.asyncio
async def test_layout_is_left_alone_where_a_text_does_not_parse(
    client: pytest_lsp.LanguageClient, tmp_path: Path
) -> None:
    options = lsp.FormattingOptions(tab_size=2, insert_spaces=True)
    for name, text in (("broken", "train   (\n"), ("good", "train assistant\n")):
        uri = opened(client, tmp_path / f"{name}.policy", text)
        params = lsp.DocumentFormattingParams(lsp.TextDocumentIdentifier(uri), options)
        assert not await client.text_document_formatting_async(params)


@pytest.mark.asyncio
async def test_completion_and_used_files(client: pytest_lsp.LanguageClient, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("fields: {message.score: number}\ntrained_roles: [critic_two]\n", encoding="utf-8")
    text = 'use default\ntrain assistant where message.\nuse \non straddle \ntrain \nuse "b.policy"\n'
    (tmp_path / "b.policy").write_text("mask user\n", encoding="utf-8")
    uri = opened(client, tmp_path / "a.policy", text)
    document = lsp.TextDocumentIdentifier(uri)

    async def words(line: int, character: int) -> set[str]:
        found = await client.text_document_completion_async(
            lsp.CompletionParams(document, lsp.Position(line, character))
        )
        return {item.label for item in found}

    assert {"score", "role", "content"} == await words(1, 30)
    assert {"default", "axolotl"} <= await words(2, 4)
    assert {"mask", "train", "error"} == await words(3, 12)
    assert {"critic_two", "assistant", "reasoning.text", "last"} <= await words(4, 6)
    assert {"train", "use"} <= await words(6, 0)

    shipped = await client.text_document_definition_async(lsp.DefinitionParams(document, lsp.Position(0, 6)))
    assert shipped.uri.endswith("/policies/default.policy")
    beside = await client.text_document_definition_async(lsp.DefinitionParams(document, lsp.Position(5, 7)))
    assert (tmp_path / "b.policy").as_uri() == beside.uri
