"""What is asked for (OpenAI's words), what is planned (the upstream's words), what was made."""

from dataclasses import dataclass
from typing import Literal

Quality = Literal["hd", "standard"]
ResponseFormat = Literal["url", "b64_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
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
    stream: bool = False
    user: str | None = None
    watermark_enabled: bool | None = None
    unsupported: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePlan:
    """One picture in the upstream's words: the six fields of glm-image-api.md section 1.2."""

    model: str
    prompt: str
    size: str
    quality: Quality
    watermark: bool = True
    user_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A parameter that was mapped to something else (`before`, `after`) or ignored (neither)."""

    name: str
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOrder:
    """A request after mapping: `n` pictures of one plan, how they are handed over, and what was changed."""

    plan: ImagePlan
    requested_model: str = ""
    n: int
    response_format: ResponseFormat
    stream: bool
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentWarning:
    """GLM's `content_filter` on a success: role, and level from 0 (worst) to 3 (section 1.3)."""

    role: str
    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidPicture:
    """What one successful call answers: the picture is paid from here on, and its bytes are at `url` for a while."""

    url: str
    request_id: str = ""
    warnings: tuple[ContentWarning, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureBytes:
    """Downloaded bytes; the type and the pixels are read from the bytes themselves, never from names or headers."""

    content: bytes
    media: Literal["png", "jpeg", "webp"]
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture that was made, paid and downloaded."""

    paid: PaidPicture
    account: str = ""
    image: PictureBytes

    @property
    def size(self) -> str:
        """`WxH` in pixels, measured."""
        return f"{self.image.width}x{self.image.height}"
