"""The pictures that were made: all the newest records, and the bytes of fewer, so that memory stays bounded."""

from collections import OrderedDict

import msgspec

RECORDS = 10_000
PICTURES_WITH_BYTES = 1_000


class Picture(msgspec.Struct, kw_only=True):
    """A picture and what became of it; `authorized_fetches` brought an Authorization header, which none should."""

    id: str
    prompt: str
    size: str
    sha256: str
    url: str
    user_id: str | None
    key_id: str
    model: str
    watermark: bool
    fetches: int = 0
    authorized_fetches: int = 0


class Gallery:
    """Pictures by the name in their URL."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._bytes: OrderedDict[str, bytes] = OrderedDict()

    def add(self, name: str, picture: Picture, png: bytes) -> None:
        """Keeps a picture, and lets go of the oldest."""
        self._pictures[name] = picture
        self._bytes[name] = png
        if len(self._pictures) > RECORDS:
            self._pictures.popitem(last=False)
        if len(self._bytes) > PICTURES_WITH_BYTES:
            self._bytes.popitem(last=False)

    def find(self, name: str) -> tuple[Picture, bytes] | None:
        """The picture of that name, unless its bytes are gone."""
        png = self._bytes.get(name)
        return None if png is None else (self._pictures[name], png)

    def pictures(self) -> list[Picture]:
        """All that are remembered, oldest first."""
        return list(self._pictures.values())
