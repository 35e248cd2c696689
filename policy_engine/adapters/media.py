"""Batches of rows with media for transformers' `Trainer` and TRL's `SFTTrainer`.

    masked = dataset.map(masker.batch, batched=True)
    trainer = Trainer(model, args, train_dataset=masked, data_collator=MediaCollator(processor))

Rows keep no pixels. The collator opens each medium again, lets the processor make its features, and compares them with
the tokens that the row has for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from policy_engine.adapters.collate import PaddingCollator
from policy_engine.chat.media.in_messages import Medium, media_of
from policy_engine.chat.media.open_media import MediaOptions, open_image
from policy_engine.chat.media.processor import TOKEN_COLUMNS, MediaProcessor
from policy_engine.chat.media.sounds import open_sound, open_video
from policy_engine.core.errors import ConfigError, MediaError, PolicyEngineError
from policy_engine.core.vocabulary import MediaKind
from policy_engine.core.wording import counted
from policy_engine.data.conversation import without_null_fields
from policy_engine.data.given import KINDS, USUAL
from policy_engine.mask.preferences.pair_columns import PAIR_NAMES

if TYPE_CHECKING:
    import torch

_TEXT_COLUMNS: Final = frozenset({"input_ids", "attention_mask", "text_replacement_offsets", *TOKEN_COLUMNS})
_LISTS: Final = ("messages", "conversations", "conversation", "prompt", "chosen")


@dataclass(frozen=True, kw_only=True)
class _Features:
    """The features of a batch's media, and the tokens that the processor writes for each row's."""

    columns: dict[str, Any]
    ids: list[list[int]]


@dataclass(frozen=True)
class MediaCollator:
    """Pads masked rows and adds the features of their media: `pixel_values`, `image_grid_thw`, …

    `processor` is the one the rows were masked with. `options` say where files are, as for the `Masker`. A medium
    without a path or URL (bytes, objects) is taken from the columns that the masker read (`messages`, `images`), if the
    row still has them, as after `map`. Else it is taken from `rows`, the rows before they were masked; the column `row`
    numbers them from 1. `side` is where padding goes. The trainer has to keep these columns:
    `remove_unused_columns=False`.

    Raises TokenizerError for a processor that no `Masker` takes.
    """

    processor: Any = field(repr=False)
    options: MediaOptions = field(default_factory=MediaOptions, kw_only=True)
    rows: Sequence[Any] | None = field(default=None, repr=False, kw_only=True)
    side: Literal["right", "left"] = field(default="right", kw_only=True)
    pad_to_multiple_of: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        # The class is frozen for its users; the checked processor is made once, not per batch.
        object.__setattr__(self, "_media", MediaProcessor(processor=self.processor, options=self.options))

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors of shape (rows, longest row), and the features of the rows' media, in order.

        Raises RowError for a row whose columns differ in length, else as `features` does.
        """
        names = [name for name in TOKEN_COLUMNS if name in rows[0]]
        pad = self.processor.tokenizer.pad_token_id
        if pad is None:
            raise ConfigError("the tokenizer has no pad token", help="set `processor.tokenizer.pad_token`")
        collate = PaddingCollator(
            pad_token_id=pad, side=self.side, pad_to_multiple_of=self.pad_to_multiple_of, extra=tuple(names)
        )
        made = collate([{k: v for k, v in row.items() if k != "media"} for row in rows])
        return {**made, **self.features(rows, [row["input_ids"] for row in rows])}

    def features(self, rows: Sequence[Mapping[str, Any]], ids: Sequence[Any]) -> dict[str, torch.Tensor]:
        """The features of the rows' media, in order.

        They are compared with their tokens in `ids`, the token ids of each row. Raises MediaError for a medium that
        cannot be opened, or that has other tokens than its features need.
        """
        import torch

        found = self._features([self._media_of(row, at) for at, row in enumerate(rows)])
        self._compare(ids, found.ids)
        return {name: value for name, value in found.columns.items() if isinstance(value, torch.Tensor)}

    @property
    def _processor(self) -> MediaProcessor:
        found: MediaProcessor = self.__dict__["_media"]
        return found

    def _media_of(self, row: Mapping[str, Any], at: int) -> list[tuple[MediaKind, Any]]:
        """The decoded media of a row, in order."""
        entries = row.get("media")
        if entries is None:
            raise MediaError(
                f"row {at} of the batch has no column `media`",
                help="keep the columns that the masker made, and set `remove_unused_columns=False`",
            )
        given: dict[tuple[int, int], Medium] | None = None
        opened: list[tuple[MediaKind, Any]] = []
        for entry in entries:
            source = entry["source"]
            place = f"messages[{entry['turn']}].content[{entry['item']}]"
            if source is None:
                # Looked up once a row, and only where a medium has no path.
                if given is None:
                    given = {(m.turn, m.item): m for m in self._originals(row, at)}
                medium = given.get((entry["turn"], entry["item"]))
                if medium is None:
                    raise MediaError(
                        f"the {entry['kind']} of {place} in row {at} of the batch has no path, and no data",
                        help="keep the columns of messages and media, or give MediaCollator the `rows` before masking",
                    )
                source = medium.source
            opened.append((entry["kind"], self._open(entry["kind"], source, place)))
        return opened

    def _open(self, kind: MediaKind, source: Any, place: str) -> Any:
        if kind == "image":
            return open_image(source, self.options, place)
        if kind == "audio":
            return open_sound(source, self.options, place, rate=self._processor.rate)
        return open_video(source, self.options, place)

    def _originals(self, row: Mapping[str, Any], at: int) -> list[Medium]:
        """The media of a row as it was before it was masked."""
        from policy_engine.data.pairs import conversations_in
        from policy_engine.data.shapes.detect import detect_format

        original: Any = row
        if self.rows is not None and "row" in row:
            original = self.rows[int(row["row"]) - 1]
        elif not any(name in row for name in (*_LISTS, *USUAL)):
            return []
        # Ids that the masker made of a preference would be taken for ids that the row brought along.
        original = without_null_fields({k: v for k, v in original.items() if k not in PAIR_NAMES})
        # The media of a preference are in its prompt, which is the same for both answers.
        _, conversation = conversations_in(original, detect_format([original]))[0]
        return media_of(conversation.messages)

    def _features(self, media: Sequence[Sequence[tuple[MediaKind, Any]]]) -> _Features:
        """One call of the processor for the whole batch; a row's text is its placeholders alone."""
        tokens = self._processor.tokens
        # Some processors refuse an empty text, which a row without media would have.
        texts = ["".join(tokens[kind] for kind, _ in own) or "a" for own in media]
        by_kind = {kind: [[data for k, data in own if k == kind] for own in media] for kind in KINDS}
        # A batch of texts alone needs no call of the processor.
        if not any(any(rows) for rows in by_kind.values()):
            return _Features(columns={}, ids=[[] for _ in media])
        given: dict[str, Any] = {"text_kwargs": {"padding": True}, "return_tensors": "pt"}
        sounds = [data for own in by_kind["audio"] for data in own]
        if sounds:
            given |= {"audio": sounds, "sampling_rate": self._processor.rate}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                out = self.processor(
                    text=texts,
                    images=by_kind["image"] if any(by_kind["image"]) else None,
                    videos=by_kind["video"] if any(by_kind["video"]) else None,
                    **given,
                )
        except PolicyEngineError:
            raise
        except Exception as error:  # each class has its own checks
            raise MediaError(
                f"{type(self.processor).__name__} refuses the media of a batch: {str(error) or type(error).__name__}",
                help="mask the rows again with this processor",
            ) from error
        # Without padding: the tokens that the processor writes are compared with the row's.
        kept = out["attention_mask"].bool()
        ids = [row_T[kept_T].tolist() for row_T, kept_T in zip(out["input_ids"], kept)]
        return _Features(columns={k: v for k, v in out.items() if k not in _TEXT_COLUMNS}, ids=ids)

    def _compare(self, rows: Sequence[Any], written: Sequence[Sequence[int]]) -> None:
        """Raises MediaError for a row whose tokens of media do not fit the processor's features."""
        marks = self._processor.ids
        for at, (row, ids) in enumerate(zip(rows, written)):
            # Only placeholders are compared: the processor was given no text of the row.
            own = [i for i in _plain(row) if i in marks]
            made = [i for i in ids if i in marks]
            if own != made:
                raise MediaError(
                    f"row {at} of the batch has {counted(len(own), 'token')} of media, and its media make {len(made)}",
                    help="mask the rows with this processor and these files, and truncate with policy-engine only",
                )


def _plain(values: Any) -> list[int]:
    found: list[int] = values.tolist() if hasattr(values, "tolist") else list(values)
    return found
