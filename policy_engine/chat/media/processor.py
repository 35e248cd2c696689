"""A transformers processor: its text for media, and the columns it makes beside the ids."""

from __future__ import annotations

import copy
import functools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.chat.media.classes import KINDS, OLDEST, kinds_of, names_replacements, why_refused
from policy_engine.chat.media.open_media import MediaOptions
from policy_engine.chat.media.stretch import Placeholder
from policy_engine.core.errors import MediaError, PolicyEngineError, TokenizerError
from policy_engine.core.vocabulary import MediaKind

TOKEN_COLUMNS: Final = ("mm_token_type_ids", "token_type_ids", "moe_mm_token_type_ids")
"""Columns of a processor that have one number per token, beside ids and attention."""
_KNOWN: Final = frozenset({*TOKEN_COLUMNS, "input_ids", "attention_mask", "text_replacement_offsets"})
_UNSCALED: Final = {"do_rescale": False, "do_normalize": False}
QUICK: Final[tuple[Mapping[str, Any], ...]] = ({**_UNSCALED, "resample": 0}, _UNSCALED)
"""Arguments of an image processor that save time: pixels as they are, the nearest ones or resized as usual."""
# What most speech models take, for a processor that does not say.
_RATE: Final = 16_000


@dataclass(frozen=True, kw_only=True)
class WrittenMedia:
    """The output of a processor's own call for a text and its media.

    `texts` take the place of the placeholders, in their order; `columns` are per token.
    """

    ids: list[int]
    texts: list[str]
    columns: dict[str, npt.NDArray[np.int8]] = field(default_factory=dict)
    others: frozenset[str] = frozenset()
    """Names of further outputs that are as long as the row: by chance, or one number a token."""

    def equals(self, other: WrittenMedia) -> bool:
        """True if ids, texts and columns are the same."""
        mine, theirs = self.columns, other.columns
        same = mine.keys() == theirs.keys() and all(np.array_equal(mine[name], theirs[name]) for name in mine)
        return same and self.ids == other.ids and self.texts == other.texts


@dataclass(frozen=True, kw_only=True, eq=False)
class MediaProcessor:
    """A processor that writes media as text and tokenizes once, and where media come from.

    `processor` is used as it is. Raises TokenizerError for a class that does it otherwise, by its name and why.
    """

    processor: Any = field(repr=False)
    options: MediaOptions = field(default_factory=MediaOptions)

    def __post_init__(self) -> None:
        cls = type(self.processor)
        reason = why_refused(cls)
        if reason is None and getattr(self.processor, "tokenizer", None) is None:
            reason = "it has no tokenizer"
        if reason is not None:
            help = "pass processor.tokenizer, if the conversations are text"
            # `why_refused` names the release where that is the reason.
            if "or later" in reason:
                help = f"pip install 'transformers>={OLDEST}'"
            raise TokenizerError(f"{cls.__name__} cannot be used: {reason}", help=help)

    def __reduce__(self) -> tuple[Any, ...]:
        # Without what was worked out: samples would be pickled for every worker.
        return functools.partial(MediaProcessor, processor=self.processor, options=self.options), ()

    @property
    def name(self) -> str:
        """The class of the processor."""
        return type(self.processor).__name__

    @property
    def fingerprint(self) -> str:
        """All of the processor that decides ids: its class, and its parts' settings (JSON text)."""
        return str(self.processor.to_json_string())

    @functools.cached_property
    def tokens(self) -> dict[MediaKind, str]:
        """The placeholder of each kind that the processor takes."""
        tokens = {kind: getattr(self.processor, f"{kind}_token", None) for kind in KINDS}
        taken = kinds_of(type(self.processor))
        return {kind: str(token) for kind, token in tokens.items() if token is not None and kind in taken}

    @functools.cached_property
    def ids(self) -> frozenset[int]:
        """Ids of the tokens in whose place the model puts features."""
        # Classes have a list of ids, a single id, or both.
        found = [i for kind in KINDS for i in getattr(self.processor, f"{kind}_token_ids", None) or ()]
        found += [getattr(self.processor, f"{kind}_token_id", None) for kind in KINDS]
        return frozenset(int(i) for i in found if i is not None)

    @property
    def why_not_packed(self) -> str | None:
        """Why rows of this processor cannot share a sequence, in one clause; None where they can."""
        parts = (getattr(self.processor, name, None) for name in ("image_processor", "video_processor"))
        names = {name for part in parts for name in getattr(part, "model_input_names", ())}
        # M-RoPE, as Qwen2-VL has it: positions of time, height and width that are computed over the whole sequence.
        if any(name.endswith("grid_thw") for name in names):
            return (
                "its model gives the tokens of a picture positions of a grid, which start again in no packed sequence"
            )
        # PaliGemma and Gemma 3 attend both ways among such tokens.
        if "token_type_ids" in self.columns:
            return "its model lets the tokens of a picture see each other, also across packed rows"
        if self.together:
            return "it writes a picture with other tokens where its row has more of them"
        return None

    @functools.cached_property
    def together(self) -> bool:
        """True if the tokens of a picture depend on the number of pictures in its row.

        Those of LLaVA-OneVision do.
        """
        token = self.tokens.get("image")
        if token is None:
            return False
        try:
            alone = self.write(f"a{token}b", {"image": [noise(200, 100)]})
            both = self.write(f"a{token}b{token}c", {"image": [noise(200, 100), noise(100, 200)]})
        except MediaError:
            return False  # a processor that takes one picture a row, or none of noise
        return alone.texts[:1] != both.texts[:1]

    @property
    def rate(self) -> int:
        """Samples of sound a second that the processor takes."""
        return int(getattr(self._extractor, "sampling_rate", _RATE))

    @property
    def _extractor(self) -> Any:
        return getattr(self.processor, "audio_processor", getattr(self.processor, "feature_extractor", None))

    @property
    def window(self) -> int | None:
        """Samples of sound that its extractor reads at once; None if it has no window."""
        window = getattr(self._extractor, "n_samples", None)
        return window if isinstance(window, int) else None

    def units(self, kind: MediaKind) -> list[str]:
        """Tokens that it may repeat in place of a medium.

        It is often another than the placeholder of the template.
        """
        ids = [i for i in getattr(self.processor, f"{kind}_token_ids", None) or () if i is not None]
        tokens = self.processor.tokenizer.convert_ids_to_tokens
        return list(dict.fromkeys([self.tokens[kind], *(str(tokens(i)) for i in ids)]))

    def seconds_kept(self, sound: Any, text: str) -> float | None:
        """Seconds of a sound, which became `text`, that the processor reads; None if it reads all.

        Whisper's extractor leaves out what is behind its window, without a word. Processors that cut a sound into
        windows write more for the whole than for its first window.
        """
        window = self.window
        # Less than a tenth of a second may make no token more.
        if window is None or len(sound) <= window + self.rate // 10:
            return None
        alone = self.write(self.tokens["audio"], {"audio": [sound[:window]]}).texts
        return window / self.rate if alone == [text] else None

    def find(self, text: str) -> list[Placeholder]:
        """The placeholders of a text, in order."""
        by_token = {token: kind for kind, token in self.tokens.items()}
        if not by_token:
            return []
        # In any order: no placeholder is the beginning of another.
        pattern = "|".join(re.escape(token) for token in by_token)
        return [
            Placeholder(start=match.start(), end=match.end(), kind=by_token[match.group()])
            for match in re.finditer(pattern, text)
        ]

    def adds_special(self, text: str) -> bool:
        """True if the processor lets its tokenizer add special tokens to a rendered text.

        It does unless the text begins with one.
        """
        # As `ProcessorMixin.apply_chat_template` decides it.
        bos = self.processor.tokenizer.bos_token
        if bos is not None and text.startswith(bos):
            return False
        return bool(self._text_kwargs.get("add_special_tokens", True))

    @functools.cached_property
    def _text_kwargs(self) -> Mapping[str, Any]:
        merged = self.processor._merge_kwargs(tokenizer_init_kwargs=self.processor.tokenizer.init_kwargs)
        return dict(merged.get("text_kwargs", {}))

    def write_quickly(
        self, text: str, media: Mapping[MediaKind, Sequence[Any]], what: str = "the media of the row"
    ) -> WrittenMedia:
        """`write`, without the pixels of pictures where samples show that these decide nothing.

        Features are not kept, and resizing and scaling pictures is most of a processor's time.
        """
        if not self.is_quick(media):
            return self.write(text, media, what=what)
        try:
            return self.write(text, media, {"images_kwargs": dict(self._quick)})
        except MediaError:
            return self.write(text, media, what=what)  # its own words, or nothing to complain of

    def is_quick(self, media: Mapping[MediaKind, Sequence[Any]]) -> bool:
        """True for media that `write_quickly` gives to the processor in another way than `write`."""
        return bool(media.get("image") and self._quick)

    @functools.cached_property
    def _quick(self) -> Mapping[str, Any]:
        """Arguments of the image half that save time; empty if they change what is written."""
        token = self.tokens.get("image")
        if token is None:
            return {}
        pictures = [noise(64, 48), noise(400, 220), noise(30, 90, seed=1)]
        rows: list[tuple[str, dict[MediaKind, Sequence[Any]]]] = [
            (f"a {token}" * count + " b", {"image": pictures[-count:]}) for count in (1, 3)
        ]
        try:
            whole = [self.write(text, given) for text, given in rows]
        except MediaError:
            return {}  # one that takes a picture a row
        for asked in QUICK:
            further = {"images_kwargs": dict(asked)}
            try:
                if all(self.write(text, given, further).equals(own) for (text, given), own in zip(rows, whole)):
                    return asked
            except MediaError:
                continue  # it takes no such arguments
        return {}

    def stop_quick(self) -> None:
        """Makes `write_quickly` the same as `write`."""
        self.__dict__["_quick"] = {}

    def write(
        self,
        text: str,
        media: Mapping[MediaKind, Sequence[Any]],
        further: Mapping[str, Any] = MappingProxyType({}),
        what: str = "the media of the row",
    ) -> WrittenMedia:
        """Calls the processor as its `apply_chat_template` does. `media` are decoded, by kind.

        `further` are arguments of the call. Raises MediaError with what the processor says where it refuses `what`.
        """
        given: dict[str, Any] = {"return_text_replacement_offsets": True, **further}
        bos = self.processor.tokenizer.bos_token
        if bos is not None and text.startswith(bos):
            given["add_special_tokens"] = False
        # A rate that is not given draws a warning, and is assumed to be right.
        if media.get("audio"):
            given |= {"audio": list(media["audio"]), "sampling_rate": self.rate}
        processor, recorded = (self.processor, []) if self._names_replacements else _recording(self.processor)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                out = processor(
                    text=text,
                    # A list in a list: one row, with several pictures.
                    images=[list(media["image"])] if media.get("image") else None,
                    videos=[list(media["video"])] if media.get("video") else None,
                    **given,
                )
        except PolicyEngineError:
            raise
        except Exception as error:  # each class has its own checks
            raise MediaError(
                f"{self.name} refuses {what}: {str(error) or type(error).__name__}",
                help="install what it names"
                if isinstance(error, ImportError)
                else "fix or drop the row, or configure the processor for it",
            ) from error
        ids = _first(out["input_ids"])
        found = out.get("text_replacement_offsets", recorded)
        offsets = found[0] if found is not None and len(found) else []
        columns = {
            name: np.asarray(_first(out[name]), dtype=np.int8)
            for name in TOKEN_COLUMNS
            # Only columns that have a number for each token.
            if name in out and len(_first(out[name])) == len(ids)
        }
        others = frozenset(name for name in out if name not in _KNOWN and _is_per_token(out[name], len(ids)))
        texts = [offset["replacement"] for offset in offsets]
        return WrittenMedia(ids=ids, texts=texts, columns=columns, others=others)

    @functools.cached_property
    def _names_replacements(self) -> bool:
        return names_replacements(type(self.processor))

    @functools.cached_property
    def unknown_columns(self) -> frozenset[str]:
        """Outputs with a number for each token that are not in `TOKEN_COLUMNS`."""
        token = self.tokens.get("image")
        media: dict[MediaKind, Sequence[Any]] = {} if token is None else {"image": [noise(64, 48)]}
        try:
            # Of two lengths: one alone may be that of something else.
            return frozenset.intersection(
                *(self.write(f"{words}{token or ''} a", media).others for words in ("a " * 5, "a " * 12))
            )
        except MediaError:
            return frozenset()  # such as one that wants another text; its rows say so themselves

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that rows have beside ids, labels and attention.

        One is `mm_token_type_ids`.
        """
        found: dict[str, None] = {}
        for text, media in self.samples():
            try:
                found |= dict.fromkeys(self.write(text, media).columns)
            except MediaError:
                continue  # such as one that has no picture; its rows say so themselves
        return tuple(name for name in TOKEN_COLUMNS if name in found)

    def samples(self) -> Iterator[tuple[str, dict[MediaKind, list[Any]]]]:
        """A text without media, and one with a medium of a kind that needs no decoder."""
        # Without media first: columns that only rows with media have are found by the second sample.
        yield "a", {}
        if "image" in self.tokens:
            yield f"a{self.tokens['image']}b", {"image": [noise(64, 48)]}
        elif "audio" in self.tokens:
            yield f"a{self.tokens['audio']}b", {"audio": [np.zeros(self.rate, dtype=np.float32)]}


def noise(width: int, height: int, seed: int = 0) -> Any:
    """A picture without meaning, for questions to a processor.

    >>> noise(4, 3).size
    (4, 3)
    """
    from PIL import Image

    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def _recording(processor: Any) -> tuple[Any, list[Any]]:
    """A copy of a processor, and a list to which its next call adds what it writes for media."""
    made, recorded = copy.copy(processor), []

    def record(*arguments: Any, **named: Any) -> Any:
        texts, offsets = processor.get_text_with_replacements(*arguments, **named)
        recorded.extend(offsets)
        return texts, offsets

    made.get_text_with_replacements = record
    return made, recorded


def _is_per_token(value: Any, size: int) -> bool:
    """True for one row, or a batch of one, of `size` numbers.

    >>> _is_per_token([[0, 1]], 2), _is_per_token([0, 1], 2), _is_per_token([[[0.5], [1.0]]], 2), _is_per_token("ab", 2)
    (True, False, False, False)
    """
    if hasattr(value, "shape"):
        return tuple(value.shape) == (1, size)
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], list) or len(value[0]) != size:
        return False
    return all(isinstance(number, int | float) for number in value[0])


def _first(value: Any) -> list[Any]:
    """The one row of a batch of one, as a list.

    >>> _first([[1, 2]]), _first([1, 2])
    ([1, 2], [1, 2])
    """
    value = value.tolist() if hasattr(value, "tolist") else list(value)
    # Classes give lists, arrays or tensors, with or without the row's own dimension.
    if value and not isinstance(value[0], int):
        value = value[0].tolist() if hasattr(value[0], "tolist") else list(value[0])
    return list(value)
