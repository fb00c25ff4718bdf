"""The gateway's own URLs of pictures: good for a while, on every replica that has the same secret and store."""

import re
from collections.abc import Sequence

from gateway.domain.errors import InvalidPictureUrl, PictureUrlExpired
from gateway.domain.picture_urls import PATH, PictureFile, is_signed, sign
from gateway.service.ports import Clock

_TIME = re.compile("[1-9][0-9]{0,14}", re.ASCII)


class PictureLinks:
    """Signs with the first secret and believes them all; `life` in seconds."""

    def __init__(self, secrets: Sequence[bytes], life: float, clock: Clock, public_url: str = "") -> None:
        self._secrets = secrets
        self._life = life
        self._clock = clock
        self._public_url = public_url.rstrip("/")

    def make(self, file: PictureFile, origin: str) -> str:
        """Give a URL; `origin` is where the client reached us, used where the operator has set no public URL."""
        expires = self._now() + int(self._life)
        signature = sign(self._secrets[0], file, expires)
        return f"{self._public_url or origin}{PATH}{file}?expires={expires}&signature={signature}"

    def check(self, name: str, expires: str, signature: str) -> tuple[PictureFile, int]:
        """Give the file that a URL opens, and the seconds it has left.

        Raises:
            InvalidPictureUrl: it was changed, or made with another secret; PictureUrlExpired: its time is over.
        """
        file = PictureFile.parse(name)
        until = int(expires) if _TIME.fullmatch(expires) else 0
        if file is None or not until or not is_signed(self._secrets, file, until, signature):
            raise InvalidPictureUrl(
                "The signature of this URL is not valid. Use the URL of the answer exactly as it came.",
            )
        left = until - self._now()
        if left <= 0:
            raise PictureUrlExpired("This URL has expired. Send the generation again for a new one.")
        return file, left

    def _now(self) -> int:
        return int(self._clock.now().timestamp())
