"""Conversion changes the format and nothing else that the other format can carry."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageStat
from PIL.PngImagePlugin import PngInfo

from gateway.adapters.store.pictures import ConversionFailed, convert, media_of
from tests.builders import image_file

FORMATS = {"jpeg": "JPEG", "webp": "WEBP"}


def opened(content):
    image = Image.open(io.BytesIO(content))
    image.load()
    return image


def saved(image, kind="PNG", **more):
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def a_photo(size=(256, 192)):
    """Enough detail that quality shows in the length."""
    noise = Image.effect_noise(size, 80)
    return Image.merge("RGB", (noise, Image.linear_gradient("L").resize(size), noise.rotate(90).resize(size)))


@pytest.mark.parametrize("media", FORMATS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("size", [(1, 1), (640, 480), (1280, 1280)])
def test_the_size_stays(media, kind, size):
    made = opened(convert(image_file(kind, size), media, 80))
    assert (made.format, made.size, made.mode) == (FORMATS[media], size, "RGB")


@pytest.mark.parametrize("media", FORMATS)
def test_a_visible_watermark_stays_where_it_is(media):
    picture = Image.new("RGB", (512, 512), "navy")
    picture.paste("white", (400, 470, 500, 500))
    made = opened(convert(saved(picture), media, 90))
    mark = ImageStat.Stat(made.crop((405, 475, 495, 495)))
    ground = ImageStat.Stat(made.crop((0, 0, 380, 450)))
    assert min(mark.mean) > 240
    assert max(ground.mean[:2]) < 20


@pytest.mark.parametrize("media", FORMATS)
def test_a_lower_quality_is_a_smaller_file_down_to_nothing(media):
    content = saved(a_photo())
    lengths = [len(convert(content, media, quality)) for quality in (0, 10, 50, 80, 100)]
    assert lengths == sorted(lengths)
    assert lengths[-1] > 3 * lengths[0]


@pytest.mark.parametrize("media", FORMATS)
def test_the_best_quality_is_close_to_what_was_made(media):
    picture = Image.linear_gradient("L").resize((256, 256)).convert("RGB")
    made = opened(convert(saved(picture), media, 100))
    pairs = zip(picture.tobytes(), made.tobytes(), strict=True)
    assert max(abs(one - other) for one, other in pairs) <= 8


@pytest.mark.parametrize("media", FORMATS)
def test_colour_profile_exif_and_xmp_are_carried_over_and_text_chunks_are_not(media):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0131] = "glm-image"  # Software
    label = PngInfo()
    label.add_text("AIGC", '{"Label":"1"}')
    label.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
    made = opened(convert(saved(a_photo(), icc_profile=profile, exif=exif, pnginfo=label), media, 80))
    assert made.info["icc_profile"] == profile
    assert made.getexif()[0x0131] == "glm-image"
    assert b"xmpmeta" in made.info["xmp"]
    assert "AIGC" not in made.info


@pytest.mark.parametrize("media", FORMATS)
@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "I;16"])
def test_every_kind_of_pixels_is_understood(media, mode):
    made = opened(convert(saved(Image.new(mode, (64, 48))), media, 80))
    assert (made.size, made.mode) == ((64, 48), "RGB")


@pytest.mark.parametrize("media", FORMATS)
def test_what_is_clear_becomes_white(media):
    made = opened(convert(saved(Image.new("RGBA", (32, 32), (255, 0, 0, 0))), media, 90))
    assert min(made.getpixel((16, 16))) > 250


@pytest.mark.parametrize(
    "content", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", image_file()[:60], image_file("JPEG")[:30], b"<html>"]
)
def test_what_is_no_picture_fails(content):
    with pytest.raises(ConversionFailed):
        convert(content, "jpeg", 80)


# Pillow warns of it, which in a gateway is a line of the log.
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_would_fill_the_memory_is_not_decoded():
    with pytest.raises(ConversionFailed, match="too many"):
        convert(saved(Image.new("1", (10_000, 9_000))), "jpeg", 80)


@settings(max_examples=100)
@given(
    content=st.sampled_from([image_file(), image_file("JPEG"), image_file("WEBP")]),
    place=st.integers(0, 400),
    new=st.binary(min_size=1, max_size=8),
)
def test_damaged_bytes_are_converted_or_refused(content, place, new):
    try:
        made = convert(content[:place] + new + content[place + len(new) :], "webp", 50)
    except ConversionFailed:
        return
    assert opened(made).format == "WEBP"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_type_of_what_was_accepted_is_told(kind):
    assert media_of(image_file(kind)) == kind.lower()
