"""Sounds and videos of a row: opened within bounds, or refused by name."""

from __future__ import annotations

import base64
import functools
import io
import os
import wave
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.chat.media.open_media import MediaOptions, confined, is_path, open_image, read_bytes
from policy_engine.chat.transformers_import import transformers
from policy_engine.core.errors import MediaError
from policy_engine.core.wording import a_kind, first_line

_DROP: Final = "fix the file or the row, or drop the row"
_LOUDEST: Final = 4.0
# The largest sample by bytes of a sample; 3 bytes have no type in numpy, so another decoder reads them.
_PEAKS: Final = {1: 1 << 7, 2: 1 << 15, 4: 1 << 31}


@dataclass(frozen=True, kw_only=True)
class Sound:
    """A sound of one channel, of `size` samples, which `samples` gives as numbers from -1 to 1."""

    size: int
    samples: Callable[[], npt.NDArray[np.float32]] = field(repr=False)


def open_sound(source: Any, options: MediaOptions, place: str, *, rate: int) -> npt.NDArray[np.float32]:
    """A sound of one channel at `rate` samples a second, from -1 to 1.

    Raises what `read_sound` raises.

    >>> sound = {"array": [0.0, 0.5], "sampling_rate": 16000}
    >>> open_sound(sound, MediaOptions(), "messages[0].content[0]", rate=16000).tolist()
    [0.0, 0.5]
    """
    return read_sound(source, options, place, rate=rate).samples()


def read_sound(source: Any, options: MediaOptions, place: str, *, rate: int) -> Sound:
    """A sound at `rate` samples a second, and the number of its samples.

    WAV files of that rate are decoded only by `samples`, others at once, by transformers with the library that it asks
    for. Raises MediaError with the name of the sound.

    >>> read_sound([0.0, 0.5], MediaOptions(), "messages[0].content[0]", rate=16000).size
    2
    """
    source = _array_of(source, place, rate)
    if isinstance(source, np.ndarray | list):
        return _made(_samples(source, f"the sound of {place}"))
    data, name = read_bytes(source, options, place)
    # The usual file, read without a further library.
    found = _wav(data, name, rate)
    if found is None:
        return _made(_decoded(data, name, rate))
    return Sound(size=found.size, samples=functools.partial(found.samples, name))


def _made(samples: npt.NDArray[np.float32]) -> Sound:
    return Sound(size=len(samples), samples=lambda: samples)


def _array_of(source: Any, place: str, rate: int) -> Any:
    """The array of a decoded row of `datasets`' Audio feature; any other source as it is."""
    if isinstance(source, Mapping) and source.get("array") is not None:
        given = source.get("sampling_rate", rate)
        if isinstance(given, bool) or not isinstance(given, Real):  # numpy's numbers, too
            raise MediaError(
                f"`sampling_rate` of the sound of {place} is {a_kind(given)}, not a number of samples a second",
                help=_DROP,
            )
        if given != rate:
            raise MediaError(
                f"the sound of {place} has {given} samples a second, and the processor takes {rate}",
                help=f"resample the column: `dataset.cast_column(…, Audio(sampling_rate={rate}))`",
            )
        return source["array"]
    return source


def _decoded(data: bytes, name: str, rate: int) -> npt.NDArray[np.float32]:
    """The samples of a file, by transformers and the library that it asks for."""
    try:
        load_audio: Any = transformers().audio_utils.load_audio
        # It takes names and base64, no bytes; a type is left out, so that it looks at the data.
        text = "data:;base64," + base64.b64encode(data).decode()
        return _samples(load_audio(text, sampling_rate=rate), name)
    except MediaError:
        raise
    except ImportError as error:
        raise MediaError(
            f"{name} is no WAV file of integers (8, 16 or 32 bits) with {rate:,} samples a second, and nothing is "
            "installed that reads it",
            help="pip install soundfile soxr, or write it as WAV of that rate",
        ) from error
    except Exception as error:  # each decoder raises its own
        raise MediaError(
            f"{name} cannot be read as sound: {first_line(error)}",
            help=f"write it as WAV with {rate:,} samples a second, or drop the row",
        ) from error


def open_video(source: Any, options: MediaOptions, place: str) -> Any:
    """A video as a processor takes it: frames as they are, or the path of a file.

    Raises MediaError with its name.
    """
    if isinstance(source, list | tuple):
        return _same_size([open_image(frame, options, f"{place} frame {at}") for at, frame in enumerate(source)], place)
    if isinstance(source, Mapping) and source.get("bytes") is None and source.get("path") is not None:
        source = source["path"]
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if isinstance(source, str) and is_path(source):
        return str(confined(source, options, place))
    # An array or tensor of frames goes to the processor as it is.
    if hasattr(source, "shape"):
        shape = tuple(source.shape)
        if len(shape) != 4 or 0 in shape:
            raise MediaError(
                f"the video of {place} is an array of {' × '.join(map(str, shape))} numbers, not of frames",
                help="give frames × height × width × 3 numbers",
            )
        return source
    raise MediaError(
        f"the video of {place} is neither a file below the media root nor a list of frames",
        help="write it to a file and name its path: videos are not read from URLs, bytes or base64",
    )


def _same_size(frames: list[Any], place: str) -> list[Any]:
    if not frames:
        raise MediaError(f"the video of {place} has no frames", help=_DROP)
    for at, frame in enumerate(frames):
        if frame.size != frames[0].size:
            sizes = [" × ".join(map(str, each.size)) for each in (frame, frames[0])]
            raise MediaError(
                f"frame {at} of the video of {place} has {sizes[0]} pixels, and the first frame {sizes[1]}",
                help="make all frames as large as the first, or drop the row",
            )
    return frames


@dataclass(frozen=True, kw_only=True)
class _Wav:
    """The frames of a WAV file, of `channels` samples of `width` bytes."""

    frames: bytes
    width: int
    channels: int

    @property
    def size(self) -> int:
        return len(self.frames) // (self.width * self.channels)

    def samples(self, name: str) -> npt.NDArray[np.float32]:
        kind = {1: "<u1", 2: "<i2", 4: "<i4"}[self.width]
        values = np.frombuffer(self.frames, dtype=kind).astype(np.float32)
        # 8-bit samples have no sign.
        if self.width == 1:
            values -= 128
        # The mean of one channel is the channel, and takes long.
        mono = values if self.channels == 1 else values.reshape(-1, self.channels).mean(axis=1)
        return _samples(mono / _PEAKS[self.width], name)


def _wav(data: bytes, name: str, rate: int) -> _Wav | None:
    """The frames of a WAV file; None where it needs another decoder or another rate."""
    if data[:4] != b"RIFF":
        return None
    try:
        with wave.open(io.BytesIO(data)) as file:
            width, channels = file.getsampwidth(), file.getnchannels()
            if file.getframerate() != rate or width not in _PEAKS:
                return None
            frames = file.readframes(file.getnframes())
            # `wave` reads a file that was cut without a word; its header says how long it was.
            missing = file.getnframes() * width * channels - len(frames)
    except wave.Error:
        return None
    except (EOFError, RuntimeError) as error:  # the latter for a part that says it is longer than the file
        raise MediaError(f"{name} is broken: it ends too early", help=_DROP) from error
    if missing > 0:
        raise MediaError(f"{name} is broken: {missing:,} bytes are missing", help=_DROP)
    if not frames:
        raise MediaError(f"{name} has no samples", help=_DROP)
    return _Wav(frames=frames, width=width, channels=channels)


def _samples(values: Any, name: str) -> npt.NDArray[np.float32]:
    try:
        array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise MediaError(f"{name} is not a list of samples: {first_line(error)}", help=_DROP) from error
    if not array.size:
        raise MediaError(f"{name} has no samples", help=_DROP)
    if array.ndim != 1:
        shape = " × ".join(map(str, array.shape))
        raise MediaError(
            f"{name} has {shape} samples, not those of one channel",
            help="take the mean of its channels, or one of them",
        )
    # One NaN makes every feature of the sound NaN, and then the loss.
    if not np.isfinite(array).all():
        raise MediaError(f"{name} has samples that are not numbers", help=_DROP)
    # Samples go a little over 1 where they were made from others.
    most = float(np.abs(array).max())
    if most > _LOUDEST:
        scale = "divide 16-bit samples by 32,768" if most > 100 else "scale them"
        raise MediaError(
            f"{name} has samples up to {most:,.0f}, and a processor takes them from -1 to 1",
            help=f"{scale}, or drop the row",
        )
    return array
