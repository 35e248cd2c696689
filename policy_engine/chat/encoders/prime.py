"""Renderers of the package `renderers`, written by hand for reinforcement learning.

    ChatTokenizer.from_encoder(create_renderer(tokenizer, Qwen3RendererConfig()))

A renderer gives ids and the message of each (`message_indices`):

    <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎Hello<|im_end|>⏎
    0           0   0 0 0         0 1          1        1 1    1         1
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from policy_engine.chat.encoders.protocol import Chunk, refusal, refuse_media
from policy_engine.chat.tokens.byte_lengths import ByteTable
from policy_engine.chat.tokens.pipeline import read_pipeline
from policy_engine.chat.variables import Inputs
from policy_engine.core.errors import AttributionError, TemplateError, TokenizerError


class RendererEncoder:
    """Conversations as a renderer's `render` gives them; `tokenizer` is the renderer's."""

    gives_ids = True
    has_prompt = True
    words: frozenset[str] = frozenset()

    def __init__(self, renderer: Any, tokenizer: Any) -> None:
        self._renderer = renderer
        self.tokenizer = tokenizer
        """The renderer's tokenizer."""

    def __reduce__(self) -> tuple[Any, ...]:
        return RendererEncoder, (self._renderer, self.tokenizer)

    @functools.cached_property
    def name(self) -> str:
        """The version of the package, and the renderer's class."""
        from importlib.metadata import version

        return f"renderers {version('renderers')} ({type(self._renderer).__name__})"

    @property
    def source(self) -> str:
        """The tokenizer's added tokens, among which are those that it writes."""
        return " ".join(str(token) for token in self.tokenizer.added_tokens_decoder.values())

    @property
    def normal(self) -> Callable[[str], str] | None:
        """The tokenizer's normalizer: Qwen's composes accents, for example."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        normalizer = getattr(backend, "normalizer", None)
        return None if normalizer is None else normalizer.normalize_str

    @property
    def facts(self) -> Any:
        """The class, its settings and the version."""
        return [self.name, str(getattr(self._renderer, "config", None))]

    @functools.cached_property
    def byte_table(self) -> ByteTable:
        """The bytes of each id.

        Raises TokenizerError for a tokenizer whose ids stand for no fixed bytes.
        """
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        # Read here, not taken from a locator: the renderer's tokenizer may be any object that has a backend.
        table = None if backend is None else read_pipeline(backend).table
        if table is None:
            raise TokenizerError(
                f"the tokens of {self.name} stand for no fixed bytes",
                help="use the model's chat template, which takes any tokenizer",
            )
        return table

    def chunks(self, inputs: Inputs, *, tinted: bool) -> list[Chunk]:
        """See `Encoder`; a chunk for each stretch of tokens of one message."""
        refuse_media(self.name, inputs.messages)
        if inputs.kwargs:
            raise TemplateError(
                f"{self.name} takes no argument `{next(iter(inputs.kwargs))}` for a row",
                help="make the renderer with it: Qwen3RendererConfig(enable_thinking=False)",
            )
        tools = list(inputs.tools) if inputs.tools else None

        def made_by(call: Callable[..., Any]) -> Any:
            # A copy for each call: a renderer may change what it is given, and then the second call would differ.
            messages, own_tools = copy.deepcopy((list(inputs.messages), tools))
            return call(messages, tools=own_tools, add_generation_prompt=inputs.prompt)

        try:
            found = made_by(self._renderer.render)
            # What a trainer gets; the ids with owners have to be the same.
            own = None if tinted else made_by(self._renderer.render_ids)
        except Exception as error:  # each renderer's own
            raise refusal(self.name, error) from error
        if own is not None and list(own) != list(found.token_ids):
            raise AttributionError(
                f"{self.name} gives other ids with owners than without",
                help="drop the row, and report it to those who made the renderer",
            )
        if len(found.message_indices) != len(found.token_ids):
            raise AttributionError(
                f"{self.name} does not say which message each token is of", help="use the model's chat template"
            )
        made: list[Chunk] = []
        for turn, group in itertools.groupby(zip(found.message_indices, found.token_ids), lambda pair: pair[0]):
            ids = tuple(int(i) for _, i in group)
            made.append(Chunk(text=self._text(ids), turn=turn if turn >= 0 else None, ids=ids))
        return made

    def _text(self, ids: Sequence[int]) -> str:
        table = self.byte_table
        # A renderer for gpt-oss made with another model's tokenizer, for example.
        if max(ids, default=0) >= len(table.pieces):
            raise TemplateError(
                f"{self.name} gives ids that its tokenizer does not have",
                help="make the renderer with the model's own tokenizer; `-t harmony` is gpt-oss",
            )
        data = b"".join([table.pieces[i] or b"" for i in ids])
        try:
            return data.decode().replace(table.space, " ")
        except UnicodeDecodeError:
            raise AttributionError(f"{self.name} cuts a character between two messages", help="drop the row") from None
