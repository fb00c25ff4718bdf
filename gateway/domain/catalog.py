"""The models, their aliases, size rules and prices: what config/models.toml says."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from fractions import Fraction
from math import floor, isqrt

from gateway.domain.errors import ModelNotFound
from gateway.domain.image import Quality, ResponseFormat

LONGEST_NAME = 100
WIDEST_RATIO = Fraction(4)  # design.md section 6, "Sizes"

# Zhipu's documentation prints U+00D7 and clients copy it (glm-image-api.md section 11, trap 10).
_SIZE = re.compile(r"\s*([0-9]{1,5})\s*[xX×*]\s*([0-9]{1,5})\s*")  # noqa: RUF001 - the multiplication sign is meant


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Width and height in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def parse_size(text: str) -> Size | None:
    """Read `WxH` in any of its spellings; None when it has not that form or a side is 0."""
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    width, height = (int(side) for side in match.groups())
    return Size(width=width, height=height) if width and height else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeRule:
    """Sides from `min_side` to `max_side` in multiples of `step`, at most `max_pixels` (glm-image-api.md section 7)."""

    min_side: int
    max_side: int
    step: int
    max_pixels: int

    def allows(self, size: Size) -> bool:
        """Tell whether the upstream takes this size as it is."""
        sides = (size.width, size.height)
        return (
            all(self.min_side <= side <= self.max_side and side % self.step == 0 for side in sides)
            and size.width * size.height <= self.max_pixels
        )

    def nearest(self, size: Size) -> Size:
        """Give the size itself when it is legal, else the nearest legal one (design.md section 6, "Sizes")."""
        return size if self.allows(size) else self._shrink(self._fit(size))

    def _fit(self, size: Size) -> Size:
        """Clamp the ratio to 1:4..4:1, scale into box and pixel cap, round each side half-up to the step."""
        long, short = max(size.width, size.height), min(size.width, size.height)
        ratio = min(Fraction(long, short), WIDEST_RATIO)
        # Squares, so that the root of the pixel cap stays exact: a half has to be seen as a half.
        least, most = (self.min_side * ratio) ** 2, min(Fraction(self.max_side**2), self.max_pixels * ratio)
        squared = min(max(Fraction(long**2), least), most)
        long, short = self._rounded_root(squared), self._rounded_root(squared / ratio**2)
        if size.width >= size.height:
            return Size(width=long, height=short)
        return Size(width=short, height=long)

    def _rounded_root(self, squared: Fraction) -> int:
        """Round a square root half-up to the step, exactly."""
        return (isqrt(floor(4 * squared / self.step**2)) + 1) // 2 * self.step

    def _shrink(self, size: Size) -> Size:
        """Take steps off the longer side while rounding has left the size over the pixel cap."""
        while size.width * size.height > self.max_pixels:
            if size.width >= size.height:
                size = Size(width=size.width - self.step, height=size.height)
            else:
                size = Size(width=size.width, height=size.height - self.step)
        return size


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One upstream model. `price` is per picture, in the installation's currency; `created` in Unix seconds."""

    name: str
    size: SizeRule
    default_size: str
    recommended_sizes: tuple[str, ...]
    max_prompt: int
    qualities: tuple[Quality, ...]
    price: Decimal
    created: int
    owned_by: str = "zhipu"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """Names that clients of OpenAI's use for a model: a shell-style pattern, and the well-known ones to list."""

    pattern: str
    model: str
    response_format: ResponseFormat = "b64_json"
    listed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedModel:
    """A line of GET /v1/models (openai-images-api.md section 3)."""

    id: str
    created: int
    owned_by: str


class Catalog:
    """All models and aliases; the first model is the default one.

    Raises ValueError when an alias names no model of the catalog, a default size is illegal or no model is given.
    """

    def __init__(self, models: Sequence[Model], aliases: Sequence[Alias] = ()) -> None:
        if not models:
            raise ValueError("the catalog needs at least one model")
        self.models = {model.name: model for model in models}
        self.aliases = tuple(aliases)
        self.default = models[0]
        for alias in self.aliases:
            if alias.model not in self.models:
                raise ValueError(f"alias {alias.pattern!r} names the unknown model {alias.model!r}")
        for model in models:
            size = parse_size(model.default_size)
            if size is None or not model.size.allows(size):
                raise ValueError(f"default_size of {model.name!r} breaks the model's own size rule")

    def only(self, served: Collection[str]) -> "Catalog":
        """Give the catalog of these models and their aliases alone; ValueError when nothing is left."""
        models = [model for model in self.models.values() if model.name in served]
        return Catalog(models, [alias for alias in self.aliases if alias.model in served])

    def find(self, name: str | None) -> Model:
        """Give the model of this name or alias, the default one for None; ModelNotFound when there is none."""
        if name is None:
            return self.default
        if name in self.models:
            return self.models[name]
        alias = self.alias_of(name)
        if alias is None:
            raise no_such_model(name)
        return self.models[alias.model]

    def alias_of(self, name: str) -> Alias | None:
        """Give the first alias whose pattern matches the name; it stands in the ledger, so it has to be fit for one."""
        if len(name) > LONGEST_NAME or not name.isprintable():
            return None
        return next((alias for alias in self.aliases if fnmatchcase(name, alias.pattern)), None)

    def listed(self) -> list[ListedModel]:
        """Give every model and every well-known alias."""
        names = [*self.models, *(name for alias in self.aliases for name in alias.listed)]
        return [self.describe(name) for name in names]

    def describe(self, name: str) -> ListedModel:
        """Give one model or alias as it is listed; ModelNotFound when there is none."""
        model = self.find(name)
        return ListedModel(id=name, created=model.created, owned_by=model.owned_by)


def no_such_model(name: str) -> ModelNotFound:
    """Say that there is no model or alias of this name."""
    shown = "".join(char if char.isprintable() else "?" for char in name[:LONGEST_NAME])
    return ModelNotFound(
        f"The model '{shown}' does not exist. GET /v1/models lists the models and their aliases.",
        param="model",
    )
