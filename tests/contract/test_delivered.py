"""Every picture that the upstream made reaches the client, and nothing of the upstream's own does."""

import json
import re
from base64 import b64decode
from collections import Counter
from hashlib import sha256
from io import BytesIO

import httpx
import pytest
from openai import BadRequestError, DefaultHttpxClient, OpenAI
from PIL import Image

from tests import servers

SMALL = "512x512"  # quick to draw
KEY_PARTS = (servers.UPSTREAM_KEY, *servers.UPSTREAM_KEY.split("."))
PATH = "/v1/images/generations"
UPSTREAM_WORDS = "the upstream's own words"
WORDS_OF_FAULTS = [
    {"kind": "error", "code": "1214", "message": UPSTREAM_WORDS},
    {"kind": "error", "code": "1113", "message": UPSTREAM_WORDS},
    {"kind": "error", "code": "401", "message": UPSTREAM_WORDS},
    {"kind": "error", "code": "9999", "status": 418, "message": UPSTREAM_WORDS},
    {"kind": "error_in_200", "code": "1301", "message": UPSTREAM_WORDS},
    {"kind": "failure_in_200", "message": UPSTREAM_WORDS},
    {"kind": "network_error", "message": UPSTREAM_WORDS},
    {"kind": "moderation"},
    {"kind": "no_balance"},
    {"kind": "wrong_model"},
    {"kind": "bad_size"},
    {"kind": "html_502"},
    {"kind": "cut"},
    {"kind": "truncated_json"},
    {"kind": "redirect", "location": "http://127.0.0.1:9/"},
]


@pytest.fixture
def client(gateway):
    http_client = DefaultHttpxClient(trust_env=False)
    with OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, http_client=http_client) as client:
        yield client


@pytest.fixture
def anyone(gateway):
    """A client without a key."""
    with httpx.Client(base_url=gateway.url, trust_env=False) as client:
        yield client


def digest(content):
    return sha256(content).hexdigest()


def contents(items):
    return [b64decode(item.b64_json, validate=True) for item in items]


def made(simulator):
    """Prompt and digest of every picture that the simulator made, each as often as it was made."""
    return Counter((picture["prompt"], picture["sha256"]) for picture in simulator.images())


def delivered(prompt, items):
    return Counter((prompt, digest(content)) for content in contents(items))


def behind(prompt, urls):
    """What a stranger gets from URLs."""
    return Counter((prompt, digest(servers.http("GET", url)[2])) for url in urls)


def generate(client, prompt, **asked):
    return client.images.generate(prompt=prompt, size=SMALL, **asked).data


def stream(client, prompt, n):
    with client.images.generate(prompt=prompt, size=SMALL, n=n, stream=True) as events:
        return list(events)


# Everything that was made


def test_every_picture_made_was_delivered(client, simulator):
    simulator.fault("moderation", prompt_contains="forbidden")
    given = delivered("three", generate(client, "three", n=3))
    with pytest.raises(BadRequestError):
        generate(client, "forbidden", n=2)
    given += delivered("streamed", stream(client, "streamed", n=2))
    [linked] = generate(client, "linked", model="dall-e-3")
    given[("linked", digest(servers.http("GET", linked.url)[2]))] += 1
    assert given == made(simulator)
    assert given.total() == simulator.stats()["images"] == 6


def test_ten_pictures_of_one_request_are_all_delivered(client, simulator):
    assert delivered("ten", generate(client, "ten", n=10)) == made(simulator)
    assert simulator.stats()["calls"] == 10


@pytest.mark.parametrize(
    ("fault", "fetches"),
    [
        ({"kind": "not_found_then_ok"}, 2),
        ({"kind": "cdn_cut", "times": 1}, 2),
        ({"kind": "expired_signature", "times": 1}, 2),
        ({"kind": "not_an_image", "times": 1}, 2),
        ({"kind": "not_an_image", "content_type": "image/png", "times": 1}, 2),
        ({"kind": "redirect"}, 2),
        ({"kind": "no_content_type"}, 1),
        ({"kind": "slow_cdn", "seconds": 0.5}, 1),
    ],
    ids=str,
)
def test_a_picture_is_delivered_whole_when_its_host_misbehaves(client, simulator, fault, fetches):
    simulator.fault(**fault)
    assert delivered("a fox", generate(client, "a fox")) == made(simulator)
    [picture] = simulator.images()
    assert picture["fetches"] == fetches
    assert simulator.stats()["calls"] == 1


@pytest.mark.parametrize("streamed", [False, True], ids=["at once", "streamed"])
def test_a_jpeg_that_calls_itself_png_is_named_jpeg_and_given_as_it_is(client, simulator, streamed):
    simulator.fault("jpeg_as_png")
    if streamed:
        [item] = [about] = stream(client, "a fox", n=1)
    else:
        about = client.images.generate(prompt="a fox", size=SMALL)
        [item] = about.data
    [content] = contents([item])
    [picture] = simulator.images()
    with Image.open(BytesIO(content)) as image:
        assert (image.format, f"{image.width}x{image.height}") == ("JPEG", SMALL)
    assert about.output_format == "jpeg"
    assert about.size == SMALL
    assert digest(content) == digest(servers.http("GET", picture["url"])[2])


@pytest.mark.parametrize(
    "fault", [{"kind": "moderation"}, {"kind": "no_balance"}, {"kind": "cut", "after": False}], ids=str
)
def test_the_others_are_given_when_one_of_three_fails(client, simulator, fault):
    simulator.fault(**fault, times=1)
    raw = client.images.with_raw_response.generate(prompt="three", size=SMALL, n=3)
    assert raw.headers["x-glm-changed"] == "n=3->2"
    assert delivered("three", raw.parse().data) == made(simulator)
    assert simulator.stats() == simulator.stats() | {"calls": 3, "images": 2}


def test_the_others_are_streamed_when_one_of_three_fails(gateway, simulator):
    simulator.fault("moderation", times=1)
    _, _, text = gateway.post({"prompt": "three", "size": SMALL, "n": 3, "stream": True})
    *events, failed = text.removesuffix(b"\n\n").split(b"\n\n")
    assert failed.startswith(b": a picture failed: ")
    inline = [json.loads(event.partition(b"\ndata: ")[2])["b64_json"] for event in events]
    assert Counter(("three", digest(b64decode(picture))) for picture in inline) == made(simulator)
    assert simulator.stats()["images"] == 2


def test_a_lost_picture_is_named_beside_the_other_changes(client, simulator):
    simulator.fault("moderation", times=2)
    asked = {"prompt": "three", "size": "256x256", "n": 3, "style": "vivid", "response_format": "url"}
    raw = client.images.with_raw_response.generate(**asked)
    assert raw.headers["x-glm-changed"] == "n=3->1,size=256x256->512x512,style"
    assert behind("three", [item.url for item in raw.parse().data]) == made(simulator)


def test_urls_are_ours_and_open_what_was_made_without_a_key(client, gateway, simulator):
    urls = [item.url for item in generate(client, "three", n=3, response_format="url")]
    assert behind("three", urls) == made(simulator)
    assert all(re.fullmatch(rf"{gateway.url}/v1/images/files/[0-9a-f]{{64}}\.png\?[\w=&-]+", url) for url in urls)


# Nothing for strangers


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer sk-glm-wrong"},
        {"Authorization": f"Bearer {servers.UPSTREAM_KEY}"},
        {"Authorization": "Basic Zm94OmZveA=="},
        {"Authorization": "Bearer \u00ff"},
        {"api-key": "wrong"},
    ],
    ids=["no key", "a wrong key", "the upstream's key", "another scheme", "no text", "another header"],
)
@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt":"a fox"}',
        b'{"prompt":"a fox","stream":true,"n":10}',
        b'{"prompt":""}',
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        b" " * 5_000_000,
        b"prompt=a+fox",
    ],
    ids=["good", "stream", "empty prompt", "empty", "cut", "no text", "deep", "huge", "form"],
)
def test_a_stranger_s_request_costs_no_upstream_call(anyone, simulator, headers, body):
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    for path in (PATH, "/images/generations", "/v1/images/edits", "/v1/images/variations"):
        answer = anyone.post(path, content=body, headers={"Content-Type": "application/json", **sent})
        error = answer.json()["error"]
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["param"]) == ("invalid_request_error", None)
    assert simulator.stats() == {"calls": 0, "images": 0, "in_flight": 0, "max_in_flight": 0}


# Nothing of the upstream's own


def everything(answer):
    """An answer as one text: status, headers and body."""
    status, headers, content = answer
    return f"{status}\n{headers}\n{content.decode('latin-1')}"


@pytest.fixture(scope="module")
def said(shared_simulator, shared_gateway):
    """Answers by what was asked and went wrong: all headers and bodies that the gateway gave, prompts marked."""
    shared_simulator.reset()
    answers = {
        form: shared_gateway.post({"prompt": "SECRET-PROMPT", "size": SMALL, "n": 2, **asked})
        for form, asked in {"b64_json": {}, "url": {"response_format": "url"}, "stream": {"stream": True}}.items()
    }
    for fault in WORDS_OF_FAULTS:
        name = json.dumps(fault)
        shared_simulator.fault(**fault, prompt_contains=name)
        shared_gateway.unpark()
        answers[name] = shared_gateway.post({"prompt": f"SECRET-PROMPT {name}", "size": SMALL})
    calls = shared_simulator.calls()
    images = shared_simulator.images()
    return {name: (answer[0], everything(answer)) for name, answer in answers.items()}, calls, images


def test_the_upstream_s_words_and_cookies_stay_inside(said):
    answers, _, _ = said
    for name, (status, text) in answers.items():
        assert status == 200 if name in {"b64_json", "url", "stream"} else status >= 400, name
        assert "set-cookie" not in text.lower(), name
        assert "acw_tc" not in text, name
        assert UPSTREAM_WORDS not in text, name
        assert text.isascii(), name
        assert "<html" not in text, name


def test_an_error_code_is_never_one_of_the_upstream_s(said):
    for name, (_, text) in said[0].items():
        assert not re.search(r'"code":"?\d', text), name


def test_the_upstream_s_key_is_shown_to_the_upstream_alone(said, gateway):
    answers, calls, images = said
    for name, (_, text) in answers.items():
        assert not [part for part in KEY_PARTS if part in text], name
    for path in ("/metrics", "/healthz", "/readyz", "/v1/models", "/schema/openapi.json", "/v1/nothing"):
        assert not [part for part in KEY_PARTS if part in everything(gateway.get(path))], path
    assert {call["headers"]["authorization"] for call in calls} == {KEY_PARTS[1]}
    assert len(images) >= 6
    assert {picture["authorized_fetches"] for picture in images} == {0}
    assert sum(picture["fetches"] for picture in images) >= 6


def test_the_upstream_s_cookies_are_not_sent_back(said):
    assert not [call for call in said[1] if "cookie" in call["headers"]]


def test_a_client_s_key_and_headers_do_not_go_upstream(gateway, simulator):
    headers = {"X_Secret": "HEADER-OF-THE-CLIENT", "Cookie": "session=HEADER-OF-THE-CLIENT", "OpenAI_Project": "p"}
    assert gateway.post({"prompt": "a fox", "size": SMALL}, **headers)[0] == 200
    [call] = simulator.calls()
    assert gateway.key not in json.dumps(call)
    assert "HEADER-OF-THE-CLIENT" not in json.dumps(call)
    assert not [name for name in call["headers"] if name.startswith(("x-", "openai", "cookie"))]


def test_the_log_has_no_keys_prompts_or_pictures(said, gateway):
    log = gateway.process.output()
    assert log.count("upstream_call_failed") >= len(WORDS_OF_FAULTS) - 1  # the log is on
    assert not [part for part in KEY_PARTS if part in log]
    assert gateway.key not in log
    assert "SECRET-PROMPT" not in log
    assert "iVBORw0KGgo" not in log
    assert "signature=" not in log.lower()
