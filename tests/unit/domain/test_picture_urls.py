"""A signature opens one file until one moment, and nothing else, with any of the installation's secrets."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.image import Rendition
from gateway.domain.picture_urls import PictureFile, is_signed, sign
from tests.builders import an_image

names = st.text("0123456789abcdef", min_size=64, max_size=64)
originals = st.builds(PictureFile, name=names, media=st.sampled_from(["png", "jpeg", "webp"]))
renditions = st.builds(PictureFile, name=names, media=st.sampled_from(["jpeg", "webp"]), quality=st.integers(0, 100))
files = originals | renditions
times = st.integers(0, 10**12)
secrets = st.binary(min_size=32, max_size=32)


@given(file=files)
def test_a_name_says_everything_and_is_read_back(file):
    assert PictureFile.parse(str(file)) == file
    assert re.fullmatch(r"[0-9a-f]{64}(-\d{1,3})?\.(png|jpg|webp)", str(file))


@given(first=files, second=files)
def test_no_two_files_have_one_name(first, second):
    assert (str(first) == str(second)) == (first == second)


@given(text=st.text() | st.from_regex(r"\A[0-9a-f]{63,65}(-[0-9]{1,4})?\.(png|jpg|webp|jpeg|gif)\Z"))
def test_what_is_read_is_written_the_same(text):
    """So no two names of one file exist, and none leads out of the store."""
    file = PictureFile.parse(text)
    assert file is None or str(file) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "..", "../" + "a" * 64 + ".png", "a" * 64, "a" * 64 + ".gif", "A" * 64 + ".png", "a" * 63 + ".png"),
        *("a" * 64 + "-101.jpg", "a" * 64 + "-07.jpg", "a" * 64 + "-7.png", "a" * 64 + "-.jpg", "a" * 64 + ".png\n"),
        *("a" * 64 + ".png/..", "a" * 64 + ".jpeg", "a" * 64 + "-\u0663.jpg"),
    ],
)
def test_other_names_are_none(text):
    assert PictureFile.parse(text) is None


@pytest.mark.parametrize(
    ("media", "rendition", "ending"),
    [
        ("png", None, ".png"),
        ("jpeg", None, ".jpg"),
        ("png", Rendition(media="jpeg"), "-100.jpg"),
        ("png", Rendition(media="webp", compression=0), "-0.webp"),
        ("jpeg", Rendition(media="jpeg"), ".jpg"),
        ("jpeg", Rendition(media="jpeg", compression=90), "-90.jpg"),
        ("webp", Rendition(media="jpeg"), "-100.jpg"),
    ],
)
def test_what_has_the_asked_form_is_given_as_it_was_made(media, rendition, ending):
    image = an_image(media=media)
    assert str(PictureFile.of(image, rendition)) == image.name + ending


@given(secret=secrets, others=st.lists(secrets, max_size=2), place=st.integers(0, 2), file=files, expires=times)
def test_what_one_of_the_secrets_signed_is_signed(secret, others, place, file, expires):
    signature = sign(secret, file, expires)
    assert re.fullmatch(r"[\w-]{43}", signature, re.ASCII)
    assert is_signed([*others[:place], secret, *others[place:]], file, expires, signature)
    assert not is_signed([other for other in others if other != secret], file, expires, signature)


@given(secret=secrets, first=st.tuples(files, times), second=st.tuples(files, times))
def test_a_signature_opens_nothing_else(secret, first, second):
    assert is_signed([secret], *second, sign(secret, *first)) == (first == second)


@given(secret=secrets, file=files, expires=times, text=st.text() | st.text("abcXYZ_-=", min_size=43, max_size=44))
def test_no_other_text_is_a_signature(secret, file, expires, text):
    assert is_signed([secret], file, expires, text) == (text == sign(secret, file, expires))
