"""Pictures that can be read: the prompt is wrapped, nothing is clipped, and it costs little."""
# ruff: noqa: RUF001 - Chinese punctuation is what is tested

import io
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.simulator import fonts
from gateway.simulator.drawing import Sketch, draw
from gateway.simulator.typesetting import typeset


def a_sketch(prompt: str = "a cat", width: int = 1280, height: int = 1280, serial: int = 1) -> Sketch:
    return Sketch(
        id="20260115122823" + "a" * 16, serial=serial, prompt=prompt, width=width, height=height, watermark=True
    )


def ink(png: bytes) -> Image.Image:
    with Image.open(io.BytesIO(png)) as picture:
        return Image.frombytes("L", picture.size, picture.tobytes()).point(
            [255 * (level > 200) for level in range(256)]
        )


@pytest.mark.parametrize("prompt", ["a cat", "一只猫", "汉" * 1000, "x" * 1000, "word " * 150, "line\nline\n\nline"])
@pytest.mark.parametrize("size", [(512, 512), (2048, 512), (512, 2048), (1280, 1280)])
def test_the_prompt_keeps_clear_of_the_edges(prompt, size):
    left, top, right, bottom = ink(draw(a_sketch(prompt, *size))).getbbox()
    assert left >= 8
    assert top >= 8
    assert right <= size[0] - 8
    assert bottom <= size[1] - 4


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a short line", 1),
        ("one\ntwo\n\nthree", 4),
        ("the quick brown fox jumps over the lazy dog and runs away", 2),
    ],
)
def test_words_stay_whole_and_every_character_is_set(text, lines):
    setting = typeset(text, 1000, 800)
    assert len(setting.lines) >= lines
    assert " ".join(" ".join(setting.lines).split()) == " ".join(text.split())


def test_punctuation_stays_with_its_word():
    lines = typeset("他说，「你好。」（真的）" * 40, 1000, 800).lines
    assert len(lines) > 5
    assert not any(line[0] in "，。」）" or line[-1] in "「（" for line in lines)


def test_what_cannot_be_set_even_small_is_left_out():
    setting = typeset("汉" * 100_000, 480, 480)
    assert len(setting.lines) * setting.leading <= 480


@given(st.text(min_size=1, max_size=1000))
@settings(max_examples=50, deadline=None)
def test_any_text_can_be_drawn(prompt):
    assert draw(a_sketch(prompt, 512, 512)).startswith(b"\x89PNG")


def test_the_palette_depends_on_the_prompt():
    with Image.open(io.BytesIO(draw(a_sketch("a cat")))) as one, Image.open(io.BytesIO(draw(a_sketch("a dog")))) as two:
        assert one.mode == "P"
        assert one.getpalette() != two.getpalette()


def test_a_long_prompt_costs_little():
    draw(a_sketch())  # fonts are looked for once a process
    spent = []
    for serial in range(5):
        started = time.thread_time()
        draw(a_sketch("汉字" * 300, serial=serial))
        spent.append(time.thread_time() - started)
    assert min(spent) < 0.2  # 0.022 s where it was written; the limit only catches what is out of proportion


def test_without_any_chinese_font_pillows_own_is_taken(monkeypatch):
    monkeypatch.setattr(fonts, "_candidates", lambda: iter([fonts.Face("no-such-file.ttf")]))
    for cached in (fonts.find_face, fonts.font):
        cached.cache_clear()
    try:
        assert fonts.find_face() is None
        assert draw(a_sketch("a cat 一只猫")).startswith(b"\x89PNG")
    finally:
        for cached in (fonts.find_face, fonts.font):
            cached.cache_clear()


def test_a_font_package_is_found(monkeypatch, tmp_path):
    package = tmp_path / "cvttf_NotoSansCJK_Regular"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "NotoSansCJKtc-Regular.otf").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert fonts.Face(str(package / "NotoSansCJKtc-Regular.otf")) in list(fonts._from_packages())


def test_fonts_are_found_by_name_in_the_usual_folders(monkeypatch, tmp_path):
    for name in ("uming.ttc", "Latin.ttf", "NotoSansCJK-Regular.ttc", "NotoSansCJK-notes.txt"):
        (tmp_path / name).touch()
    monkeypatch.setattr(fonts, "_FOLDERS", (str(tmp_path),))
    found = [face.path.rpartition("/")[2] for face in fonts._from_folders()]
    assert found == ["NotoSansCJK-Regular.ttc", "uming.ttc"]
