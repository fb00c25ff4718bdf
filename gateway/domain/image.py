"""What is asked for (OpenAI's words), what is planned (the upstream's words), what was made."""

from typing import Literal

from gateway.domain.records import record

Quality = Literal["hd", "standard"]
ResponseFormat = Literal["url", "b64_json"]
Media = Literal["png", "jpeg", "webp"]
Converted = Literal["jpeg", "webp"]


@record(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """The body of POST /v1/images/generations with nulls removed (openai-images-api.md section 1.1).

    `unsupported` names parameters of OpenAI's that no upstream model has; `unknown` names all others.
    """

    prompt: str | None = None
    model: str | None = None
    n: int = 1
    size: str | None = None
    quality: str | None = None
    response_format: str | None = None
    background: str | None = None
    output_format: str | None = None
    output_compression: int | None = None
    stream: bool = False
    user: str | None = None
    watermark_enabled: bool | None = None
    unsupported: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@record(frozen=True, slots=True, kw_only=True)
class ImagePlan:
    """One picture in the upstream's words: the six fields of glm-image-api.md section 1.2."""

    model: str
    prompt: str
    size: str
    quality: Quality
    watermark: bool = True
    user_id: str | None = None


@record(frozen=True, slots=True, kw_only=True)
class Change:
    """A parameter that was mapped to something else (`before`, `after`) or ignored (neither)."""

    name: str
    before: str = ""
    after: str = ""


@record(frozen=True, slots=True, kw_only=True)
class Rendition:
    """Another format than the one that was made; `compression` is OpenAI's word for a quality of 0 to 100."""

    media: Converted
    compression: int | None = None


@record(frozen=True, slots=True, kw_only=True)
class ImageOrder:
    """A request after mapping: `n` pictures of one plan, how they are handed over, and what was changed.

    No rendition: as made. `linked`: the upstream's own URLs are the answer, and nothing is fetched or stored.
    """

    plan: ImagePlan
    requested_model: str = ""
    n: int
    response_format: ResponseFormat
    stream: bool
    rendition: Rendition | None = None
    linked: bool = False
    changes: tuple[Change, ...] = ()


@record(frozen=True, slots=True, kw_only=True)
class ContentWarning:
    """GLM's `content_filter` on a success: role, and level from 0 (worst) to 3 (section 1.3)."""

    role: str
    level: int


@record(frozen=True, slots=True, kw_only=True)
class PaidPicture:
    """What one successful call answers: the picture is paid from here on, and its bytes are at `url` for a while."""

    url: str
    request_id: str = ""
    warnings: tuple[ContentWarning, ...] = ()


@record(frozen=True, slots=True, kw_only=True)
class ImageRef:
    """A picture in the store: SHA-256 of its bytes in hex, and what was read from the bytes themselves."""

    name: str
    media: Media
    width: int
    height: int
    bytes: int


@record(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture that was made and paid.

    `image` is None when the order was `linked`. `unstored` holds the bytes when the store could not take them: they
    reach the client that waits; to all others it is a picture without `image`.
    """

    paid: PaidPicture
    account: str = ""
    image: ImageRef | None
    unstored: bytes = b""

    @property
    def size(self) -> str:
        """`WxH` in pixels, measured; empty for a picture that was never here."""
        return f"{self.image.width}x{self.image.height}" if self.image else ""
