"""The characters of each token of an encoder; the tokens of a chunk have to spell its text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policy_engine.chat.encoders.protocol import Chunk, Encoder
from policy_engine.chat.segments import GivenTokens
from policy_engine.core.errors import AttributionError


class Places:
    """Places of the tokens of one encoder."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._name = encoder.name

    def of(self, chunks: Sequence[Chunk]) -> GivenTokens:
        """The tokens of the chunks in order, with their characters in the whole text.

        Raises AttributionError for ids that do not spell the text.
        """
        ids: list[int] = []
        starts, ends = [], []
        at = 0
        for chunk in chunks:
            own = list(chunk.ids or ())
            # Chunk by chunk: chunks were encoded one by one, so no token goes over their border.
            found = self._encoder.byte_table.locate(chunk.text, own)
            if found is None:
                raise AttributionError(
                    f"the tokens of {self._name} do not spell the text {chunk.text[:40]!r}",
                    help="drop the row, or use a template and tokenizer that write it as it is",
                )
            ids += own
            starts.append(found[0] + at)
            ends.append(found[1] + at)
            at += len(chunk.text)
        join = np.concatenate if starts else lambda _: np.zeros(0, dtype=np.int32)
        return GivenTokens(ids=tuple(ids), starts_T=join(starts).astype(np.int32), ends_T=join(ends).astype(np.int32))
