"""Files, bytes and objects that hold media: opened within bounds, or refused by name."""

from __future__ import annotations

import base64
import binascii
import functools
import io
import os
import re
import stat
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, Final

from policy_engine.core.errors import ConfigError, MediaError
from policy_engine.core.wording import a_kind, first_line, install

if TYPE_CHECKING:
    from PIL.Image import Image

# At least two letters, so that a drive of Windows (`C://x`) is no URL.
_URL: Final = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_FILE: Final = "file://"
_DATA: Final = re.compile(r"data:", re.IGNORECASE)
_LONGEST: Final = 200
"""Characters of a name that an error shows; a name may be a whole file as base64."""
# What RGB has no room for: 16 bits, 32 bits, floats. Pillow makes 255 of all that is larger.
_DEEP: Final = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_TURNED: Final = frozenset({5, 6, 7, 8})
"""Values of the EXIF orientation under which width and height change places."""
_ORIENTATION: Final = 0x0112
_DROP: Final = "fix the file or the row, or drop the row"


@dataclass(frozen=True, kw_only=True)
class MediaOptions:
    """Places that media may come from, and limits of their size.

    Without a `root`, rows that name files are refused; with one, only files below it are opened. `urls` lets media be
    fetched from the network. `min_pixels` and `max_pixels` bound width × height of an image (one pixel is a download
    that failed), `max_bytes` the size of a file. Without `measure`, every medium is decoded and given to the processor,
    also where its size alone decides its tokens. Raises ConfigError for a root that is not a folder.
    """

    root: str | Path | None = None
    urls: bool = False
    min_pixels: int = 2
    max_pixels: int = 1 << 26
    max_bytes: int = 1 << 28
    measure: bool = True

    @functools.cached_property
    def real_root(self) -> str:
        """The root without links; empty if there is no root."""
        return "" if self.root is None else os.path.realpath(self.root)

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
    return source if isinstance(source, str) and not _DATA.match(source) else None


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
            # As `transformers.image_utils.load_image` does, so that ids and pictures are those of training; it copies
            # the picture twice where nothing is to be done. Decoding comes first, since it turns TIFF upright.
            opened.load()
            if opened.getexif().get(_ORIENTATION, 1) != 1:
                opened = ImageOps.exif_transpose(opened)
            return opened if opened.mode == "RGB" else opened.convert("RGB")
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
    try:
        # An image that was made in memory has no format, and is whole.
        if opened.format is not None and not _is_whole(opened):
            opened.load()
        # The size of an upright picture, without turning it. Decoding has turned TIFF already, so it comes first.
        turned = opened.getexif().get(_ORIENTATION, 1) in _TURNED
        width, height = opened.size
    except Exception as error:  # Pillow's readers raise anything for a broken file
        raise _broken(name, error) from error
    return (height, width) if turned else (width, height)


def thumbnail(source: Any, options: MediaOptions, place: str) -> bytes | None:
    """A small PNG of an image, made from its pixels; None where the image cannot be opened."""
    try:
        picture = open_image(source, options, place)
    except MediaError:
        return None
    picture.thumbnail((96, 96))
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
            name = f"the bytes of {place}" + (f" ({shown(source['path'])})" if source.get("path") else "")
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
        raise MediaError(f"{place} is {a_kind(source)}, which is not a medium", help="give a path, bytes or a URL")
    if _DATA.match(source):
        return _decoded(source, options, place)
    if not is_path(source):
        return _fetched(source, options), shown(source)
    path = confined(source, options, place)
    try:
        if path.stat().st_size > options.max_bytes:
            raise _too_large(shown(source), path.stat().st_size, options)
        return path.read_bytes(), shown(source)
    except OSError as error:
        raise MediaError(f"{shown(source)} of {place} cannot be read: {error.strerror or error}", help=_DROP) from error


def is_path(source: str) -> bool:
    """True for the path of a file or its `file://` URL; False for other URLs, and data itself.

    >>> is_path("a.png"), is_path("file:///a.png"), is_path("https://example.org/a.png"), is_path("data:,a")
    (True, True, False, False)
    """
    return source.startswith(_FILE) or not (_DATA.match(source) or _URL.match(source))


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
            f"{place} names the file {shown(source)}, and no folder is given for files of media",
            help="give the folder that paths start from: --media-root (MediaOptions(root=…) in Python)",
        )
    given = source
    if source.startswith(_FILE):
        from urllib.parse import unquote

        # `file:///a%20b.png`: a URL writes a blank in another way.
        given = unquote(source.removeprefix(_FILE))
    # An absolute path of Windows would replace the root in the join below; POSIX ones do so too, and are found
    # after it.
    if "\0" in given or PureWindowsPath(given).drive:
        raise MediaError(f"{shown(source)} of {place} is not a path below `{options.root}`", help=_DROP)
    try:
        # A row is data of strangers: it may name files, and only those below the root. Links are followed first.
        path = os.path.realpath(os.path.join(options.real_root, given))
        mode = os.stat(path).st_mode if _is_below(path, options.real_root) else None
    except FileNotFoundError:
        raise MediaError(f"{shown(source)} of {place} does not exist below `{options.root}`", help=_DROP) from None
    except (OSError, ValueError) as error:
        # A whole file as base64, written where a path belongs, is too long for a name.
        why = first_line(error) if not isinstance(error, OSError) else error.strerror or "the name cannot be used"
        raise MediaError(
            f"{shown(source)} of {place} cannot be read: {why}",
            help="write base64 under `base64`, or as `data:image/png;base64,…`; else fix or drop the row",
        ) from error
    if mode is None:
        raise MediaError(
            f"{shown(source)} of {place} leads out of the media root `{options.root}`",
            help="write paths that stay below it, or give a folder further up",
        )
    if not stat.S_ISREG(mode):
        what = "is a folder" if stat.S_ISDIR(mode) else "is not a file"
        raise MediaError(f"{shown(source)} of {place} {what} below `{options.root}`", help=_DROP)
    return Path(path)


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root if root.endswith(os.sep) else root + os.sep)


def _opened(source: Any, options: MediaOptions, place: str) -> tuple[Image, str]:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ConfigError("images need Pillow, which is not installed", help=install("media")) from error
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
    if image.mode in _DEEP:
        raise MediaError(
            f"{name} has more than 8 bits a channel ({image.mode}), and RGB cuts them off: nearly all of it gets white",
            help="save it with 8 bits a channel",
        )
    # Formats whose frames people see: a phone's photo (MPO) has a second one that nobody looks at.
    frames = getattr(image, "n_frames", 1) if image.format in ("GIF", "PNG", "WEBP", "TIFF", "AVIF") else 1
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
    with stream.getbuffer() as data:
        if image.format == "JPEG":
            # JPEG's end marker; some cameras fill the file with zeros behind it.
            end = len(data)
            while end > 2 and data[end - 1] == 0:
                end -= 1
            return bytes(data[end - 2 : end]) == b"\xff\xd9"
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
    if not isinstance(text, str):
        raise MediaError(f"{name} is {a_kind(text)}, not text", help=_DROP)
    if _DATA.match(text):
        # `data:image/png;base64,…`: everything behind the comma.
        head, _, text = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise MediaError(f"the data URL of {place} is not base64: it begins with {shown(head)}", help=_DROP)
    try:
        # Line breaks, as e-mail and `base64.encodebytes` write them, are no part of the data.
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"{name} is not base64: {error}", help=_DROP) from error
    return _bounded(data, options, name), name


def _fetched(url: str, options: MediaOptions) -> bytes:
    if not url.lower().startswith(("http://", "https://")):
        raise MediaError(f"{shown(url)} is not fetched: only http and https are", help=_DROP)
    if not options.urls:
        raise MediaError(
            f"{shown(url)} is not fetched: rows may not reach the network unless asked for",
            help="download the file and name its path, or allow it: --media-urls (MediaOptions(urls=True) in Python)",
        )
    import urllib.request  # with it come http, e-mail and TLS, which no start of the program needs

    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            # One byte more than allowed, so that a longer answer shows without being read.
            data: bytes = answer.read(options.max_bytes + 1)
    except (OSError, ValueError) as error:
        raise MediaError(f"{shown(url)} cannot be fetched: {error}", help=_DROP) from error
    return _bounded(data, options, shown(url))


def shown(name: Any) -> str:
    """A name for errors, on one line and not too long.

    >>> shown("a/1.png"), shown("a\\nb.png")
    ('`a/1.png`', '`a\\\\nb.png`')
    """
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name)[: _LONGEST + 1])
    return f"`{text}`" if len(str(name)) <= _LONGEST else f"`{text[:_LONGEST]}…`"


def _too_large(name: str, size: int, options: MediaOptions) -> MediaError:
    return MediaError(
        f"{name} has {size:,} bytes, more than {options.max_bytes:,}",
        help="make it smaller, or raise `max_bytes` (MediaOptions)",
    )


def _broken(name: str, error: BaseException) -> MediaError:
    return MediaError(f"{name} is broken: {str(error) or type(error).__name__}", help=_DROP)
