"""The URLs of pictures with a real HTTP client, and the formats that they and base64 come in."""

import json
import re
from base64 import b64decode
from hashlib import sha256
from io import BytesIO

import httpx
import pytest
from openai import DefaultHttpxClient, OpenAI
from PIL import Image

SMALL = "512x512"
FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}


@pytest.fixture
def client(gateway):
    http_client = DefaultHttpxClient(trust_env=False)
    with OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, http_client=http_client) as client:
        yield client


@pytest.fixture
def anyone():
    """A client without a key."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def url(client):
    return url_of(client)


def url_of(client, **asked):
    [item] = client.images.generate(prompt="a fox", size=SMALL, response_format="url", **asked).data
    return item.url


def opened(content):
    image = Image.open(BytesIO(content))
    image.load()
    return image.format, f"{image.width}x{image.height}"


# The bytes and what is said of them


def test_a_url_gives_exactly_what_the_upstream_made(anyone, url, simulator):
    answer = anyone.get(url)
    assert answer.status_code == 200
    assert [sha256(answer.content).hexdigest()] == [picture["sha256"] for picture in simulator.images()]
    assert answer.headers["content-type"] == "image/png"
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert answer.headers["x-content-type-options"] == "nosniff"
    name = url.partition("?")[0].rpartition("/")[2]
    assert answer.headers["content-disposition"] == f'inline; filename="{name}"'
    life = re.fullmatch(r"private, max-age=(\d+), immutable", answer.headers["cache-control"])
    assert 86_000 < int(life[1]) <= 86_400


@pytest.mark.parametrize("key", ["the gateway's", "sk-glm-wrong", "Basic x"])
def test_an_authorization_header_is_not_looked_at(anyone, url, gateway, key):
    value = f"Bearer {gateway.key}" if key == "the gateway's" else key
    assert anyone.get(url, headers={"Authorization": value}).status_code == 200


def test_head_says_the_same_without_the_bytes(anyone, url):
    get, head = anyone.get(url), anyone.head(url)
    assert (head.status_code, head.content) == (200, b"")
    same = ("content-type", "content-length", "etag", "accept-ranges", "x-content-type-options", "content-disposition")
    assert [head.headers[name] for name in same] == [get.headers[name] for name in same]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '"a,b",W/{} , "c"', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_has_it_already_gets_304(anyone, url, form, method):
    tag = anyone.get(url).headers["etag"]
    answer = anyone.request(method, url, headers={"If-None-Match": form.format(tag)})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == tag
    assert answer.headers["cache-control"].startswith("private, max-age=")


@pytest.mark.parametrize("tags", ['"other"', "", "nonsense", '"'])
def test_who_has_something_else_gets_the_bytes(anyone, url, tags):
    assert anyone.get(url, headers={"If-None-Match": tags}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=10-99", slice(10, 100)),
        ("Bytes=10-99", slice(10, 100)),
        ("bytes=100-", slice(100, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=-99999999", slice(0, None)),
        ("bytes=5-99999999", slice(5, None)),
    ],
)
def test_a_part_is_given_and_named(anyone, url, asked, part):
    whole = anyone.get(url).content
    answer = anyone.get(url, headers={"Range": asked})
    start, end, _ = part.indices(len(whole))
    assert (answer.status_code, answer.content) == (206, whole[part])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(whole)}"
    assert int(answer.headers["content-length"]) == end - start


@pytest.mark.parametrize("asked", ["bytes=5-4", "bytes=0-1,5-6", "bytes=a-b", "pixels=0-1", "bytes=", "bytes=-", "0-1"])
def test_what_is_no_single_range_is_ignored(anyone, url, asked):
    answer = anyone.get(url, headers={"Range": asked})
    assert answer.status_code == 200
    assert "content-range" not in answer.headers


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=99999999-99999999", "bytes=-0"])
def test_a_range_outside_of_the_file_is_refused(anyone, url, asked):
    answer = anyone.get(url, headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(anyone.get(url).content)}"
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_a_range_of_something_else_is_not_given(anyone, url):
    tag = anyone.get(url).headers["etag"]
    parts = {tag: 206, '"other"': 200, "Mon, 23 Nov 2026 12:00:00 GMT": 200, f"W/{tag}": 200}
    for given, status in parts.items():
        answer = anyone.get(url, headers={"Range": "bytes=0-9", "If-Range": given})
        assert answer.status_code == status, given


# What a URL does not open


@pytest.mark.parametrize(
    ("find", "put"),
    [
        (r"signature=.", "signature="),
        (r"expires=(\d)", r"expires=\g<1>0"),
        (r"\?.*", ""),
        (r"&signature.*", ""),
        (r"\.png", ".jpg"),
        (r"\.png", "-90.jpg"),
        (r"files/[0-9a-f]{64}", "files/" + "0" * 64),
        (r"files/", "files/..%2f"),
        (r"files/.*\?", "files/..%2f..%2fsecret.key?"),
        (r"files/.*\?", "files/probe?"),
        (r"signature=.*", "signature=%C3%A9"),
    ],
)
def test_a_changed_url_is_403(anyone, url, find, put):
    changed = re.sub(find, put, url, count=1)
    assert changed != url
    answer = anyone.get(changed)
    if "%2f" not in changed:
        assert answer.status_code == 403
        assert answer.json()["error"] == answer.json()["error"] | {
            "type": "invalid_request_error",
            "code": "invalid_signature",
            "param": None,
        }
    else:
        assert answer.status_code in {403, 404}
    assert answer.headers["content-type"] == "application/json"


def test_the_url_of_one_picture_opens_no_other(anyone, client):
    first, second = url_of(client), url_of(client)
    stolen = second.partition("?")[0] + "?" + first.partition("?")[2]
    assert anyone.get(stolen).status_code == 403


def test_bytes_that_are_gone_are_404(anyone, url, gateway):
    name = url.partition("?")[0].rpartition("/")[2].removesuffix(".png")
    [path] = (gateway.data_dir / "store").rglob(name)
    path.unlink()
    answer = anyone.get(url)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "image_not_found"


def test_only_reading_is_allowed(anyone, url):
    for method in ("POST", "PUT", "DELETE"):
        assert anyone.request(method, url).status_code == 405


# Formats


@pytest.mark.parametrize("response_format", ["url", "b64_json"])
@pytest.mark.parametrize("asked", ["png", "jpeg", "webp"])
def test_a_format_is_honoured(anyone, client, asked, response_format):
    raw = client.images.with_raw_response.generate(
        prompt="a fox", size=SMALL, n=2, output_format=asked, response_format=response_format
    )
    answer = raw.parse()
    contents = [anyone.get(item.url).content if item.url else b64decode(item.b64_json) for item in answer.data]
    assert [opened(content) for content in contents] == [(FORMATS[asked], SMALL)] * 2
    assert (answer.output_format, answer.size) == (asked, SMALL)
    assert "x-glm-changed" not in raw.headers
    if response_format == "url":
        ending = {"png": ".png", "jpeg": "-100.jpg", "webp": "-100.webp"}[asked]
        assert all(item.url.partition("?")[0].endswith(ending) for item in answer.data)
        assert anyone.head(answer.data[0].url).headers["content-type"] == f"image/{asked}"


def test_a_lower_quality_is_smaller(anyone, client):
    lengths = [
        len(anyone.get(url_of(client, output_format="jpeg", output_compression=quality)).content)
        for quality in (0, 50, 100)
    ]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[2]


def test_a_stream_is_converted_too(client):
    with client.images.generate(
        prompt="a fox", size=SMALL, n=2, output_format="webp", output_compression=50, stream=True
    ) as stream:
        events = list(stream)
    assert [event.output_format for event in events] == ["webp"] * 2
    assert [opened(b64decode(event.b64_json)) for event in events] == [("WEBP", SMALL)] * 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"output_format": "gif"}, "output_format"),
        ({"output_format": "jpg"}, "output_format"),
        ({"output_format": 5}, "output_format"),
        ({"output_format": "jpeg", "output_compression": 101}, "output_compression"),
        ({"output_format": "jpeg", "output_compression": -1}, "output_compression"),
        ({"output_format": "jpeg", "output_compression": "80"}, "output_compression"),
    ],
)
def test_an_unknown_format_or_quality_is_refused_before_it_costs_anything(gateway, simulator, body, param):
    status, _, content = gateway.post({"prompt": "a fox", **body})
    assert (status, json.loads(content)["error"]["param"]) == (400, param)
    assert simulator.stats()["calls"] == 0
