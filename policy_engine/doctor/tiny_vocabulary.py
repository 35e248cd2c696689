"""A vocabulary of the ids of a sample only, so that a model with logits for all stays tiny."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.doctor.samples import Document


@dataclass(frozen=True, kw_only=True)
class TinyVocabulary:
    """Ids of the data by their number in the tiny model.

    Special tokens keep their roles: where the padding is also the end of a sequence, it is so here.
    """

    ids: tuple[int, ...]
    specials: dict[str, int]
    """Special tokens by their ids in the data: `pad_token`, and those of a tokenizer if there is one.

    Those are `eos_token`, `bos_token` and `unk_token`.
    """

    @classmethod
    def of(cls, documents: Sequence[Document], tokenizer: Any = None, *, pad: int | None = None) -> TinyVocabulary:
        """The ids of documents and of a transformers tokenizer's special tokens.

        `pad` is the padding. Without it, and without a tokenizer that has padding, the padding is a token of its own.

        >>> TinyVocabulary.of([Document(row=0, ids=[500, 7], labels=[-100, 7], weights=None)]).ids
        (7, 500, 501)
        """
        used = {i for d in documents for i in (*d.ids, *d.labels) if i != IGNORE_INDEX}
        specials: dict[str, int] = {}
        for name in ("pad_token", "eos_token", "bos_token", "unk_token"):
            found = None if tokenizer is None else getattr(tokenizer, f"{name}_id", None)
            if isinstance(found, int):
                specials[name] = found
        if pad is not None:
            specials["pad_token"] = pad
        # An id that nothing else has, so that padding is not taken for data.
        specials.setdefault("pad_token", max(used | set(specials.values()), default=0) + 1)
        specials.setdefault("eos_token", specials["pad_token"])
        return cls(ids=tuple(sorted(used | set(specials.values()))), specials=specials)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def pad(self) -> int:
        """The padding's number in the tiny model."""
        return self.ids.index(self.specials["pad_token"])

    def encode(self, ids: Iterable[int]) -> list[int]:
        """Ids of the data as numbers of the tiny model; -100 stays.

        >>> TinyVocabulary(ids=(7, 500), specials={}).encode([500, 7, -100])
        [1, 0, -100]
        """
        places = {token: place for place, token in enumerate(self.ids)}
        return [i if i == IGNORE_INDEX else places[i] for i in ids]

    def tokenizer(self) -> Any:
        """A transformers tokenizer with these tokens, for the trainer to pad with."""
        from tokenizers import Tokenizer, models
        from transformers import PreTrainedTokenizerFast

        names = {token: f"<{token}>" for token in self.ids}
        # It never tokenizes text: a trainer asks it for special tokens and for padding.
        backend = Tokenizer(models.WordLevel({names[t]: place for place, t in enumerate(self.ids)}, unk_token="<0>"))
        make: Any = PreTrainedTokenizerFast
        return make(tokenizer_object=backend, **{name: names[token] for name, token in self.specials.items()})
