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
