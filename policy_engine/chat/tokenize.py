"""A tokenizer with its chat template: rendered chats become tokens that know which characters they cover."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from policy_engine.chat.backend import Pipeline, read_pipeline
from policy_engine.chat.byte_lengths import ByteTable, Ranges, tables_of_slow
from policy_engine.chat.conversation import Conversation
from policy_engine.chat.offsets import check_offsets
from policy_engine.chat.segments import RenderedChat, TokenizedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.tokenizers_load import load_transformers, read_template, usable
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import AttributionError, TokenizerError

_SURROGATE = re.compile("[\ud800-\udfff]")
_LEARNED = ("_backend", "_pipeline", "_size", "_untrimmed", "_slow_tables", "prefix_ids")
_PROBES = ("hello", " Hello,  world\n\n 12345\t<|x|> ", "你好 🙂 e\u0301")
"""Texts that tell a tokenizer whose class changes what its backend does."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ChatTokenizer:
    """A transformers tokenizer and the chat templates it renders with.

    `tokenizer` is used as it is, never changed but for its truncation and padding, which `encode` switches off as
    calling it without options does. `templates` are template sources by name (`default`, `tool_use`), empty if it has
    none. The tokenizer may not gain tokens afterwards: make a new ChatTokenizer then.
    """

    tokenizer: Any
    templates: Mapping[str, str] = field(repr=False)
    name: str = "<tokenizer>"
    model_roles: frozenset[str] = frozenset({"assistant"})
    """Roles the model writes; templates mark their turns' headers and ends accordingly."""

    @classmethod
    def from_transformers(cls, tok: Any, template: str | Path | None = None) -> ChatTokenizer:
        """From a loaded transformers tokenizer, fast or slow.

        `template` replaces the tokenizer's own: a template's text, a file of it, or the name of one of the tokenizer's
        templates. Raises TokenizerError if it is no tokenizer, or if the same text has no fixed ids.
        """
        tok = usable(tok)
        own = getattr(tok, "chat_template", None)
        templates = dict(own) if isinstance(own, Mapping) else {} if own is None else {"default": str(own)}
        if template is not None:
            named = templates.get(template) if isinstance(template, str) else None
            templates = {"default": named if named is not None else read_template(template)}
        name = str(getattr(tok, "name_or_path", "") or "") or "<tokenizer>"
        return cls(tokenizer=tok, templates=templates, name=name)

    def with_template(self, template: str | Path) -> ChatTokenizer:
        """The same tokenizer with another chat template, given as `from_transformers` takes it."""
        other = type(self).from_transformers(self.tokenizer, template)
        return self._changed(templates=other.templates)

    def with_model_roles(self, roles: Iterable[str]) -> ChatTokenizer:
        """The same tokenizer and templates for a model that writes these roles."""
        return self._changed(model_roles=frozenset(roles))

    def _changed(self, **fields: Any) -> ChatTokenizer:
        made = dataclasses.replace(self, **fields)
        # What was learned of the tokenizer holds for any template.
        made.__dict__.update({name: self.__dict__[name] for name in _LEARNED if name in self.__dict__})
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.tokenizer, dict(self.templates), self.name, tuple(sorted(self.model_roles)))

    # Templates.

    @property
    def template(self) -> ChatTemplate:
        """The chat template for conversations without tools. Raises TokenizerError if there is none."""
        return self._template(self._choose(has_tools=False))

    def template_for(self, conversation: Conversation) -> ChatTemplate:
        """The chat template transformers would choose: `tool_use` for tools if there is one, else `default`."""
        return self._template(self._choose(has_tools=conversation.tools is not None))

    def _choose(self, *, has_tools: bool) -> str:
        if not self.templates:
            raise TokenizerError(
                f"{self.name} has no chat template",
                help="pass a template file with --template (template=… in Python), or take a tokenizer that has one",
            )
        if has_tools and "tool_use" in self.templates:
            return "tool_use"
        if "default" in self.templates:
            return "default"
        names = ", ".join(f"`{name}`" for name in sorted(self.templates))
        raise TokenizerError(
            f"{self.name} has several chat templates and none of them is the default", help=f"name one of {names}"
        )

    def _template(self, name: str) -> ChatTemplate:
        if name not in self._compiled:
            where = f"chat template of {self.name}" if name == "default" else f"chat template `{name}` of {self.name}"
            added = (str(token) for token in self.tokenizer.added_tokens_decoder.values())
            self._compiled[name] = ChatTemplate(
                self.templates[name],
                special_tokens=self.special_tokens,
                tokens=added,
                model_roles=self.model_roles,
                name=where,
            )
        return self._compiled[name]

    @functools.cached_property
    def _compiled(self) -> dict[str, ChatTemplate]:
        return {}

    @property
    def special_tokens(self) -> dict[str, Any]:
        """The tokenizer's named special tokens (`bos_token` …), which templates may print."""
        return dict(self.tokenizer.special_tokens_map)

    # Tokens.

    def encode(self, chat: RenderedChat) -> TokenizedChat:
        """Tokenizes the whole text once, adding no special tokens.

        Raises AttributionError if it cannot be told exactly which characters each token covers.
        """
        found = self.encode_batch([chat])[0]
        assert isinstance(found, TokenizedChat)
        return found

    def encode_batch(self, chats: Sequence[RenderedChat], *, errors: Literal["raise", "return"] = "raise") -> list[Any]:
        """`encode` for many chats, in one call of the tokenizer.

        With `errors="return"` the list has the AttributionError of a chat that failed in its place.
        """
        results = self._locate([chat.text for chat in chats])
        for result in results:
            if errors == "raise" and isinstance(result, AttributionError):
                raise result
        return [
            r
            if isinstance(r, AttributionError)
            else TokenizedChat(chat=chat, input_ids=r[0], starts_T=r[1][0], ends_T=r[1][1])
            for chat, r in zip(chats, results)
        ]

    def decode_token(self, token_id: int) -> str:
        """The text of one token, for people: a part of a character shows as U+FFFD."""
        table = self._pipeline.table if self._pipeline is not None else None
        piece = table.pieces[token_id] if table is not None and 0 <= token_id < len(table.pieces) else None
        if table is not None and piece is not None:
            return piece.decode("utf-8", errors="replace").replace(table.space, " ")
        token = self.tokenizer.convert_ids_to_tokens(token_id)
        return "" if token is None else str(token)

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of all that decides ids and text: vocabulary, pipeline, special tokens, templates, roles (hex)."""
        if self._backend is not None:
            state = json.loads(self._backend.to_str())
            state.pop("truncation", None)
            state.pop("padding", None)
        else:
            state = {"class": type(self.tokenizer).__name__, "vocabulary": self.tokenizer.get_vocab()}
        special = {name: str(token) for name, token in self.special_tokens.items()}
        roles = sorted(self.model_roles)
        key = json.dumps([state, special, dict(self.templates), roles], sort_keys=True, default=str)
        return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()

    @functools.cached_property
    def prefix_ids(self) -> tuple[int, ...]:
        """What the tokenizer puts in front of a text when it is asked to add special tokens (never done here)."""
        plain = self._call(["a"])[0][0]
        ids = list(self.tokenizer("a")["input_ids"])
        at = next((i for i in range(len(ids)) if ids[i : i + len(plain)] == plain), 0)
        return tuple(ids[:at])

    def double_bos(self, tokenized: TokenizedChat) -> Diagnostic | None:
        """A warning if the template writes what the tokenizer would add in front once more; else None."""
        prefix = list(self.prefix_ids)
        if not prefix or tokenized.input_ids[: len(prefix)] != prefix:
            return None
        text = "".join(self.decode_token(i) for i in prefix)
        return Diagnostic(
            code="PE406",
            severity="warning",
            message=f"the chat template writes `{text}`, and {self.name} would add it again",
            help="train on these ids; whatever tokenizes the rendered text again has to pass add_special_tokens=False",
        )

    # How.

    @functools.cached_property
    def _backend(self) -> Any:
        """The `tokenizers.Tokenizer`, if calling the tokenizer is calling it; None for a slow or overridden one."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None or not getattr(self.tokenizer, "is_fast", False):
            return None
        for text in _PROBES:
            try:
                called = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
            except Exception:  # tokenizers raises plain Exception where a vocabulary lacks a character
                continue
            if backend.encode(text, add_special_tokens=False).ids != called:
                return None
        return backend

    @functools.cached_property
    def _pipeline(self) -> Pipeline | None:
        return None if self._backend is None else read_pipeline(self._backend)

    @functools.cached_property
    def _size(self) -> int:
        return len(self.tokenizer)

    @functools.cached_property
    def _untrimmed(self) -> Any:
        """The backend with offsets that keep whitespace: without special tokens, a post-processor only trims them."""
        assert self._pipeline is not None
        if not self._pipeline.trims:
            return self._backend
        state = json.loads(self._backend.to_str())
        state.update(post_processor=None, truncation=None, padding=None)
        clone = type(self._backend).from_str(json.dumps(state))
        clone.encode_special_tokens = self._backend.encode_special_tokens
        return clone

    def _locate(self, texts: Sequence[str]) -> list[tuple[list[int], Ranges] | AttributionError]:
        """Ids and ranges of each text, or why there are none."""
        size = self._size
        if len(self.tokenizer) != size:
            raise TokenizerError(
                f"{self.name} gained tokens after it was given to policy-engine",
                help="make a new ChatTokenizer (Masker) after adding tokens",
            )
        results: list[Any] = [_unreadable(text) for text in texts]
        todo = [i for i, result in enumerate(results) if result is None]
        readable = [texts[i] for i in todo]
        for i, result in zip(todo, self._fast(readable) if self._backend is not None else self._slow(readable)):
            results[i] = result
        return results

    def _fast(self, texts: list[str]) -> list[Any]:
        """By the bytes of the tokens where they prove themselves, else by offsets."""
        assert self._pipeline is not None
        backend, table = self._backend, self._pipeline.table
        self._as_called()
        results: list[Any] = [None] * len(texts)
        if table is not None and texts:
            encode = getattr(backend, "encode_batch_fast", backend.encode_batch)
            for i, encoding in enumerate(_encodings(encode, texts)):
                if isinstance(encoding, AttributionError):
                    results[i] = encoding
                    continue
                ids = encoding.ids
                ranges = table.locate(texts[i], ids)
                results[i] = None if ranges is None else (ids, ranges)
        rest = [i for i, result in enumerate(results) if result is None]
        if rest:
            for i, e in zip(rest, _encodings(self._untrimmed.encode_batch, [texts[i] for i in rest])):
                if isinstance(e, AttributionError):
                    results[i] = e
                    continue
                try:
                    results[i] = (e.ids, check_offsets(texts[i], e.ids, e.tokens, e.offsets, self._pipeline))
                except AttributionError as error:
                    results[i] = error
        return results

    def _as_called(self) -> None:
        """Puts the backend in the state that calling the tokenizer without options puts it in."""
        backend = self._backend
        if backend.truncation is not None:
            backend.no_truncation()
        if backend.padding is not None:
            backend.no_padding()
        split = bool(getattr(self.tokenizer, "split_special_tokens", False))
        if getattr(backend, "encode_special_tokens", split) != split:
            backend.encode_special_tokens = split

    def _slow(self, texts: list[str]) -> list[Any]:
        """By calling the tokenizer; places are rebuilt from the texts of its tokens where those spell the text."""
        return [self._rebuilt(text, ids, offsets) for text, ids, offsets in zip(texts, *self._call(texts))]

    def _call(self, texts: list[str]) -> tuple[list[list[int]], list[Any]]:
        """Ids, and offsets where the tokenizer has them, as calling the tokenizer gives them."""
        if not texts:
            return [], []
        fast = bool(getattr(self.tokenizer, "is_fast", False))
        out = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=fast)
        return [list(ids) for ids in out["input_ids"]], out["offset_mapping"] if fast else [None] * len(texts)

    def _rebuilt(self, text: str, ids: list[int], offsets: Any) -> tuple[list[int], Ranges] | AttributionError:
        for table in self._slow_tables:
            ranges = table.locate(text, ids)
            if ranges is not None:
                return ids, ranges
        if offsets is None:
            return AttributionError(
                f"{self.name} is a slow tokenizer without offsets, and its tokens do not spell the text one for one",
                help="load its fast version (use_fast=True, or its tokenizer.json)",
            )
        try:
            tokens = [str(token) for token in self.tokenizer.convert_ids_to_tokens(ids)]
            return ids, check_offsets(text, ids, tokens, offsets, Pipeline())
        except AttributionError as error:
            return error

    @functools.cached_property
    def _slow_tables(self) -> tuple[ByteTable, ...]:
        tokens = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        added = {i: str(token) for i, token in self.tokenizer.added_tokens_decoder.items() if i < len(tokens)}
        return tables_of_slow(tokens, added, getattr(self.tokenizer, "unk_token_id", None))


def load_tokenizer(name_or_path: str | Path, *, template: str | Path | None = None) -> ChatTokenizer:
    """A tokenizer by name or path: `builtin`, a folder, a `tokenizer.json` file, or a name on the Hugging Face hub.

    `template` is a template file (or text), or the name of one of the tokenizer's templates; without it, the
    tokenizer's own is used. Raises TokenizerError if it cannot be loaded; a hub that cannot be reached is an error
    within seconds, unless the tokenizer is in the local cache.
    """
    loaded = load_transformers(name_or_path)
    return dataclasses.replace(ChatTokenizer.from_transformers(loaded, template), name=str(name_or_path))


def _encodings(encode: Any, texts: list[str]) -> list[Any]:
    """`encode(texts)`; where that fails, text by text, so that one text that cannot be tokenized fails alone."""
    try:
        return list(encode(texts, add_special_tokens=False))
    except Exception as error:  # tokenizers raises plain Exception
        if len(texts) != 1:
            return [_encodings(encode, [text])[0] for text in texts]
        return [
            AttributionError(
                f"the tokenizer cannot read this text: {error}",
                help="use a tokenizer with an unknown token or byte fallback",
            )
        ]


def _unreadable(text: str) -> AttributionError | None:
    found = _SURROGATE.search(text)
    if found is None:
        return None
    return AttributionError(
        f"the text has half of a surrogate pair (U+{ord(found[0]):04X}) at character {found.start()}, "
        "which is not Unicode text",
        help="repair the data: it was cut inside a character, or decoded with the wrong encoding",
    )


def _rebuild(tokenizer: Any, templates: dict[str, str], name: str, roles: tuple[str, ...]) -> ChatTokenizer:
    return ChatTokenizer(tokenizer=tokenizer, templates=templates, name=name, model_roles=frozenset(roles))
