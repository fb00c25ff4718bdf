"""Conversion between formats: full size, no crop, watermark and all; Pillow's work in threads, a few at once."""

import asyncio
import io
import os
import struct

from PIL import Image

from gateway.domain.image import Media

CONVERSIONS_AT_ONCE = min(2, os.cpu_count() or 1)  # 70 to 220 ms of CPU each, which the event loop needs as well
# What both formats can carry of a PNG's data about itself. Its text chunks are lost: they have no counterpart.
_KEPT = ("icc_profile", "exif", "xmp")
LARGEST = 2**26  # pixels, 200 MB of memory; the models make 4 million at the most, and Pillow only warns of 89
_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_FAILURES = (OSError, SyntaxError, ValueError, LookupError, EOFError, struct.error, *_TOO_LARGE)


class ConversionFailed(Exception):
    """The bytes could not be decoded or not be written in the other format."""


def convert(content: bytes, media: Media, quality: int) -> bytes:
    """Write a picture in another format; `quality` is 0 to 100.

    Raises:
        ConversionFailed: it stays as it was made.
    """
    file = io.BytesIO()
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "WEBP")) as image:
            if image.width * image.height > LARGEST:
                raise ConversionFailed(f"{image.width} times {image.height} pixels are too many to convert")
            about = {name: image.info[name] for name in _KEPT if image.info.get(name)}
            _opaque(image).save(file, media.upper(), quality=quality, **about)
    except _FAILURES as failure:
        raise ConversionFailed(f"{type(failure).__name__}: {failure}") from failure
    return file.getvalue()


def media_of(content: bytes) -> Media:
    """Tell what bytes are that were accepted as a picture."""
    if content.startswith(b"\x89PNG"):
        return "png"
    return "jpeg" if content.startswith(b"\xff\xd8") else "webp"


async def in_thread(content: bytes, media: Media, quality: int) -> bytes:
    """Convert beside the event loop."""
    return await asyncio.to_thread(convert, content, media, quality)


def _opaque(image: Image.Image) -> Image.Image:
    """Give colours only: the models make opaque pictures, and JPEG knows no others. What is clear becomes white."""
    if image.mode == "RGB":
        return image
    if not image.has_transparency_data:
        return image.convert("RGB")
    ground = Image.new("RGBA", image.size, "white")
    ground.alpha_composite(image.convert("RGBA"))
    return ground.convert("RGB")
