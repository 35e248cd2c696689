"""Files, bytes and objects that hold media: opened within bounds, or refused by name."""

from __future__ import annotations

import base64
import binascii
import io
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, Final

from policy_engine.core.errors import ConfigError, MediaError

if TYPE_CHECKING:
    from PIL.Image import Image

# At least two letters, so that a drive of Windows (`C://x`) is no URL.
_URL: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_TURNED: Final = frozenset({5, 6, 7, 8})
"""Values of the EXIF orientation under which width and height change places."""
_ORIENTATION: Final = 0x0112
_DROP: Final = "fix the file or the row, or drop the row"


@dataclass(frozen=True, kw_only=True)
class MediaOptions:
    """Places that media may come from, and limits of their size.

    Without a `root`, rows that name files are refused; with one, only files below it are opened. `urls` lets media be
    fetched from the network. `min_pixels` and `max_pixels` bound width × height of an image (one pixel is a download
    that failed), `max_bytes` the size of a file. Raises ConfigError for a root that is not a folder.
    """

    root: str | Path | None = None
    urls: bool = False
    min_pixels: int = 2
    max_pixels: int = 1 << 26
    max_bytes: int = 1 << 28

    def __post_init__(self) -> None:
        if self.root is not None and not Path(self.root).is_dir():
            raise ConfigError(
                f"the media root `{self.root}` is not a folder", help="give the folder that paths of media start from"
            )


def name_of(source: Any) -> str | None:
    """The path or URL of a source, as the data has it; None for bytes and objects.

    >>> name_of("cats/1.png"), name_of(b"...")
    ('cats/1.png', None)
    """
    if isinstance(source, Mapping):
        path = source.get("path")
        return path if isinstance(path, str) and source.get("bytes") is None else None
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    return source if isinstance(source, str) and not source.startswith("data:") else None


def open_image(source: Any, options: MediaOptions, place: str) -> Image:
    """An image, decoded, upright and RGB, as transformers makes it of a file.

    Raises MediaError with its name.

    >>> from PIL import Image
    >>> open_image(Image.new("L", (4, 3)), MediaOptions(), "messages[0].content[0]").mode
    'RGB'
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    opened, name = _opened(source, options, place)
    # Before decoding: `Image.open` read the header alone.
    _check(opened, options, name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # As `transformers.image_utils.load_image` does, so that ids and pictures are those of training.
            upright: Image.Image = ImageOps.exif_transpose(opened)
            return upright.convert("RGB")
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise _broken(name, error) from error


def measure_image(source: Any, options: MediaOptions, place: str) -> tuple[int, int]:
    """Width and height of an image as `open_image` gives it.

    It is decoded only where nothing else shows that the file is whole. Raises MediaError with its name.

    >>> from PIL import Image
    >>> measure_image(Image.new("RGB", (640, 480)), MediaOptions(), "messages[0].content[0]")
    (640, 480)
    """
    opened, name = _opened(source, options, place)
    _check(opened, options, name)
    width, height = opened.size
    try:
        # The size of an upright picture, without turning it.
        turned = opened.getexif().get(_ORIENTATION, 1) in _TURNED
        # An image that was made in memory has no format, and is whole.
        if opened.format is not None and not _is_whole(opened):
            opened.load()
    except Exception as error:  # Pillow's readers raise anything for a broken file
        raise _broken(name, error) from error
    return (height, width) if turned else (width, height)


def thumbnail(source: Any, options: MediaOptions, place: str, *, size: int = 96) -> bytes | None:
    """A small PNG of an image, made from its pixels; None where the image cannot be opened."""
    try:
        picture = open_image(source, options, place)
    except MediaError:
        return None
    picture.thumbnail((size, size))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def read_bytes(source: Any, options: MediaOptions, place: str) -> tuple[bytes, str]:
    """The bytes of a file, a URL or the row itself, and the name to report them by.

    Raises MediaError if they cannot be read.

    >>> read_bytes({"base64": "UE5H"}, MediaOptions(), "messages[0].content[0]")
    (b'PNG', 'the base64 text of messages[0].content[0]')
    """
    # Bytes before the path: `datasets` keeps the path only as a name.
    if isinstance(source, Mapping):
        if source.get("bytes") is not None:
            name = f"the bytes of {place}" + (f" (`{source['path']}`)" if source.get("path") else "")
            return _bounded(source["bytes"], options, name), name
        if source.get("base64") is not None:
            return _decoded(source["base64"], options, place)
        if source.get("path") is not None:
            return read_bytes(source["path"], options, place)
        raise MediaError(f"{place} has neither a path nor bytes", help=_DROP)
    if isinstance(source, bytes | bytearray):
        return _bounded(bytes(source), options, f"the bytes of {place}"), f"the bytes of {place}"
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if not isinstance(source, str):
        raise MediaError(
            f"{place} is a {type(source).__name__}, which is not a medium", help="give a path, bytes or a URL"
        )
    # `data:image/png;base64,…`: everything behind the comma.
    if source.startswith("data:"):
        return _decoded(source.partition(",")[2], options, place)
    if _URL.match(source):
        return _fetched(source, options), f"`{source}`"
    path = confined(source, options, place)
    try:
        if path.stat().st_size > options.max_bytes:
            raise _too_large(f"`{source}`", path.stat().st_size, options)
        return path.read_bytes(), f"`{source}`"
    except OSError as error:
        raise MediaError(f"`{source}` of {place} cannot be read: {error.strerror or error}", help=_DROP) from error


def confined(source: str, options: MediaOptions, place: str) -> Path:
    """The file that a row names, below the root.

    Raises MediaError for a path that leads out of it, by a link too.

    >>> try:
    ...     confined("cat.png", MediaOptions(), "messages[0].content[0]")
    ... except MediaError as error:
    ...     print(error.message)
    messages[0].content[0] names the file `cat.png`, and no folder is given for files of media
    """
    if options.root is None:
        raise MediaError(
            f"{place} names the file `{source}`, and no folder is given for files of media",
            help="give the folder that paths start from: --media-root (MediaOptions(root=…) in Python)",
        )
    # A row is data of strangers: it may name files, and only those below the root.
    given = source.removeprefix("file://")
    root = Path(options.root).resolve()
    # An absolute path of Windows would replace the root in the join below; POSIX ones do so too, and are found
    # after it.
    if "\0" in given or PureWindowsPath(given).drive:
        raise MediaError(f"`{source}` of {place} is not a path below `{options.root}`", help=_DROP)
    try:
        path = (root / given).resolve()
    except (OSError, RuntimeError) as error:
        raise MediaError(f"`{source}` of {place} cannot be read: {error}", help=_DROP) from error
    if not path.is_relative_to(root):
        raise MediaError(
            f"`{source}` of {place} leads out of the media root `{options.root}`",
            help="write paths that stay below it, or give a folder further up",
        )
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise MediaError(f"`{source}` of {place} {what} below `{options.root}`", help=_DROP)
    return path


def _opened(source: Any, options: MediaOptions, place: str) -> tuple[Image, str]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ConfigError(
            "images need Pillow, which is not installed", help="pip install 'chat-policy-engine[media]'"
        ) from error
    if isinstance(source, Image.Image):
        return source, f"the image of {place}"
    # By the module's name, so that numpy is not imported for rows without arrays.
    if type(source).__module__.partition(".")[0] == "numpy":
        try:
            return Image.fromarray(source), f"the array of {place}"
        except (TypeError, ValueError) as error:
            raise MediaError(f"the array of {place} is not an image: {error}", help=_DROP) from error
    data, name = read_bytes(source, options, place)
    if not data:
        raise MediaError(f"{name} is empty", help=_DROP)
    try:
        with warnings.catch_warnings():
            # Its own bound is checked next, by name.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data)), name
    except UnidentifiedImageError as error:
        raise MediaError(f"{name} is not an image that Pillow reads", help=_DROP) from error
    except Image.DecompressionBombError as error:
        raise MediaError(f"{name} is too large: {error}", help="make it smaller, or drop the row") from error
    except Exception as error:  # Pillow's readers raise anything for a broken file
        raise _broken(name, error) from error


def _check(image: Image, options: MediaOptions, name: str) -> None:
    width, height = image.size
    if width * height > options.max_pixels:
        raise MediaError(
            f"{name} has {width} × {height} pixels, more than {options.max_pixels:,}",
            help="make it smaller, or raise `max_pixels` (MediaOptions)",
        )
    # One pixel is what trackers and failed downloads leave.
    if width * height < options.min_pixels:
        raise MediaError(
            f"{name} has {width} × {height} pixels: nothing to see",
            help="drop the row, or set `min_pixels` (MediaOptions)",
        )
    if image.mode == "CMYK":
        # Readers disagree on whether its colours are inverted, so a model would see another picture than people do.
        raise MediaError(f"{name} is in CMYK, which has no one meaning in RGB", help="save it as RGB")
    # Formats whose frames people see: a phone's photo (MPO) has a second one that nobody looks at.
    frames = getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG", "WEBP", "TIFF") else 1
    if frames > 1:
        raise MediaError(
            f"{name} has {frames} frames: an image is one picture", help="save the frame that is meant, or use a video"
        )


def _is_whole(image: Image) -> bool:
    """True if the end of a file shows, without decoding, that nothing is missing.

    False also where that is not known.
    """
    stream: Any = getattr(image, "fp", None)
    if stream is None or not hasattr(stream, "getbuffer"):
        return False
    data = bytes(stream.getbuffer())
    if image.format == "JPEG":
        # JPEG's end marker; some cameras fill the file with zeros behind it.
        return data.rstrip(b"\0")[-2:] == b"\xff\xd9"
    if image.format == "WEBP":
        # The size in the RIFF header does not count its own 8 bytes.
        return len(data) >= int.from_bytes(data[4:8], "little") + 8
    return False


def _bounded(data: bytes, options: MediaOptions, name: str) -> bytes:
    if not isinstance(data, bytes | bytearray):
        raise MediaError(f"{name} are a {type(data).__name__}, not bytes", help=_DROP)
    if len(data) > options.max_bytes:
        raise _too_large(name, len(data), options)
    return bytes(data)


def _decoded(text: Any, options: MediaOptions, place: str) -> tuple[bytes, str]:
    name = f"the base64 text of {place}"
    try:
        data = base64.b64decode(text.partition(",")[2] if text.startswith("data:") else text, validate=True)
    except (binascii.Error, ValueError, AttributeError, TypeError) as error:
        raise MediaError(f"{name} is not base64: {error}", help=_DROP) from error
    return _bounded(data, options, name), name


def _fetched(url: str, options: MediaOptions) -> bytes:
    if not url.startswith(("http://", "https://")):
        raise MediaError(f"`{url}` is not fetched: only http and https are", help=_DROP)
    if not options.urls:
        raise MediaError(
            f"`{url}` is not fetched: rows may not reach the network unless asked for",
            help="download the file and name its path, or allow it: --media-urls (MediaOptions(urls=True) in Python)",
        )
    import urllib.request  # with it come http, e-mail and TLS, which no start of the program needs

    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            # One byte more than allowed, so that a longer answer shows without being read.
            data: bytes = answer.read(options.max_bytes + 1)
    except (OSError, ValueError) as error:
        raise MediaError(f"`{url}` cannot be fetched: {error}", help=_DROP) from error
    return _bounded(data, options, f"`{url}`")


def _too_large(name: str, size: int, options: MediaOptions) -> MediaError:
    return MediaError(
        f"{name} has {size:,} bytes, more than {options.max_bytes:,}",
        help="make it smaller, or raise `max_bytes` (MediaOptions)",
    )


def _broken(name: str, error: BaseException) -> MediaError:
    return MediaError(f"{name} is broken: {str(error) or type(error).__name__}", help=_DROP)
