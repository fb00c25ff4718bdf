"""A download trusts neither the URL nor the name nor the headers of what the upstream made."""

import asyncio
import hashlib
import struct
import sys
import warnings
import zlib
from itertools import pairwise, repeat
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.glm.drafts import Drafts
from gateway.adapters.glm.fetch import MOST_REDIRECTS, FetchRules, PictureDownloads, allowed_url
from gateway.adapters.glm.inspection import Damaged, inspect
from gateway.service.picture_ports import FetchFailed
from tests.builders import image_file

pytestmark = pytest.mark.anyio

SUFFIXES = ("ufileos.com", "bigmodel.cn", "z.ai")
RULES = FetchRules(host_suffixes=SUFFIXES, loopback_hosts=("127.0.0.1:9000", "localhost:9001", "[::1]:9002"))
PICTURE = image_file()
URL = "https://mfile.z.ai/1769056179-0123456789abcdef.png"


class Cdn(httpx.AsyncBaseTransport):
    """Answers with what it is given for a URL; remembers every request."""

    def __init__(self, answers):
        self.answers = answers
        self.requests = []

    async def handle_async_request(self, request):
        self.requests.append(request)
        answer = self.answers[str(request.url)]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Body(httpx.AsyncByteStream):
    """Gives these pieces, and hangs where one is None; counts what was taken."""

    def __init__(self, pieces):
        self.pieces = pieces
        self.taken = 0
        self.closed = False

    async def __aiter__(self):
        for piece in self.pieces:
            if piece is None:
                await asyncio.Event().wait()
            self.taken += len(piece)
            yield piece

    async def aclose(self):
        self.closed = True


def answer(status=200, content=PICTURE, **headers):
    headers = {name.replace("_", "-"): text for name, text in headers.items()}
    return httpx.Response(status, headers=headers, stream=Body([content]))


async def fetch(answered, rules=RULES):
    return await fetch_from(Cdn({URL: answered}), URL, rules)


KEPT = Drafts(None)


@pytest.fixture(params=["in a file", "in memory"], autouse=True)
def kept(request, tmp_path, monkeypatch):
    """Every download goes to a file, and where the disk refuses it into memory."""
    monkeypatch.setattr(sys.modules[__name__], "KEPT", Drafts(tmp_path if request.param == "in a file" else None))
    yield
    assert list(tmp_path.iterdir()) == []


async def fetch_from(cdn, url, rules=RULES):
    """The picture of a download, and its bytes."""
    async with PictureDownloads(cdn, rules, KEPT).fetch(url) as download:
        assert (download.path is None) == (KEPT._folder is None)
        return download.image, await download.content()


async def failure_of(answered, rules=RULES):
    with pytest.raises(FetchFailed) as failed:
        await fetch(answered, rules)
    return failed.value


ALLOWED = [
    *("https://z.ai/a.png", "https://mfile.z.ai/a.png?ufileattname=b.png", "https://MFILE.Z.AI/a.png"),
    *("https://maas-watermark-prod-new.cn-wlcb.ufileos.com/a.png?Signature=a%2Bb%3D", "https://mfile.z.ai:8443/a"),
    *("https://aigc-files.bigmodel.cn/api/cogview/1_0.png", "https://xn--9ca.z.ai/a.png"),
    *("http://127.0.0.1:9000/a.png", "https://127.0.0.1:9000/", "http://localhost:9001/a", "http://[::1]:9002/a"),
]
REFUSED = [
    *("http://mfile.z.ai/a.png", "ftp://mfile.z.ai/a.png", "file:///etc/passwd", "data:image/png;base64,aGk="),
    *("https://evil.example/a.png", "https://evilz.ai/a.png", "https://z.ai.evil.example/", "https://z.ai.:443/"),
    *("https://z.ai@evil.example/", "https://z.ai:443@evil.example/", "https://z.ai\\@evil.example/"),
    *("https://evil.example/.z.ai", "https://evil.example?.z.ai", "https://evil.example#.z.ai", "//z.ai/a.png"),
    *("https://127.0.0.1/", "https://10.0.0.1/", "https://169.254.169.254/", "https://[::1]/"),
    *("https://[fe80::1]/", "https://[::ffff:127.0.0.1]/", "https://2130706433/", "https://0x7f.1/"),
    *("https://localhost/a.png", "http://127.0.0.1:9001/", "http://127.0.0.1/", "http://localhost:9000/"),
    *("http://127.0.0.1:9000@evil.example/", "ftp://127.0.0.1:9000/", "https://127.0.0.2:9000/"),
    *("http://127.0.0.1:90000/", "", "https://", "https:/z.ai/", "https://[z.ai/", "https://z.ai\n/"),
    *("https://xn--a.z.ai/", "https://xn--zz99999999.z.ai/a.png"),
    pytest.param("https://z.ai/" + "x" * 70_000, id="a long one"),
]


@pytest.mark.parametrize("url", ALLOWED)
def test_allowed_urls(url):
    assert allowed_url(url, RULES) == httpx.URL(url)


@pytest.mark.parametrize("url", REFUSED)
async def test_any_other_url_is_not_even_asked(url):
    cdn = Cdn({})
    with pytest.raises(FetchFailed) as failed:
        await fetch_from(cdn, url)
    assert failed.value.final
    assert cdn.requests == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:80/", "http://127.0.0.1/", "https://127.0.0.1:443/"])
def test_the_port_of_an_upstream_on_this_machine_may_be_the_schemes_own(url):
    rules = FetchRules(host_suffixes=(), loopback_hosts=("127.0.0.1:80", "127.0.0.1:443"))
    assert allowed_url(url, rules).host == "127.0.0.1"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1"),  # noqa: S104 - refused, not bound
        *("[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[::ffff:127.0.0.1]", "[::ffff:169.254.169.254]"),
    ],
)
def test_a_private_address_is_refused_even_where_its_host_is_configured(address):
    rules = FetchRules(host_suffixes=(address.strip("[]"),))
    with pytest.raises(FetchFailed) as failed:
        allowed_url(f"https://{address}/a.png", rules)
    assert failed.value.final


hosts = ["z.ai", "mfile.z.ai", "evil.example", "127.0.0.1:9000", "[::1]", "xn--9ca.z.ai"]
urls = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["https://", "http://", "//", "https:\\\\", "HTTPS://"]),
    st.sampled_from(["", "z.ai@", "u:p@", "z.ai\\@", "z.ai#@", "z.ai%2f@"]),
    st.sampled_from(hosts) | st.text(max_size=12),
    st.sampled_from(["/a.png", "", "?.z.ai", "#.z.ai", ".z.ai/", "\\.z.ai/", ":443/", "%2e.z.ai"]),
)


@given(url=urls | st.text(max_size=40))
def test_what_is_allowed_leads_to_an_allowed_host(url):
    """Judged by another parser than the check's, that of the proxies; the connection is made with the check's."""
    try:
        allowed = allowed_url(url, RULES)
    except FetchFailed:
        return
    target = urlsplit(str(allowed))
    here = target.netloc.rpartition("@")[2] in RULES.loopback_hosts
    assert here or (
        target.scheme == "https" and any(f".{target.hostname}".endswith(f".{suffix}") for suffix in SUFFIXES)
    )
    assert target.hostname == allowed.raw_host.decode()


@pytest.mark.parametrize(("kind", "media"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp")])
@pytest.mark.parametrize("size", [(64, 48), (1, 1), (1280, 1280)])
@pytest.mark.parametrize("headers", [{"content_type": "image/png"}, {}, {"content_type": "text/html"}])
async def test_type_and_size_are_those_of_the_bytes(kind, media, size, headers):
    """JPEG bytes under a .png name with content-type image/png were seen, and no content-type at all (section 6)."""
    content = image_file(kind, size)
    image, given = await fetch(answer(200, content, **headers))
    assert (given, image.media, image.width, image.height) == (content, media, *size)
    assert (image.name, image.bytes) == (hashlib.sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_what_stands_behind_a_picture_does_not_damage_it(kind):
    content = image_file(kind) + b"a maker's own notes " * 50
    assert (await fetch(answer(200, content)))[1] == content


async def test_no_key_and_no_cookie_goes_to_the_cdn():
    cdn = Cdn({URL: answer()})
    await fetch_from(cdn, URL)
    assert not {"authorization", "cookie", "api-key"} & {name.lower() for name in cdn.requests[0].headers}
    assert cdn.requests[0].headers["accept-encoding"] == "identity"
    assert cdn.requests[0].method == "GET"


@pytest.mark.parametrize("status", [201, 204, 206, 302, 304, 400, 403, 404, 500, 503])
async def test_only_200_is_a_whole_picture_and_another_try_may_give_it(status):
    failed = await failure_of(answer(status))
    assert not failed.final
    assert str(status) in str(failed)


@pytest.mark.parametrize("kind", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError, TimeoutError])
async def test_trouble_on_the_way_may_pass(kind):
    assert not (await failure_of(kind("trouble"))).final


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", ["https://cdn.ufileos.com/b.png", "/b.png", "b.png", "//files.z.ai/b.png"])
async def test_redirects_to_allowed_hosts_are_followed(status, location):
    target = str(httpx.URL(URL).join(location))
    cdn = Cdn({URL: answer(status, location=location), target: answer()})
    assert (await fetch_from(cdn, URL))[1] == PICTURE
    assert [str(request.url) for request in cdn.requests] == [URL, target]


@pytest.mark.parametrize(
    "location",
    [
        *(
            "http://mfile.z.ai/b.png",
            "https://evil.example/b.png",
            "http://169.254.169.254/latest",
            "file:///etc/passwd",
        ),
        *("https://127.0.0.1/", "http://[::1]:6379/", "https://[bad/", "//[bad/", "https://xn--a.z.ai/", "https://"),
    ],
)
async def test_redirects_to_other_places_are_not(location):
    assert (await failure_of(answer(302, location=location))).final


async def test_redirects_are_bounded():
    urls = [f"https://z.ai/{number}" for number in range(MOST_REDIRECTS + 2)]

    def chain():
        return Cdn({here: answer(302, location=there) for here, there in pairwise(urls)} | {urls[-1]: answer()})

    assert (await fetch_from(chain(), urls[1]))[1] == PICTURE
    cdn = chain()
    with pytest.raises(FetchFailed, match="redirects") as failed:
        await fetch_from(cdn, urls[0])
    assert failed.value.final
    assert len(cdn.requests) == MOST_REDIRECTS + 1


@pytest.mark.parametrize("status", [200, 404])
async def test_no_more_is_read_than_a_picture_may_have(status):
    body = Body(repeat(b"x" * 1000))
    rules = FetchRules(host_suffixes=SUFFIXES, max_bytes=10_000)
    assert (await failure_of(httpx.Response(status, stream=body), rules)).final is (status == 200)
    assert body.taken <= 11_000
    assert body.closed


async def test_a_picture_may_be_as_large_as_it_may():
    assert await fetch(answer(), FetchRules(host_suffixes=SUFFIXES, max_bytes=len(PICTURE)))
    assert (await failure_of(answer(), FetchRules(host_suffixes=SUFFIXES, max_bytes=len(PICTURE) - 1))).final


async def test_a_download_ends_in_time():
    body = Body([PICTURE[:100], None])
    failed = await failure_of(httpx.Response(200, stream=body), FetchRules(host_suffixes=SUFFIXES, timeout=0.05))
    assert not failed.final
    assert body.closed


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


HEADER = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
JPEG, WEBP = image_file("JPEG", (640, 480)), image_file("WEBP", (640, 480))
DAMAGED = {
    "nothing": b"",
    "a page": b"<html><body>502 Bad Gateway</body></html>",
    "the CDN's 404": b'{"RetCode":-148654,"ErrMsg":"file not exist"}',
    "a GIF": image_file("GIF"),
    "half a PNG": PICTURE[: len(PICTURE) // 2],
    "a PNG without its end": PICTURE[:-12],
    "a PNG with a wrong byte": PICTURE[:100] + bytes([PICTURE[100] ^ 1]) + PICTURE[101:],
    "a PNG without pixels": png(HEADER, chunk(b"IEND")),
    "half a JPEG": JPEG[: len(JPEG) // 2],
    "a JPEG without its end": JPEG[:-2],
    "half a WebP": WEBP[: len(WEBP) // 2],
    "a WebP without its end": WEBP[:-2],
}


@pytest.mark.parametrize("what", DAMAGED)
async def test_a_damaged_picture_is_asked_for_again(what):
    assert not (await failure_of(answer(200, DAMAGED[what]))).final


@given(
    content=st.sampled_from([PICTURE, JPEG, WEBP, image_file("PNG", (1, 1))]),
    changes=st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=4)), max_size=4),
    length=st.none() | st.integers(0, 500),
)
def test_any_bytes_are_a_picture_or_a_failed_download(content, changes, length):
    changed = bytearray(content)
    for place, new in changes:
        changed[place : place + len(new)] = new
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large pictures, outside tests to the log
        try:
            media, size = inspect(bytes(changed[:length]))
        except Damaged:
            return
    assert media in {"png", "jpeg", "webp"}
    assert min(size) > 0
