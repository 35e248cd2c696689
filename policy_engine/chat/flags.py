"""The flags of `apply_chat_template` that are taken, before a rendering and behind it.

sanitize_control_tokens      marks in the data before, `literals` behind        chat.control_tokens
continue_final_message       a tag in the last message before, a cut behind     chat.open_turn
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from policy_engine.chat.control_tokens import control_tokens, marked, without_marks
from policy_engine.chat.label.markers import pattern_of
from policy_engine.chat.open_turn import blanks_lost, cut_open, opened
from policy_engine.chat.segments import Unrendered
from policy_engine.chat.trace.origins import Scaffold
from policy_engine.chat.variables import Inputs
from policy_engine.core.errors import ConfigError
from policy_engine.data.conversation import Conversation

# What a template writes: texts, each with the claim of the loop that wrote it.
Pieces = list[tuple[str, Scaffold]]


class WrittenPieces(NamedTuple):
    """The pieces of a rendering, the `literals` of `RenderedChat`, and losses that a flag makes."""

    pieces: Pieces
    literals: tuple[tuple[int, int], ...] = ()
    lost: tuple[Unrendered, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Renders conversations under their flags.

    `name` and `source` are the template's, and `literal_text` gives the text that it writes or compares with. `tokens`
    are the added tokens; of them `controls` are control tokens in any template, and if `infers` so are those in the
    literal text.
    """

    name: str
    source: str
    tokens: tuple[str, ...]
    controls: Iterable[str]
    infers: bool
    literal_text: Callable[[], str]

    @functools.cached_property
    def _control(self) -> re.Pattern[str]:
        return pattern_of(control_tokens(self.tokens, self.controls, self.literal_text() if self.infers else None))

    @functools.cached_property
    def _any_token(self) -> re.Pattern[str]:
        return pattern_of(self.tokens)

    def written(self, conversation: Conversation, inputs: Inputs, render: Callable[[Inputs], Pieces]) -> WrittenPieces:
        """The rendering of a conversation's inputs.

        Raises what `render` raises, RowError and TemplateError where the last message cannot stay open, and ConfigError
        where it should and a generation prompt is asked for.
        """
        field = conversation.continue_final_message
        # transformers refuses the two together as well.
        if field is not None and inputs.prompt:
            raise ConfigError(
                "a conversation with an open last message takes no generation prompt",
                help="leave out `continue_final_message` or the prompt",
            )
        if conversation.sanitize_control_tokens:
            # Marked before the tag of `opened` is put in, so that the tag is behind a mark and not inside one.
            inputs = replace(
                inputs,
                messages=marked(inputs.messages, self._control),
                tools=marked(inputs.tools, self._control),
                documents=marked(inputs.documents, self._control),
                kwargs=marked(inputs.kwargs, self._control, places=False),
            )
        final = None
        if field is not None and inputs.messages:
            messages, final = opened(inputs.messages, field, self.source)
            inputs = replace(inputs, messages=messages)
        pieces = render(inputs)
        if final is not None:
            pieces = cut_open(pieces, final, self.name)
        literals: tuple[tuple[int, int], ...] = ()
        if conversation.sanitize_control_tokens:
            # Last: the cut above looks for the field's text as the template got it, marks and all.
            pieces, literals = without_marks(pieces, self._any_token)
        lost: tuple[Unrendered, ...] = ()
        if final is not None and blanks_lost(final, "".join([piece for piece, _ in pieces])):
            # Blanks that the model would go on from are not in the text: a loss, and the row says so.
            lost = (Unrendered(turn=len(inputs.messages) - 1, path=(str(field),), kind="blanks"),)
        return WrittenPieces(pieces, literals, lost)
