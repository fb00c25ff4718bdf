"""ImageRequest x Catalog -> ImageOrder: every rule by which OpenAI's words become GLM's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from gateway.domain.catalog import Catalog, Model, parse_size
from gateway.domain.errors import (
    EmptyText,
    InvalidValue,
    MissingParameter,
    NumberTooLarge,
    NumberTooSmall,
    TextTooLong,
    UnknownParameter,
    UnsupportedParameter,
)
from gateway.domain.image import Change, ImageOrder, ImagePlan, ImageRequest, Quality, Rendition, ResponseFormat

MAX_PICTURES = 10  # openai-images-api.md section 1.1
QUALITIES = ("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd")
FINE_QUALITIES = ("high", "xhigh", "max", "hd")
BACKGROUNDS = ("auto", "opaque", "transparent")
OUTPUT_FORMATS = ("png", "jpeg", "webp")
MAX_COMPRESSION = 100

# What a resolved quality is called in an answer (design.md section 6, "Words of the answer").
ANSWER_QUALITY: dict[Quality, str] = {"hd": "high", "standard": "medium"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingRules:
    """What the operator (and `Prefer: handling=strict`) decides about mapping; `hash_user` gives 32 hex digits.

    `upstream_urls`: an answer with URLs passes on the upstream's own.
    """

    hash_user: Callable[[str], str]
    strict: bool = False
    allow_unwatermarked: bool = False
    upstream_urls: bool = False

    def of(self, *, strict: bool, unwatermarked: bool) -> "MappingRules":
        """Give the rules for a request that is to be taken strictly, or whose key may do more."""
        strict, unwatermarked = self.strict or strict, self.allow_unwatermarked or unwatermarked
        if (strict, unwatermarked) == (self.strict, self.allow_unwatermarked):
            return self
        return replace(self, strict=strict, allow_unwatermarked=unwatermarked)


def order_from(request: ImageRequest, catalog: Catalog, rules: MappingRules) -> ImageOrder:
    """Map a request to an order inside the catalog.

    Raises:
        InvalidRequest: the subclass says what is wrong and `param` where.
    """
    model = catalog.find(request.model)
    refuse_transparency(request)
    size = map_size(request, model)
    quality = map_quality(request, model)
    response_format = map_response_format(request, catalog)
    linked = rules.upstream_urls and response_format == "url" and not request.stream
    rendition = map_rendition(request)
    changes = tuple(_changes(request, size, quality, None if linked else rendition))
    if rules.strict:
        refuse_changes(request, changes)
    plan = ImagePlan(
        model=model.name,
        prompt=map_prompt(request, model),
        size=size,
        quality=quality,
        watermark=map_watermark(request, rules),
        user_id=rules.hash_user(request.user) if request.user else None,
    )
    return ImageOrder(
        plan=plan,
        requested_model=(request.model or model.name)[:100],
        n=map_count(request),
        response_format=response_format,
        stream=request.stream,
        rendition=None if linked else rendition,
        linked=linked,
        changes=changes,
    )


def map_prompt(request: ImageRequest, model: Model) -> str:
    """Pass the prompt on unchanged; the limit counts code points, not bytes (glm-image-api.md section 0)."""
    prompt = request.prompt
    if prompt is None:
        raise MissingParameter("Missing required parameter: 'prompt'.", param="prompt")
    if not prompt.strip():
        raise EmptyText("Invalid 'prompt': empty string. Describe the picture you want.", param="prompt")
    if len(prompt) > model.max_prompt:
        raise TextTooLong(
            f"Invalid 'prompt': string too long. Expected a string with maximum length {model.max_prompt}, "
            f"but got a string with length {len(prompt)} instead.",
            param="prompt",
        )
    return prompt


def map_size(request: ImageRequest, model: Model) -> str:
    """Give a legal size: the model's default for none and `auto`, else the asked one or the nearest to it."""
    if request.size is None or request.size == "auto":
        return model.default_size
    asked = parse_size(request.size)
    if asked is None:
        raise _not_one_of("size", request.size, ("auto", *model.recommended_sizes, "any WxH in pixels"))
    return str(model.size.nearest(asked))


def map_quality(request: ImageRequest, model: Model) -> Quality:
    """Give a quality that the model has: the finer one for the fine words, else its first."""
    asked = "auto" if request.quality is None else request.quality
    if asked not in QUALITIES:
        raise _not_one_of("quality", asked, QUALITIES)
    if asked in FINE_QUALITIES and "hd" in model.qualities:
        return "hd"
    return model.qualities[0]


def map_count(request: ImageRequest) -> int:
    """Give n, 1 to 10."""
    if request.n < 1:
        raise NumberTooSmall(
            f"Invalid 'n': integer below minimum value. Expected a value >= 1, but got {request.n} instead.",
            param="n",
        )
    if request.n > MAX_PICTURES:
        raise NumberTooLarge(
            f"Invalid 'n': integer above maximum value. Expected a value <= {MAX_PICTURES}, "
            f"but got {request.n} instead.",
            param="n",
        )
    return request.n


def map_response_format(request: ImageRequest, catalog: Catalog) -> ResponseFormat:
    """Honour what was asked; else what a client of that model name expects (openai-images-api.md section 8, trap 1)."""
    match request.response_format:
        case "url" | "b64_json" as asked:
            return asked
        case None:
            alias = catalog.alias_of(request.model) if request.model else None
            return alias.response_format if alias else "b64_json"
        case other:
            raise _not_one_of("response_format", other, ("url", "b64_json"))


def map_rendition(request: ImageRequest) -> Rendition | None:
    """Honour `output_format` and `output_compression`; png is what the model makes, so it stays as made."""
    compression = request.output_compression
    if compression is not None and not 0 <= compression <= MAX_COMPRESSION:
        raise (NumberTooSmall if compression < 0 else NumberTooLarge)(
            f"Invalid 'output_compression': expected 0 to {MAX_COMPRESSION}, but got {compression} instead.",
            param="output_compression",
        )
    match request.output_format:
        case "jpeg" | "webp" as media:
            return Rendition(media=media, compression=compression)
        case None | "png":
            return None
        case other:
            raise _not_one_of("output_format", other, OUTPUT_FORMATS)


def map_watermark(request: ImageRequest, rules: MappingRules) -> bool:
    """Keep the watermark unless the client asks otherwise and the operator allows it (glm-image-api.md section 8)."""
    if request.watermark_enabled is False and not rules.allow_unwatermarked:
        raise InvalidValue(
            "'watermark_enabled': false is not allowed with this key. Leave the parameter out, or ask the operator "
            "for --unwatermarked on the key or images.allow_unwatermarked (the upstream account needs a signed "
            "agreement for it).",
            param="watermark_enabled",
        )
    return request.watermark_enabled is not False


def refuse_transparency(request: ImageRequest) -> None:
    """Refuse a transparent background: the models cannot make one, and a picture costs money."""
    background = "auto" if request.background is None else request.background
    if background not in BACKGROUNDS:
        raise _not_one_of("background", background, BACKGROUNDS)
    if background == "transparent":
        raise InvalidValue(
            "Invalid value: 'transparent'. The model makes opaque pictures only; use 'opaque' or 'auto'.",
            param="background",
        )


def refuse_changes(request: ImageRequest, changes: tuple[Change, ...]) -> None:
    """Under strict handling, refuse what would otherwise be ignored, and a size that would be changed."""
    for name in request.unknown:
        raise UnknownParameter(f"Unknown parameter: '{name[:100]}'.", param=name[:100])
    for change in changes:
        if change.name == "size":
            raise InvalidValue(
                f"Invalid value: '{change.before}'. The model cannot make this size; the nearest is '{change.after}'.",
                param="size",
            )
        if not change.after:
            raise UnsupportedParameter(f"Unsupported parameter: '{change.name}'. Leave it out.", param=change.name)


def _changes(request: ImageRequest, size: str, quality: Quality, rendition: Rendition | None) -> Iterator[Change]:
    """Say what becomes of each parameter that is not honoured as it came."""
    asked = parse_size(request.size) if request.size else None
    if asked is not None and str(asked) != size:
        yield Change(name="size", before=str(asked), after=size)
    if request.quality not in {None, "auto", quality}:
        yield Change(name="quality", before=str(request.quality), after=quality)
    if request.stream and request.response_format == "url":
        yield Change(name="response_format", before="url", after="b64_json")  # events carry no URL
    if rendition is None and request.output_format not in {None, "png"}:
        yield Change(name="output_format")  # what is only passed on cannot be converted
    if rendition is None and request.output_compression is not None:
        yield Change(name="output_compression")  # a PNG has no quality
    for name in (*request.unsupported, *request.unknown):
        yield Change(name=name)


def _not_one_of(param: str, value: str, allowed: tuple[str, ...]) -> InvalidValue:
    words = [f"'{word}'" for word in allowed]
    return InvalidValue(
        f"Invalid value: '{value[:100]}'. Supported values are: {', '.join(words[:-1])}, and {words[-1]}.",
        param=param,
    )
