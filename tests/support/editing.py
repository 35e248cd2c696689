"""A long policy under random edits, and a client that asks a real language server about it."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.client import LanguageClient

START: Final = "from policy_engine.cli.main import main; main()"
QUESTIONS: Final = ("hover", "completion", "definition", "prepare rename", "rename", "symbols", "formatting")
PATIENCE: Final = 120.0
"""Seconds after which an answer is taken for lost."""
_PIECES: Final = (
    "", " ", "\n", '"', "'", "\\", ";", "#", ",", "🙂", "e\u0301",
    "\u202e", "\0", "\t", "\r\n", "(", "{", "}", "/(/", "let ", "use ",
    "train assistant\n", "never train user\n", "where ", "not ", "0.5", "message.",
    "name_7", 'let a = "b"\n',
    "mask user # policy: ignore PE301\n",
    "# comment\n", "let name_2 = name_7, name_12\n", "x" * 3_000, "\n" * 200, "train (((assistant)))\n", "é",
    'use "../other.policy"\n',
)  # fmt: skip


def long_policy(lines: int = 5_000) -> str:
    """A policy of that many lines: rules, conditions, names that rules use, weights and comments."""
    return "\n".join(
        (
            f'train assistant.text where message.score > {i} and message.tag == "t{i}"',
            f"mask user, name_{i - i % 5 + 2} where sample.source in [{i}]",
            f"let name_{i} = assistant, user",
            f"scale assistant by 0.5 where message.x_{i}",
            "# a comment",
        )[i % 5]
        for i in range(lines)
    )


def edited(text: str, chance: random.Random) -> str:
    """The text after one random edit: typed, pasted, deleted, doubled, moved, or emptied."""
    at = chance.randrange(len(text) + 1)
    kind = chance.randrange(12)
    if kind < 6:
        return text[:at] + chance.choice(_PIECES) + text[at:]
    if kind < 9:
        return text[:at] + text[at + chance.choice((1, 1, 3, 40)) :]
    lines = text.split("\n")
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    if kind == 9:
        lines[one], lines[other] = lines[other], lines[one]
    elif kind == 10:
        lines.insert(one, lines[other])
    else:
        del lines[one : one + chance.choice((1, 2, 20))]
    return "\n".join(lines)


class Editor:
    """A client with one open policy. `async with` starts the server's process and ends it."""

    def __init__(self, uri: str, *, command: tuple[str, ...] = (sys.executable, "-c", START, "lsp")) -> None:
        self.uri = uri
        self.command = command
        self.version = 0
        self.seconds: dict[str, list[float]] = {}
        """Seconds that each answer took, by question."""
        self.refused: list[str] = []
        """What the server refused, in its words."""
        self.log = ""
        """What the server wrote on standard error: nothing, unless something went wrong."""
        self.published: dict[int, list[lsp.Diagnostic]] = {}
        """Findings by the version of the text that they are about."""
        self.client = LanguageClient("editing", "1")

        @self.client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def _published(params: lsp.PublishDiagnosticsParams) -> None:
            self.published[params.version or 0] = list(params.diagnostics)

    async def __aenter__(self) -> Editor:
        await self.client.start_io(*self.command)
        self._reading = asyncio.create_task(self._read_log())
        await self.client.initialize_async(lsp.InitializeParams(capabilities=lsp.ClientCapabilities()))
        self.client.initialized(lsp.InitializedParams())
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.wait_for(self.client.shutdown_async(None), PATIENCE)
        self.client.exit(None)
        await self.client.stop()
        await self._reading

    async def _read_log(self) -> None:
        # A log that nobody reads fills its pipe, and stops the server.
        assert self.client._server is not None
        assert self.client._server.stderr is not None
        self.log = (await self.client._server.stderr.read()).decode()

    def open(self, text: str) -> None:
        self.version = 1
        self.client.text_document_did_open(
            lsp.DidOpenTextDocumentParams(lsp.TextDocumentItem(self.uri, "policy", self.version, text))
        )

    def change(self, text: str) -> None:
        self.version += 1
        changed = lsp.VersionedTextDocumentIdentifier(self.version, self.uri)
        whole = lsp.TextDocumentContentChangeWholeDocument(text)
        self.client.text_document_did_change(lsp.DidChangeTextDocumentParams(changed, [whole]))

    async def findings(self) -> list[lsp.Diagnostic]:
        """The findings about the newest version of the text."""
        until = time.monotonic() + PATIENCE
        while self.version not in self.published:
            if time.monotonic() > until:
                raise TimeoutError(f"no findings about version {self.version}")
            await asyncio.sleep(0.05)
        return self.published[self.version]

    async def ask(self, question: str, text: str, chance: random.Random) -> None:
        """Asks at a random place of the text, also behind a line's end, and keeps how long the answer takes."""
        lines = text.split("\n")
        line = chance.randrange(len(lines) + 2)
        length = len(lines[line]) if line < len(lines) else 0
        place = lsp.Position(line, chance.randrange(length + 3))
        document = lsp.TextDocumentIdentifier(self.uri)
        options = lsp.FormattingOptions(tab_size=4, insert_spaces=True)
        client = self.client
        asked: dict[str, Callable[[], Awaitable[Any]]] = {
            "hover": lambda: client.text_document_hover_async(lsp.HoverParams(document, place)),
            "completion": lambda: client.text_document_completion_async(lsp.CompletionParams(document, place)),
            "definition": lambda: client.text_document_definition_async(lsp.DefinitionParams(document, place)),
            "prepare rename": lambda: client.text_document_prepare_rename_async(
                lsp.PrepareRenameParams(document, place)
            ),
            "rename": lambda: client.text_document_rename_async(lsp.RenameParams(document, place, "renamed")),
            "symbols": lambda: client.text_document_document_symbol_async(lsp.DocumentSymbolParams(document)),
            "formatting": lambda: client.text_document_formatting_async(
                lsp.DocumentFormattingParams(document, options)
            ),
        }
        start = time.monotonic()
        try:
            await asyncio.wait_for(asked[question](), PATIENCE)
        except JsonRpcInvalidParams as refused:  # a name that cannot be given, say
            self.refused.append(refused.message)
        self.seconds.setdefault(question, []).append(time.monotonic() - start)
