"""Breaks a prompt into lines and finds the largest type in which it fills a box; knows widths, not pixels."""

import functools
import math
import re
from typing import NamedTuple

from gateway.simulator.fonts import font

_REFERENCE = 64  # pixels; widths are measured once at this size and scaled
_LINE_HEIGHT = 1.35
_SMALLEST = 8
_SHRINK = 0.96
# A Latin word stays whole, a Chinese character stands alone; closing punctuation begins no line, opening ends none.
_CLOSING = "\\u3001\\u3002\\uff0c\\uff0e\\uff1a\\uff1b\\uff1f\\uff01\\uff09\\u300d\\u300f\\u300b\\u3011\\u201d\\u2019"
_OPENING = "\\uff08\\u300c\\u300e\\u300a\\u3010\\u201c\\u2018"
_TOKEN = re.compile(rf"[{_OPENING}]*(?:[!-~\u00a1-\u024f]+|.)[{_CLOSING}]* ?")


class Setting(NamedTuple):
    """Type size in pixels, the distance between lines, and the lines."""

    size: int
    leading: int
    lines: list[str]


def typeset(text: str, width: int, height: int) -> Setting:
    """The text at the largest size whose lines fit the box; what does not fit at the smallest size is left out."""
    paragraphs = [_TOKEN.findall(_printable(part)) for part in text.splitlines()]
    ems = sum(_width(token) for tokens in paragraphs for token in tokens)
    guess = math.sqrt(width * height / (_LINE_HEIGHT * max(ems, 1.0)))
    size = min(guess * 1.2, height / 6, width / 8)
    while size > _SMALLEST:
        lines = _break(paragraphs, width / size)
        if len(lines) * size * _LINE_HEIGHT <= height:
            return Setting(int(size), int(size * _LINE_HEIGHT), lines)
        size *= _SHRINK
    leading = int(_SMALLEST * _LINE_HEIGHT)
    return Setting(_SMALLEST, leading, _break(paragraphs, width / _SMALLEST)[: height // leading])


def _break(paragraphs: list[list[str]], limit: float) -> list[str]:
    lines = []
    for tokens in paragraphs:
        line, used = "", 0.0
        for token in tokens:
            for piece in _pieces(token, limit):
                wide = _width(piece)
                if line and used + wide > limit:
                    lines.append(line)
                    line, used = "", 0.0
                line += piece
                used += wide
        lines.append(line)
    return lines


def _pieces(token: str, limit: float) -> list[str]:
    """The token, or its characters when it is wider than a line."""
    return [token] if _width(token) <= limit else list(token)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


@functools.lru_cache(maxsize=16_384)
def _width(token: str) -> float:
    """In ems."""
    return font(_REFERENCE).getlength(token) / _REFERENCE
