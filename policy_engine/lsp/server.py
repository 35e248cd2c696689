"""The language server, on pygls: protocol in and out, nothing about policies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer
from pygls.uris import from_fs_path, to_fs_path
from pygls.workspace import PositionCodec, TextDocument

from policy_engine._version import __version__
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.source import Source, Span
from policy_engine.lang import ast
from policy_engine.lang.format import format_policy
from policy_engine.lang.library import path_of
from policy_engine.lsp.completion import Kind, complete
from policy_engine.lsp.document import PolicyDocument
from policy_engine.lsp.hover import hover
from policy_engine.lsp.latest import Latest
from policy_engine.lsp.names import Defined, defined_at, definition, name_of, occurrences, refuse_name
from policy_engine.lsp.workspace import policies_around

PAUSE: Final = 0.15
"""Seconds without typing before a text is checked and proven."""
_SEVERITIES: Final = {
    "error": lsp.DiagnosticSeverity.Error,
    "warning": lsp.DiagnosticSeverity.Warning,
    "info": lsp.DiagnosticSeverity.Information,
}
_KINDS: Final[dict[Kind, lsp.CompletionItemKind]] = {
    "keyword": lsp.CompletionItemKind.Keyword,
    "role": lsp.CompletionItemKind.Class,
    "part": lsp.CompletionItemKind.Property,
    "let": lsp.CompletionItemKind.Variable,
    "field": lsp.CompletionItemKind.Field,
    "setting": lsp.CompletionItemKind.Property,
    "value": lsp.CompletionItemKind.EnumMember,
    "policy": lsp.CompletionItemKind.Module,
}

# What reads every statement of a text is done in a thread: hover and completion need not wait for it. Handlers are
# not (`server.thread`): pygls would send their answers from that thread, in the middle of another message.
# Whole texts instead of changes: policies are small, and lines then mean the same here and in diagnostics.
server = LanguageServer("policy-engine", __version__, text_document_sync_kind=lsp.TextDocumentSyncKind.Full)


def _path(uri: str) -> Path | None:
    path: str | None = to_fs_path(uri) if uri.startswith("file:") else None
    return Path(path) if path else None


class _Open:
    """A document of the client, and offsets in the client's units."""

    def __init__(self, uri: str) -> None:
        self.text_document: TextDocument = server.workspace.get_text_document(uri)
        self.document = PolicyDocument(self.text_document.source, _path(uri))
        self.codec: PositionCodec = self.text_document.position_codec

    def offset(self, position: lsp.Position) -> int:
        # Not `splitlines`, which also breaks at form feeds and U+2028; the protocol does not.
        lines = self.document.source.text.split("\n")
        if position.line >= len(lines):
            return len(self.document.source.text)
        # Editors count UTF-16 units unless they agree on another unit; an emoji is two of them.
        inner = self.codec.position_from_client_units([lines[position.line]], lsp.Position(0, position.character))
        return sum(len(line) + 1 for line in lines[: position.line]) + min(inner.character, len(lines[position.line]))

    def range(self, span: Span) -> lsp.Range:
        return lsp.Range(self._position(span.source, span.start), self._position(span.source, span.end))

    def _position(self, source: Source, offset: int) -> lsp.Position:
        line, column = source.position(offset)
        before = source.line(line)[: column - 1]
        # pygls counts character by character, which ASCII does not need.
        return lsp.Position(line - 1, len(before) if before.isascii() else self.codec.client_num_units(before))

    def whole(self) -> lsp.Range:
        return self.range(Span(source=self.document.source, start=0, end=len(self.document.source.text)))

    def uri(self, source: Source) -> str | None:
        if source.name == self.document.source.name:
            return self.text_document.uri
        # A shipped policy is in the package, a used one beside the document.
        path = path_of(source) or (Path(source.name) if Path(source.name).is_file() else None)
        return from_fs_path(str(path)) if path else None

    def diagnostic(self, found: Diagnostic) -> lsp.Diagnostic:
        # A finding in a file that this one uses has no place here, so it is shown at the top with its own.
        elsewhere = found.span is not None and found.span.source.name != self.document.source.name
        here = found.span is not None and not elsewhere
        message = f"{found.span}: {found.message}" if elsewhere else found.message
        related = [
            lsp.DiagnosticRelatedInformation(lsp.Location(uri, self.range(r.span)), r.message)
            for r in found.related
            if (uri := self.uri(r.span.source)) is not None
        ]
        return lsp.Diagnostic(
            range=self.range(found.span) if here and found.span else lsp.Range(lsp.Position(0, 0), lsp.Position(0, 0)),
            message=f"{message}\n{found.help}" if found.help else message,
            severity=_SEVERITIES[found.severity],
            code=found.code,
            source="policy-engine",
            related_information=related or None,
        )


_checks = Latest()


def _refused(error: PolicyEngineError) -> JsonRpcInvalidParams:
    return JsonRpcInvalidParams(message=f"{error.message}; {error.help}" if error.help else error.message)


@server.feature(lsp.TEXT_DOCUMENT_DID_OPEN)
async def _opened(params: lsp.DidOpenTextDocumentParams) -> None:
    await _publish(params.text_document.uri)


@server.feature(lsp.TEXT_DOCUMENT_DID_CHANGE)
async def _changed(params: lsp.DidChangeTextDocumentParams) -> None:
    version = params.text_document.version
    # Each key stroke starts one; only the one whose version is still the newest goes on.
    await asyncio.sleep(PAUSE)
    if server.workspace.get_text_document(params.text_document.uri).version == version:
        await _publish(params.text_document.uri)


@server.feature(lsp.TEXT_DOCUMENT_DID_SAVE)
async def _saved(params: lsp.DidSaveTextDocumentParams) -> None:
    await _publish(params.text_document.uri)


@server.feature(lsp.TEXT_DOCUMENT_DID_CLOSE)
def _closed(params: lsp.DidCloseTextDocumentParams) -> None:
    # Editors keep showing the findings of a closed file until they get new ones.
    empty = lsp.PublishDiagnosticsParams(uri=params.text_document.uri, diagnostics=[])
    server.text_document_publish_diagnostics(empty)


async def _publish(uri: str) -> None:
    """Checks a document and publishes its findings.

    Edits that come meanwhile are checked together afterwards: checks beside each other would keep all waiting.
    """
    await _checks.run(uri, lambda: _check(uri))


async def _check(uri: str) -> None:
    open_ = _Open(uri)
    version = open_.text_document.version
    # In a thread: a proof, or thousands of findings, must not keep hover and completion waiting.
    diagnostics = await asyncio.to_thread(lambda: [open_.diagnostic(d) for d in open_.document.findings()])
    # What was typed, or closed, meanwhile has findings of its own.
    if uri in server.workspace.text_documents and server.workspace.text_documents[uri].version == version:
        server.text_document_publish_diagnostics(
            lsp.PublishDiagnosticsParams(uri=uri, version=version, diagnostics=diagnostics)
        )


@server.feature(lsp.TEXT_DOCUMENT_HOVER)
def _hover(params: lsp.HoverParams) -> lsp.Hover | None:
    open_ = _Open(params.text_document.uri)
    text = hover(open_.document, open_.offset(params.position))
    return lsp.Hover(lsp.MarkupContent(lsp.MarkupKind.Markdown, text)) if text else None


@server.feature(lsp.TEXT_DOCUMENT_COMPLETION, lsp.CompletionOptions(trigger_characters=[".", " "]))
def _completion(params: lsp.CompletionParams) -> list[lsp.CompletionItem]:
    open_ = _Open(params.text_document.uri)
    words = complete(open_.document, open_.offset(params.position))
    return [lsp.CompletionItem(label=w.label, kind=_KINDS[w.kind], detail=w.doc or None) for w in words]


@server.feature(lsp.TEXT_DOCUMENT_FORMATTING)
async def _formatting(params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit]:
    return await asyncio.to_thread(_formatting_of, params)


def _formatting_of(params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit]:
    open_ = _Open(params.text_document.uri)
    policy, errors = open_.document.parsed
    if errors:
        return []  # its diagnostics say what is in the way
    text = format_policy(policy)
    return [] if text == policy.source.text else [lsp.TextEdit(open_.whole(), text)]


@server.feature(lsp.TEXT_DOCUMENT_DEFINITION)
async def _definition(params: lsp.DefinitionParams) -> lsp.Location | None:
    return await asyncio.to_thread(_definition_of, params)


def _definition_of(params: lsp.DefinitionParams) -> lsp.Location | None:
    open_ = _Open(params.text_document.uri)
    found = definition(open_.document, open_.offset(params.position))
    if found is None or (uri := open_.uri(found[0])) is None:
        return None
    return lsp.Location(uri, open_.range(found[1] or Span(source=found[0], start=0, end=0)))


@server.feature(lsp.TEXT_DOCUMENT_PREPARE_RENAME)
async def _prepare_rename(params: lsp.PrepareRenameParams) -> lsp.Range | None:
    return await asyncio.to_thread(_prepare_rename_of, params)


def _prepare_rename_of(params: lsp.PrepareRenameParams) -> lsp.Range | None:
    open_ = _Open(params.text_document.uri)
    offset = open_.offset(params.position)
    try:
        found = defined_at(open_.document, offset)
    except PolicyEngineError as error:
        raise _refused(error) from None
    spans = occurrences(open_.document, found) if found else ()
    return next((open_.range(s) for s in spans if s.start <= offset <= s.end), None)


@server.feature(lsp.TEXT_DOCUMENT_RENAME, lsp.RenameOptions(prepare_provider=True))
async def _rename(params: lsp.RenameParams) -> lsp.WorkspaceEdit | None:
    return await asyncio.to_thread(_rename_of, params)


def _rename_of(params: lsp.RenameParams) -> lsp.WorkspaceEdit | None:
    open_ = _Open(params.text_document.uri)
    changes: dict[str, list[lsp.TextEdit]] = {}
    try:
        found = defined_at(open_.document, open_.offset(params.position))
        if found is None or found.name == params.new_name:
            return None
        for one in _family(open_, found):
            spans = occurrences(one.document, found)
            if spans:
                refuse_name(one.document, params.new_name)
                changes[one.text_document.uri] = [lsp.TextEdit(one.range(s), params.new_name) for s in spans]
    except PolicyEngineError as error:
        raise _refused(error) from None
    return lsp.WorkspaceEdit(changes=changes)


def _family(asked: _Open, found: Defined) -> list[_Open]:
    """The document in question, and every other document of the workspace that has the name.

    Each is as the client sees it.
    """
    if found.home is None:
        return [asked]
    # An open document is as the client sees it, which the file on disk may not be.
    uris = {path.resolve(): uri for uri in server.workspace.text_documents if (path := _path(uri)) is not None}
    roots = [path for uri in server.workspace.folders if (path := _path(uri)) is not None]
    roots += [asked.document.path.parent] if asked.document.path else []
    family = [asked]
    for path in policies_around(found.home, roots):
        uri = uris.get(path) or from_fs_path(str(path))
        if uri is None or uri == asked.text_document.uri:
            continue
        try:
            one = _Open(uri)
        except (OSError, ValueError):
            continue  # a file that cannot be read names nothing
        # Reading a file is cheap, parsing it is not.
        if found.name in one.document.source.text:
            family.append(one)
    return family


@server.feature(lsp.TEXT_DOCUMENT_DOCUMENT_SYMBOL)
async def _symbols(params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
    return await asyncio.to_thread(_symbols_of, params)


def _symbols_of(params: lsp.DocumentSymbolParams) -> list[lsp.DocumentSymbol]:
    open_ = _Open(params.text_document.uri)
    found = []
    for statement in open_.document.policy.statements:
        let = isinstance(statement, ast.Let)
        kind = lsp.SymbolKind.Variable if let else lsp.SymbolKind.Function
        name = statement.name if isinstance(statement, ast.Let) else statement.span.one_line
        selection = name_of(statement) if isinstance(statement, ast.Let) else statement.span
        found.append(lsp.DocumentSymbol(name, kind, open_.range(statement.span), open_.range(selection)))
    return found
