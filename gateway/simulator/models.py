"""The documented models: their sizes and qualities, and which platform has them (glm-image-api.md sections 1.2, 7)."""

import re
from dataclasses import dataclass

from gateway.simulator.options import Language

_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})", re.ASCII)
_COGVIEW_SIZES = ("1024x1024", "768x1344", "864x1152", "1344x768", "1152x864", "1440x720", "720x1440")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One row of the documentation; the first recommended size is the default."""

    name: str
    recommended: tuple[str, ...]
    step: int
    max_pixels: int
    max_side: int = 2048
    hd_only: bool = False

    @property
    def default_size(self) -> str:
        """What an absent size means."""
        return self.recommended[0]

    def allows(self, size: str, smallest_side: int) -> bool:
        """Whether the size is a recommended one or keeps the rules for custom ones."""
        if size in self.recommended:
            return True
        match = _SIZE.fullmatch(size)
        if match is None:
            return False
        width, height = int(match[1]), int(match[2])
        sides_fit = all(smallest_side <= side <= self.max_side and side % self.step == 0 for side in (width, height))
        return sides_fit and width * height <= self.max_pixels


GLM_IMAGE = Model(
    name="glm-image",
    recommended=("1280x1280", "1568x1056", "1056x1568", "1472x1088", "1088x1472", "1728x960", "960x1728"),
    step=32,
    max_pixels=2**22,
    hd_only=True,
)
_COGVIEWS = tuple(
    Model(name=name, recommended=_COGVIEW_SIZES, step=16, max_pixels=2**21)
    for name in ("cogview-4-250304", "cogview-4", "cogview-3-flash")
)
_BY_LANGUAGE: dict[Language, dict[str, Model]] = {
    "zh": {model.name: model for model in (GLM_IMAGE, *_COGVIEWS)},
    "en": {model.name: model for model in (GLM_IMAGE, _COGVIEWS[0])},
}
# The async endpoint's enum has one name (section 2).
_ASYNC = {GLM_IMAGE.name: GLM_IMAGE}


def find_model(name: str, language: Language, *, asynchronous: bool) -> Model | None:
    """The model of that name on that platform's endpoint."""
    return (_ASYNC if asynchronous else _BY_LANGUAGE[language]).get(name)


def size_in_pixels(size: str) -> tuple[int, int]:
    """Width and height of a size that a model allows."""
    width, _, height = size.partition("x")
    return int(width), int(height)
