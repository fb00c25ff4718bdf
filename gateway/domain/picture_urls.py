"""The names of stored files, and the signatures that let a client without a key fetch one of them for a while."""

import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from typing import Self

from gateway.domain.image import Converted, ImageRef, Media, Rendition
from gateway.domain.records import record

PATH = "/v1/images/files/"
BEST_QUALITY = 100  # OpenAI's default of output_compression (openai-images-api.md section 1.1)
EXTENSIONS: dict[Media, str] = {"png": "png", "jpeg": "jpg", "webp": "webp"}  # some clients ask for these three
_CONVERTED: dict[str, Converted] = {"jpg": "jpeg", "webp": "webp"}
_MEDIA = {extension: media for media, extension in EXTENSIONS.items()}
_FORM = re.compile(r"([0-9a-f]{64})(?:-(0|[1-9][0-9]?|100))?\.(png|jpg|webp)", re.ASCII)


@record(frozen=True, slots=True, kw_only=True)
class PictureFile:
    """A file of the store: the picture of this SHA-256 as it was made, or (with a quality) a rendition of it."""

    name: str
    media: Media
    quality: int | None = None

    @classmethod
    def of(cls, image: ImageRef, rendition: Rendition | None) -> Self:
        """Name what is to be handed over: what has the asked form already is given as it was made."""
        if rendition is None or (rendition.media == image.media and rendition.compression is None):
            return cls(name=image.name, media=image.media)
        quality = BEST_QUALITY if rendition.compression is None else rendition.compression
        return cls(name=image.name, media=rendition.media, quality=quality)

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read the last part of a URL; None for what is no file's name."""
        match = _FORM.fullmatch(text)
        if match is None:
            return None
        name, quality, extension = match.groups()
        if quality is None:
            return cls(name=name, media=_MEDIA[extension])
        media = _CONVERTED.get(extension)
        return cls(name=name, media=media, quality=int(quality)) if media else None

    @property
    def stem(self) -> str:
        """What tells this file from every other: the digest, and the quality of a rendition."""
        return self.name if self.quality is None else f"{self.name}-{self.quality}"

    @property
    def extension(self) -> str:
        """The ending of its name, without a dot."""
        return EXTENSIONS[self.media]

    def __str__(self) -> str:
        return f"{self.stem}.{self.extension}"


def sign(secret: bytes, file: PictureFile, expires: int) -> str:
    """Sign a file's name and the end of its URL's life (Unix seconds): HMAC-SHA-256 in 43 characters for a URL."""
    digest = hmac.digest(secret, f"{file}\n{expires}".encode(), "sha256")
    return urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_signed(secrets: Iterable[bytes], file: PictureFile, expires: int, signature: str) -> bool:
    """Tell whether one of the secrets signed this, in a time that says nothing about how nearly it did."""
    if not signature.isascii():  # compare_digest takes no other text
        return False
    return any(hmac.compare_digest(sign(secret, file, expires), signature) for secret in secrets)
