"""Finds a typeface that has Chinese characters: the system's, an installed Python package's, else Pillow's own."""

import functools
import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


class Face(NamedTuple):
    """One face of a font file."""

    path: str
    number: int = 0


_SUFFIXES = {".ttf", ".otf", ".ttc"}
# PyPI packages that carry such a font, by the name they are imported under.
_PACKAGES = ("cvttf_NotoSansCJK_Regular", "manimgx_fonts_cjk", "mpl_font", "noto_cjk")
_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "~/.fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
    "~/Library/Fonts",
    "C:/Windows/Fonts",
)
# Parts of file names, the most readable face first.
_NAMES = (
    "notosanscjk",
    "notosanssc",
    "sourcehansans",
    "wqy-zenhei",
    "wqy-microhei",
    "droidsansfallback",
    "pingfang",
    "hiragino sans gb",
    "stheiti",
    "msyh",
    "simhei",
    "simsun",
    "notoserifcjk",
    "uming",
    "ukai",
)


@functools.lru_cache(maxsize=64)
def font(size: int) -> Font:
    """The typeface at a size in pixels. Basic layout: shaping costs time and changes nothing for Chinese."""
    face = find_face()
    if face is None:
        return ImageFont.load_default(size)
    return ImageFont.truetype(face.path, size, face.number, layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def find_face() -> Face | None:
    """The first face that has the characters; looked for once a process, which takes some 20 ms."""
    return next((face for face in _candidates() if _has_chinese(face)), None)


def _candidates() -> Iterator[Face]:
    yield from _from_fontconfig()
    yield from _from_packages()
    yield from _from_folders()


def _from_fontconfig() -> Iterator[Face]:
    program = shutil.which("fc-match")
    if program is None:
        return
    command = [program, "--format=%{file}\n%{index}", "sans:lang=zh-cn"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)  # noqa: S603 - fixed words
    path, _, index = answer.stdout.partition("\n")
    if path:
        yield Face(path, int(index) if index.isdigit() else 0)


def _from_packages() -> Iterator[Face]:
    for package in _PACKAGES:
        found = importlib.util.find_spec(package)
        for folder in (found and found.submodule_search_locations) or ():
            yield from map(Face, sorted(str(path) for path in Path(folder).rglob("*") if path.suffix in _SUFFIXES))


def _from_folders() -> Iterator[Face]:
    ranked = []
    for folder in _FOLDERS:
        for path in Path(folder).expanduser().rglob("*"):
            rank = next((rank for rank, name in enumerate(_NAMES) if name in path.name.lower()), None)
            if rank is not None and path.suffix.lower() in _SUFFIXES:
                ranked.append((rank, str(path)))
    yield from (Face(path) for _, path in sorted(ranked))


def _has_chinese(face: Face) -> bool:
    """Whether it draws a Chinese character otherwise than one that no font has."""
    try:
        loaded = ImageFont.truetype(face.path, 24, face.number, layout_engine=ImageFont.Layout.BASIC)
    except OSError:
        return False
    drawn, tofu = (loaded.getmask(character) for character in ("\u6c49", "\U0010fffd"))
    return bytes(drawn) != bytes(tofu)
