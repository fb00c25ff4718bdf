"""What bytes are: a whole picture, its type and its pixels, or something else."""

import io
import mmap
import struct
from collections.abc import Callable
from typing import IO, cast

from PIL import Image

from gateway.domain.image import Media

View = bytes | mmap.mmap

# A mapped file is searched from where it was last read, unless a start is given.
# What Pillow's verify() lets pass although the pixels are missing; decoding them all would cost 40 ms of CPU.
_WHOLE: dict[Media, Callable[[View], bool]] = {
    "png": lambda content: content.find(b"IDAT", 0) >= 0,
    "jpeg": lambda content: (
        0 <= content.rfind(b"\xff\xda", 0) < content.rfind(b"\xff\xd9", 0)
    ),  # an end behind the last scan
    "webp": lambda content: len(content) >= int.from_bytes(content[4:8], "little") + 8,
}
_FAILURES = (OSError, SyntaxError, ValueError, LookupError, EOFError, struct.error, Image.DecompressionBombError)
_MEDIA: dict[str, Media] = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp"}


class Damaged(Exception):
    """Not a PNG, JPEG or WebP picture, or not all of it."""


def inspect(content: View) -> tuple[Media, tuple[int, int]]:
    """Read type and pixels from the bytes themselves, never from names or headers.

    Raises:
        Damaged: no picture can be read from them.
    """
    try:
        with Image.open(_file(content), formats=tuple(_MEDIA)) as image:
            media, size = _MEDIA[image.format or ""], image.size
            image.verify()
    except _FAILURES as failure:
        raise Damaged(f"not a picture: {content[:16]!r}") from failure
    if not _WHOLE[media](content):
        raise Damaged(f"only a part of a {media} picture")
    return media, size


def _file(content: View) -> IO[bytes]:
    """Give Pillow something to read from; a mapped file is that already, though not in the eyes of its types."""
    return io.BytesIO(content) if isinstance(content, bytes) else cast("IO[bytes]", content)
