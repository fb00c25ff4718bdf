"""Pictures -> OpenAI's answer: JSON (openai-images-api.md section 1.3) or server-sent events (section 1.4)."""

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pybase64

from gateway.domain.image import Change, ContentWarning, ImageOrder
from gateway.domain.mapping import ANSWER_QUALITY
from gateway.domain.records import record
from gateway.domain.terms import money_text
from gateway.service.deliver import Delivery
from gateway.service.generation import Generation
from gateway.service.picture_ports import StoredPicture

# GLM reports no tokens: zeros are honest, and clients fail without the whole object (section 8, trap 6).
USAGE: dict[str, Any] = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
    "output_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}
HEARTBEAT = b": keep-alive\n\n"
MOST_CHANGES = 20
LONGEST_NAME = 64
_NOT_A_WORD = re.compile(r"[^A-Za-z0-9_.x-]")


@record(frozen=True, slots=True, kw_only=True)
class JsonAnswer:
    """The body of a finished generation, written in pieces: memory holds no more than one of a picture."""

    order: ImageOrder
    created: int
    pictures: Sequence[Delivery]
    echo: dict[str, str]

    @property
    def length(self) -> int:
        """Count the bytes of the body."""
        return sum(map(len, self._frame())) + sum(map(self._length_of, self.pictures)) + len(self.pictures) - 1

    def headers(self) -> dict[str, str]:
        """Say what was made, and what was changed."""
        order, made = self.order, len(self.pictures)
        lost = (Change(name="n", before=str(order.n), after=str(made)),) if made < order.n else ()
        changes = (*order.changes, *lost, *_unconverted(order, self.pictures))
        return {**change_headers(changes), "x-glm-size": size_of(order, self.pictures[0])}

    def whole(self) -> bytes | None:
        """Write the body at once when it holds no picture, but URLs."""
        if any(map(self._inline, self.pictures)):
            return None
        head, tail = self._frame()
        return head + b",".join(self._opening(picture) + b'"}' for picture in self.pictures) + tail

    async def pieces(self) -> AsyncIterator[bytes]:
        """Write the body."""
        head, tail = self._frame()
        yield head
        for number, picture in enumerate(self.pictures):
            yield b"," * bool(number) + self._opening(picture)
            content = self._inline(picture)
            if content is not None:
                async for piece in encoded(content):
                    yield piece
            yield b'"}'
        yield tail

    def _frame(self) -> tuple[bytes, bytes]:
        """Write what stands before and behind the pictures."""
        tail = {
            **described(self.order, self.pictures[0]),
            "usage": USAGE,
            **self.echo,
            **content_filter([warning for one in self.pictures for warning in one.picture.paid.warnings]),
        }
        return b'{"created":%d,"data":[' % self.created, b"]," + msgspec.json.encode(tail)[1:]

    def _opening(self, picture: Delivery) -> bytes:
        """Write an item up to the end of its text: exactly one of the two keys (section 8, trap 1)."""
        if self._inline(picture) is not None:
            return b'{"b64_json":"'
        return b'{"url":' + msgspec.json.encode(picture.url)[:-1]

    def _inline(self, picture: Delivery) -> StoredPicture | None:
        """Give what is written into the body; None for a picture of which the URL is."""
        return picture.content if self.order.response_format == "b64_json" else None

    def _length_of(self, picture: Delivery) -> int:
        content, closing = self._inline(picture), len(b'"}')
        return len(self._opening(picture)) + (encoded_length(content) if content else 0) + closing


async def completed_event(
    order: ImageOrder, created: int, picture: Delivery, echo: dict[str, str]
) -> AsyncIterator[bytes]:
    """Write one `image_generation.completed`; it carries b64_json whatever was asked (section 8, trap 11)."""
    about = {
        "created_at": created,
        **described(order, picture),
        "usage": USAGE,
        **echo,
        **content_filter(picture.picture.paid.warnings),
    }
    kind = b"image_generation.completed"
    yield b'event: %b\ndata: {"type":"%b","b64_json":"' % (kind, kind)
    if picture.content is not None:  # a stream is never only linked
        async for piece in encoded(picture.content):
            yield piece
    yield b'",' + msgspec.json.encode(about)[1:] + b"\n\n"


async def encoded(content: StoredPicture) -> AsyncIterator[bytes]:
    """Write base64; 3 divides the length of every piece but the last, so each has one of its own."""
    async for piece in content.chunks():
        yield pybase64.b64encode(piece)


def encoded_length(content: StoredPicture) -> int:
    """Count the characters of the base64."""
    return -(-content.length // 3) * 4


def comment(text: str) -> bytes:
    """Write a comment: readers of the raw stream see it, SDKs skip it. An event would make them drop the pictures."""
    return b": " + " ".join(text.splitlines()).encode() + b"\n\n"


def error_event(error: dict[str, Any]) -> bytes:
    """Write an error in the only form that all SDKs raise (section 1.4)."""
    return b"event: error\ndata: " + msgspec.json.encode({"type": "error", **error}) + b"\n\n"


def described(order: ImageOrder, picture: Delivery) -> dict[str, str]:
    """Say what was made in resolved values, never `auto` (section 8, trap 25); size and type come from the bytes.

    Of a picture that was only passed on the type is not known, and the size is the one that was ordered.
    """
    said = {"background": "opaque", "quality": ANSWER_QUALITY[order.plan.quality], "size": size_of(order, picture)}
    return said | ({"output_format": picture.content.file.media} if picture.content else {})


def size_of(order: ImageOrder, picture: Delivery) -> str:
    """Give `WxH` as it was measured, or as it was ordered where nobody has measured."""
    return picture.picture.size or order.plan.size


def content_filter(warnings: Sequence[ContentWarning]) -> dict[str, Any]:
    """Pass on GLM's warnings about the content, where it gave some."""
    said = [{"role": warning.role, "level": warning.level} for warning in warnings]
    return {"content_filter": said} if said else {}


def cache_headers(generation: Generation) -> dict[str, str]:
    """Say where the pictures come from and what is charged (design.md section 5, "Response headers")."""
    headers: dict[str, str] = {"x-glm-cache": generation.cache, **replay_headers(generation)}
    if (age := generation.age) is not None:
        headers["age"] = str(age)
    if (queue_ms := generation.queue_ms) is not None:
        headers["x-glm-queue-ms"] = str(queue_ms)
    if (price := generation.price) is not None:
        headers["x-glm-cost"] = f"{money_text(price.amount)} {price.currency}"
    return headers


def replay_headers(generation: Generation) -> dict[str, str]:
    """Say so when a request repeats another one."""
    return {"idempotent-replayed": "true"} if generation.replayed else {}


def change_headers(changes: Sequence[Change]) -> dict[str, str]:
    """Name the changed parameters: `x-glm-changed` as in design.md section 6, "Words of the answer"."""
    if not changes:
        return {}
    mapped_first = sorted(changes, key=lambda change: not change.after)
    words = list(dict.fromkeys(map(_change, mapped_first)))[:MOST_CHANGES]
    return {"x-glm-changed": ",".join(sorted(words))}


def _unconverted(order: ImageOrder, pictures: Sequence[Delivery]) -> list[Change]:
    """Name the format that a picture has which could not be converted."""
    if order.rendition is None:
        return []
    asked = order.rendition.media
    given = [picture.content.file.media for picture in pictures if picture.content]
    return [Change(name="output_format", before=asked, after=media) for media in given if media != asked]


def _change(change: Change) -> str:
    name = _word(change.name)
    return f"{name}={_word(change.before)}->{_word(change.after)}" if change.after else name


def _word(text: str) -> str:
    return _NOT_A_WORD.sub("_", text[:LONGEST_NAME]) or "_"
