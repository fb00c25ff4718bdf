"""The stock `openai` SDK for Python against a running gateway: what its users send, get and catch."""

import asyncio
import json
import re
import time
from base64 import b64decode
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from io import BytesIO

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from PIL import Image

from tests import servers

PROMPTS = json.loads((servers.ROOT / "tests" / "contract" / "prompts.json").read_text("utf-8"))
UPSTREAM_FIELDS = {"model", "prompt", "size", "quality", "watermark_enabled", "user_id"}
ERROR_KEYS = {"message", "type", "param", "code"}
INVALID = "invalid_request_error"
CLASSES = {400: openai.BadRequestError, 404: openai.NotFoundError, 429: openai.RateLimitError}
SMALL = "512x512"  # quick to draw


def sdk(gateway, **options):
    """A client without retries; proxies of the environment are not for loopback."""
    options = {"base_url": gateway.base_url, "api_key": gateway.key, "max_retries": 0} | options
    return OpenAI(http_client=openai.DefaultHttpxClient(trust_env=False), **options)


def async_sdk(gateway):
    http_client = openai.DefaultAsyncHttpxClient(trust_env=False)
    return AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0, http_client=http_client)


@pytest.fixture
def client(gateway):
    with sdk(gateway) as client:
        yield client


def digest(content):
    return sha256(content).hexdigest()


def decoded(item):
    return b64decode(item.b64_json, validate=True)


def attempt(ask):
    try:
        return ask()
    except openai.APIError as failure:
        return failure


def format_and_size(content):
    with Image.open(BytesIO(content)) as image:
        image.load()
        return image.format, f"{image.width}x{image.height}"


def made(simulator):
    """The pictures of the simulator by the digest of their bytes."""
    return {picture["sha256"]: picture for picture in simulator.images()}


def sent(simulator):
    """The bodies of the calls that came to the simulator."""
    return [call["body"] for call in simulator.calls()]


def same_key_with_a_typo(key):
    return key[:-1] + ("A" if key[-1] != "A" else "B")


def create_key(env):
    made = servers.glm_gateway("keys", "create", "--name", "contract", env=env)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


# Pictures


@pytest.mark.parametrize("size", ["1024x1024", "1536x1024", "1024x1536", "1792x1024"])
def test_b64_json_is_the_very_picture_that_was_made(client, simulator, size):
    before = int(time.time())
    answer = client.images.generate(prompt="a red fox", size=size, response_format="b64_json")
    [item] = answer.data
    [picture] = simulator.images()
    assert item.url is None
    assert digest(decoded(item)) == picture["sha256"]
    assert format_and_size(decoded(item)) == ("PNG", size)
    assert (answer.size, answer.quality, answer.background, answer.output_format) == (size, "high", "opaque", "png")
    assert before <= answer.created <= time.time()
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.usage.input_tokens_details.text_tokens == 0
    assert answer.usage.output_tokens_details.image_tokens == 0


def test_url_is_ours_and_gives_the_same_bytes(client, gateway, simulator):
    [item] = client.images.generate(prompt="a red fox", size=SMALL, response_format="url").data
    [picture] = simulator.images()
    status, _, content = servers.http("GET", item.url)
    assert item.b64_json is None
    assert item.url.startswith(f"{gateway.base_url}/images/files/")
    assert status == 200
    assert digest(content) == picture["sha256"]


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        ({"model": "dall-e-3"}, "url"),
        ({"model": "dall-e-2"}, "url"),
        ({"model": "gpt-image-1"}, "b64_json"),
        ({"model": "gpt-image-2.6-flare"}, "b64_json"),
        ({"model": "chatgpt-image-latest"}, "b64_json"),
        ({"model": "glm-image"}, "b64_json"),
        ({"model": None}, "b64_json"),
        ({}, "b64_json"),
        ({"model": "dall-e-3", "response_format": "b64_json"}, "b64_json"),
        ({"model": "gpt-image-1", "response_format": "url"}, "url"),
        ({"model": "dall-e-3", "response_format": None}, "url"),
    ],
    ids=str,
)
def test_each_model_name_gets_the_format_that_its_clients_expect(client, simulator, asked, key):
    raw = client.images.with_raw_response.generate(prompt="a red fox", size=SMALL, **asked)
    [item] = raw.http_response.json()["data"]
    assert set(item) == {key}
    assert sent(simulator)[0]["model"] == "glm-image"


def test_n_pictures_are_n_different_ones_in_one_answer(client, simulator):
    answer = client.images.generate(prompt="three foxes", n=3, size=SMALL)
    assert len({digest(decoded(item)) for item in answer.data}) == 3
    assert {digest(decoded(item)) for item in answer.data} == set(made(simulator))
    assert simulator.stats()["calls"] == 3


def test_a_stream_completes_once_for_each_picture(client, simulator):
    with client.images.generate(prompt="two foxes", n=2, size=SMALL, stream=True) as stream:
        events = list(stream)
    assert [event.type for event in events] == ["image_generation.completed"] * 2
    assert {digest(decoded(event)) for event in events} == set(made(simulator))
    for event in events:
        assert format_and_size(decoded(event)) == ("PNG", SMALL)
        assert (event.size, event.quality, event.background, event.output_format) == (SMALL, "high", "opaque", "png")
        assert abs(event.created_at - time.time()) < 60
        assert event.usage.total_tokens == 0
        assert event.usage.input_tokens_details.image_tokens == 0


def test_a_stream_is_framed_as_every_sdk_can_read_it(client, simulator):
    asked = {"prompt": "two foxes", "size": SMALL, "n": 2, "stream": True}
    with client.images.with_streaming_response.generate(**asked) as response:
        *blocks, end = response.read().decode().split("\n\n")
    assert response.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert end == "", "a last event without its blank line is lost"
    for block in blocks:
        name, data = block.split("\n")
        assert name == "event: image_generation.completed"
        assert json.loads(data.removeprefix("data: "))["type"] == "image_generation.completed"
    assert len(blocks) == 2


def test_a_stream_carries_b64_json_even_if_url_was_asked(client, simulator):
    with client.images.generate(prompt="a fox", model="dall-e-3", response_format="url", stream=True) as stream:
        [event] = stream
    assert digest(decoded(event)) in made(simulator)


def test_a_stream_that_cannot_begin_is_a_plain_error(client, simulator):
    simulator.fault("moderation")
    with pytest.raises(openai.BadRequestError) as failed:
        client.images.generate(prompt="a fox", stream=True)
    assert failed.value.code == "content_policy_violation"


@pytest.mark.anyio
async def test_the_async_client_gets_b64_url_stream_models_and_errors(gateway, simulator):
    async with async_sdk(gateway) as client:
        [inline] = (await client.images.generate(prompt="one", size=SMALL)).data
        [linked] = (await client.images.generate(prompt="two", size=SMALL, response_format="url")).data
        async with await client.images.generate(prompt="three", size=SMALL, n=2, stream=True) as stream:
            events = [event async for event in stream]
        ids = [model.id async for model in client.models.list()]
        with pytest.raises(openai.BadRequestError) as failed:
            await client.images.generate(prompt="four", n=11)
    pictures = made(simulator)
    assert pictures[digest(decoded(inline))]["prompt"] == "one"
    assert pictures[digest(servers.http("GET", linked.url)[2])]["prompt"] == "two"
    assert [pictures[digest(decoded(event))]["prompt"] for event in events] == ["three", "three"]
    assert "glm-image" in ids
    assert (failed.value.code, failed.value.param) == ("integer_above_max_value", "n")


@pytest.mark.anyio
async def test_parallel_requests_each_get_their_own_picture(gateway, simulator):
    prompts = [f"fox number {number}" for number in range(8)]
    async with async_sdk(gateway) as client:
        answers = await asyncio.gather(*(client.images.generate(prompt=prompt, size=SMALL) for prompt in prompts))
    pictures = made(simulator)
    assert [pictures[digest(decoded(answer.data[0]))]["prompt"] for answer in answers] == prompts


# What goes upstream


@pytest.mark.parametrize("name", PROMPTS)
def test_a_documented_prompt_arrives_character_for_character(client, simulator, name):
    [item] = client.images.generate(prompt=PROMPTS[name]).data
    assert sent(simulator)[0]["prompt"] == PROMPTS[name]
    assert made(simulator)[digest(decoded(item))]["prompt"] == PROMPTS[name]


def test_a_prompt_of_1000_code_points_passes_whatever_its_bytes(client, simulator):
    prompt = "\N{CAT FACE}" * 999 + "\n"
    client.images.generate(prompt=prompt, size=SMALL)
    assert sent(simulator)[0]["prompt"] == prompt


def test_only_documented_fields_go_upstream(client, simulator):
    client.images.generate(
        prompt="a fox",
        model="gpt-image-1",
        n=1,
        size="1024x1024",
        quality="low",
        background="opaque",
        moderation="low",
        output_format="webp",
        output_compression=50,
        response_format="b64_json",
        style="vivid",
        user="alice",
        extra_body={"seed": 7, "negative_prompt": "dogs", "watermark_enabled": True},
    )
    [body] = sent(simulator)
    assert set(body) <= UPSTREAM_FIELDS
    assert (body["model"], body["prompt"], body["size"], body["quality"]) == ("glm-image", "a fox", "1024x1024", "hd")
    assert body.get("watermark_enabled", True) is True


def test_an_end_user_reaches_the_upstream_as_a_hash_only(client, simulator):
    for user in ("alice", "alice", "bob"):
        client.images.generate(prompt="a fox", size=SMALL, user=user)
    first, second, other = [body["user_id"] for body in sent(simulator)]
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first == second != other
    assert "alice" not in json.dumps(simulator.calls())


def test_a_safety_identifier_is_hashed_upstream_and_echoed_to_the_client(client, simulator):
    answer = client.images.generate(prompt="a fox", size=SMALL, safety_identifier="carol")
    assert answer.safety_identifier == "carol"
    assert re.fullmatch("[0-9a-f]{32}", sent(simulator)[0]["user_id"])
    assert "carol" not in json.dumps(simulator.calls())


def test_a_model_of_two_qualities_is_asked_for_and_answers_the_mapped_one(client, simulator):
    raw = client.images.with_raw_response.generate(prompt="a fox", model="cogview-4-250304", size=SMALL, quality="low")
    assert sent(simulator)[0]["quality"] == "standard"
    assert raw.parse().quality == "medium"
    assert raw.headers["x-glm-changed"] == "quality=low->standard"


# Headers


@pytest.mark.parametrize(
    ("asked", "made_size", "changed"),
    [
        (
            {"size": "1920x1080", "quality": "low", "style": "vivid"},
            "1920x1088",
            "quality=low->hd,size=1920x1080->1920x1088,style",
        ),
        ({"size": "256x256"}, SMALL, "size=256x256->512x512"),
        ({"size": "256x256", "quality": "auto", "background": "auto"}, SMALL, "size=256x256->512x512"),
        ({"size": "1792x1024"}, "1792x1024", None),
        ({"size": "1024\u00d71024"}, "1024x1024", None),
        ({"size": "auto", "quality": "hd"}, "1280x1280", None),
        ({"quality": None, "size": None, "style": None}, "1280x1280", None),
        ({"size": SMALL, "quality": "high"}, SMALL, "quality=high->hd"),
        ({"size": SMALL, "output_format": "png", "user": "alice", "background": "opaque"}, SMALL, None),
        ({"size": SMALL, "output_format": "webp", "moderation": "low"}, SMALL, "moderation"),
        ({"size": SMALL, "output_format": "jpeg", "output_compression": 7}, SMALL, None),
        ({"size": SMALL, "output_compression": 7}, SMALL, "output_compression"),
        ({"size": SMALL, "extra_body": {"seed": 7, "negative_prompt": "x"}}, SMALL, "negative_prompt,seed"),
    ],
    ids=str,
)
def test_headers_say_what_was_made_and_what_was_changed(client, simulator, asked, made_size, changed):
    raw = client.images.with_raw_response.generate(prompt="a fox", **asked)
    assert raw.headers["x-glm-size"] == made_size
    assert raw.headers.get("x-glm-changed") == changed
    kind = asked.get("output_format", "png").upper()
    assert format_and_size(decoded(raw.parse().data[0])) == (kind, made_size)
    assert raw.parse().size == made_size
    assert sent(simulator)[0]["size"] == made_size


def test_a_stream_says_what_was_changed_as_well(client, simulator):
    asked = {"prompt": "a fox", "size": "256x256", "style": "vivid", "stream": True}
    with client.images.with_streaming_response.generate(**asked) as response:
        response.read()
        assert response.headers["x-glm-size"] == SMALL
        assert response.headers["x-glm-changed"] == "size=256x256->512x512,style"


def test_x_glm_changed_names_at_most_20_in_harmless_characters(client, simulator):
    odd = {f"p {number}, => \n{chr(0x4E00 + number)}": number for number in range(25)}
    raw = client.images.with_raw_response.generate(prompt="a fox", size=SMALL, extra_body=odd)
    words = raw.headers["x-glm-changed"].split(",")
    assert len(words) == 20
    assert words == sorted(words)
    assert all(re.fullmatch(r"[A-Za-z0-9_.x-]+", word) for word in words)


def test_every_answer_has_a_request_id_and_its_time(client, simulator):
    raws = [client.images.with_raw_response.generate(prompt="a fox", size=SMALL) for _ in range(2)]
    for raw in raws:
        assert re.fullmatch(r"req_[0-9a-z]+", raw.headers["x-request-id"])
        assert raw.request_id == raw.headers["x-request-id"] == raw.parse()._request_id
        assert raw.headers["openai-processing-ms"].isdigit()
        assert raw.headers["content-type"] == "application/json"
        assert int(raw.headers["content-length"]) == len(raw.content)
    assert raws[0].request_id != raws[1].request_id


def test_an_error_knows_its_request_id(client, simulator):
    with pytest.raises(openai.BadRequestError) as failed:
        client.images.generate(prompt="a fox", n=0)
    assert re.fullmatch(r"req_[0-9a-z]+", failed.value.request_id)
    assert failed.value.request_id == failed.value.response.headers["x-request-id"]
    assert failed.value.response.headers["openai-processing-ms"].isdigit()


# Keys


@pytest.mark.parametrize("kind", ["mistyped", "of another installation", "the upstream's", "of no form at all"])
def test_a_wrong_key_is_an_authentication_error_and_costs_nothing(gateway, simulator, tmp_path, kind):
    key = {
        "mistyped": lambda: same_key_with_a_typo(gateway.key),
        "of another installation": lambda: create_key(gateway.env | {"GLM_GATEWAY_DATA_DIR": str(tmp_path)}),
        "the upstream's": lambda: servers.UPSTREAM_KEY,
        "of no form at all": lambda: "fake_key",
    }[kind]()
    with sdk(gateway, api_key=key) as client, pytest.raises(openai.AuthenticationError) as failed:
        client.images.generate(prompt="a fox")
    error = failed.value
    assert (error.status_code, error.type, error.code, error.param) == (401, INVALID, "invalid_api_key", None)
    assert error.response.headers["www-authenticate"].startswith("Bearer ")
    assert key not in error.message
    assert simulator.stats()["calls"] == 0


def test_a_missing_key_is_an_authentication_error_and_costs_nothing(client, simulator):
    with pytest.raises(openai.AuthenticationError) as failed:
        client.images.generate(prompt="a fox", extra_headers={"Authorization": openai.omit})
    error = failed.value
    assert (error.status_code, error.type, error.code, error.param) == (401, INVALID, None, None)
    assert error.response.headers["www-authenticate"].startswith("Bearer ")
    assert simulator.stats()["calls"] == 0


def test_a_revoked_key_stops_within_a_second(gateway, simulator):
    key = create_key(gateway.env)
    shown = servers.glm_gateway("keys", "list", env=gateway.env).stdout
    [key_id] = [row.split()[0] for row in shown.splitlines() if f"{key[-4:]} " in row]
    with sdk(gateway, api_key=key) as client, ThreadPoolExecutor(1) as pool:
        assert client.images.generate(prompt="a fox", size=SMALL).data
        revoking = pool.submit(servers.glm_gateway, "keys", "revoke", key_id, env=gateway.env)
        while not revoking.done():
            attempt(client.models.list)  # the key stays in the gateway's memory until the very last moment
        assert revoking.result().returncode == 0
        time.sleep(1.0)
        with pytest.raises(openai.AuthenticationError) as failed:
            client.images.generate(prompt="a fox", size=SMALL)
    assert failed.value.code == "invalid_api_key"
    assert simulator.stats()["calls"] == 1


@pytest.mark.parametrize("header", ["api-key", "x-api-key"])
def test_a_key_may_come_in_the_headers_of_other_vendors(client, gateway, header):
    headers = {"Authorization": openai.omit, header: gateway.key}
    assert client.models.list(extra_headers=headers).data


# Requests that are refused


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ({"prompt": ""}, "empty_string", "prompt"),
        ({"prompt": " \n"}, "empty_string", "prompt"),
        ({"prompt": None}, "missing_required_parameter", "prompt"),
        ({"prompt": "\N{CAT FACE}" * 1001}, "string_above_max_length", "prompt"),
        ({"prompt": 5}, "invalid_type", "prompt"),
        ({"prompt": ["a fox"]}, "invalid_type", "prompt"),
        ({"n": 0}, "integer_below_min_value", "n"),
        ({"n": -1}, "integer_below_min_value", "n"),
        ({"n": 11}, "integer_above_max_value", "n"),
        ({"n": 2**70}, "integer_above_max_value", "n"),
        ({"n": "3"}, "invalid_type", "n"),
        ({"n": 1.5}, "invalid_type", "n"),
        ({"n": True}, "invalid_type", "n"),
        ({"size": "huge"}, "invalid_value", "size"),
        ({"size": "1024"}, "invalid_value", "size"),
        ({"size": "1024x"}, "invalid_value", "size"),
        ({"size": "0x1024"}, "invalid_value", "size"),
        ({"size": "-512x512"}, "invalid_value", "size"),
        ({"size": ""}, "invalid_value", "size"),
        ({"size": 1024}, "invalid_type", "size"),
        ({"quality": "ultra"}, "invalid_value", "quality"),
        ({"quality": "HD"}, "invalid_value", "quality"),
        ({"quality": 1}, "invalid_type", "quality"),
        ({"response_format": "png"}, "invalid_value", "response_format"),
        ({"background": "transparent"}, "invalid_value", "background"),
        ({"background": "green"}, "invalid_value", "background"),
        ({"model": 3}, "invalid_type", "model"),
        ({"user": 7}, "invalid_type", "user"),
        ({"extra_body": {"stream": "true"}}, "invalid_type", "stream"),
        ({"extra_body": {"watermark_enabled": False}}, "invalid_value", "watermark_enabled"),
        ({"extra_body": {"watermark_enabled": "no"}}, "invalid_type", "watermark_enabled"),
    ],
    ids=lambda value: str(value)[:40].encode("ascii", "replace").decode(),
)
def test_a_bad_request_names_its_parameter_and_costs_nothing(client, simulator, asked, code, param):
    with pytest.raises(openai.BadRequestError) as failed:
        client.images.generate(**{"prompt": "a fox"} | asked)
    error = failed.value
    assert (error.type, error.code, error.param) == (INVALID, code, param)
    assert set(error.body) == ERROR_KEYS
    assert param in error.message or str(asked[param]) in error.message
    assert simulator.stats()["calls"] == 0


def test_a_long_prompt_is_told_both_lengths(client):
    with pytest.raises(openai.BadRequestError, match=r"maximum length 1000\b.*\b1001 instead"):
        client.images.generate(prompt="x" * 1001)


def test_an_unknown_model_is_not_found_and_costs_nothing(client, simulator):
    with pytest.raises(openai.NotFoundError, match="stable-diffusion") as failed:
        client.images.generate(prompt="a fox", model="stable-diffusion")
    assert (failed.value.type, failed.value.code) == (INVALID, "model_not_found")
    assert simulator.stats()["calls"] == 0


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ({"size": "1920x1080"}, "invalid_value", "size"),
        ({"style": "vivid"}, "unsupported_parameter", "style"),
        ({"output_compression": 7}, "unsupported_parameter", "output_compression"),
        ({"extra_body": {"seed": 7}}, "unknown_parameter", "seed"),
    ],
    ids=str,
)
def test_strict_handling_refuses_what_would_be_ignored_or_changed(client, simulator, asked, code, param):
    with pytest.raises(openai.BadRequestError) as failed:
        client.images.generate(prompt="a fox", extra_headers={"Prefer": "handling=strict"}, **asked)
    assert (failed.value.type, failed.value.code, failed.value.param) == (INVALID, code, param)
    assert simulator.stats()["calls"] == 0


def test_strict_handling_lets_pass_what_can_be_honoured(client, simulator):
    asked = {"prompt": "a fox", "size": SMALL, "quality": "hd", "background": "opaque", "output_format": "png"}
    raw = client.images.with_raw_response.generate(extra_headers={"Prefer": "handling=strict"}, **asked)
    assert "x-glm-changed" not in raw.headers


def test_edits_are_an_unsupported_endpoint_whatever_their_size(client, simulator):
    with pytest.raises(openai.BadRequestError) as failed:
        client.images.edit(image=bytes(3_000_000), prompt="a hat on it")
    assert (failed.value.type, failed.value.code) == (INVALID, "unsupported_endpoint")
    assert simulator.stats()["calls"] == 0


def test_variations_are_gone(client, simulator):
    with pytest.deprecated_call(), pytest.raises(openai.APIStatusError) as failed:
        client.images.create_variation(image=b"picture")
    assert failed.value.status_code == 410
    assert set(failed.value.body) == ERROR_KEYS
    assert simulator.stats()["calls"] == 0


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/foo", {}, 404, r"Invalid URL \(POST /v1/foo\)"),
        ("/models", {}, 405, r"Not allowed to POST on /v1/models\."),
        ("/images/generations", [], 400, "JSON object"),
        ("/images/generations", {"prompt": "x" * 2**20}, 413, "too large"),
    ],
)
def test_what_reaches_no_parameter_is_openai_s_error_object_too(client, path, body, status, message):
    with pytest.raises(openai.APIStatusError, match=message) as failed:
        client.post(path, body=body, cast_to=object)
    error = failed.value
    assert (error.status_code, error.type, error.code, error.param) == (status, INVALID, None, None)
    assert set(error.body) == ERROR_KEYS


# Models and addresses


def test_models_are_listed_with_the_names_that_clients_look_for(client):
    models = {model.id: model for model in client.models.list()}
    assert {"glm-image", "cogview-4-250304", "gpt-image-1", "gpt-image-2", "dall-e-2", "dall-e-3"} <= set(models)
    for model in models.values():
        assert model.object == "model"
        assert type(model.created) is int
        assert model.owned_by
        assert client.models.retrieve(model.id) == model


@pytest.mark.parametrize("name", ["fake_id", "org/model:x y"])
def test_an_unknown_model_cannot_be_retrieved(client, name):
    with pytest.raises(openai.NotFoundError, match=re.escape(f"'{name}'")) as failed:
        client.models.retrieve(name)
    error = failed.value
    assert (error.type, error.code, error.param) == (INVALID, "model_not_found", "model")


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "//v1", "/v1/v1", "/v1/v1/"])
def test_a_base_url_may_lack_or_double_v1_or_end_in_a_slash(gateway, simulator, path):
    with sdk(gateway, base_url=gateway.url + path) as client:
        assert client.images.generate(prompt="a fox", size=SMALL).data
        assert client.models.retrieve("glm-image").id == "glm-image"
        assert "glm-image" in [model.id for model in client.models.list()]


# Failures of the upstream


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the SDK's user sees of a failure, and the upstream calls that it took.

    `final` failures are not repeated by the SDK: they are met with its usual two retries, the others without.
    """

    status: int
    type: str = "server_error"
    code: str
    param: str | None = None
    calls: int = 1
    final: bool = False


REFUSED = Seen(status=400, type="image_generation_user_error", code="content_policy_violation", final=True)
REJECTED = Seen(status=400, type=INVALID, code="invalid_value", final=True)
TOO_LONG = Seen(status=400, type=INVALID, code="string_above_max_length", param="prompt", final=True)
NO_MODEL = Seen(status=404, type=INVALID, code="model_not_found", param="model", final=True)
BUSY = Seen(status=503, type="service_unavailable_error", code="server_is_overloaded", calls=4)
BROKEN = Seen(status=503, code="server_error", calls=3)
UNAVAILABLE = Seen(status=503, code="upstream_unavailable", final=True)
UNKNOWN = Seen(status=504, code="upstream_outcome_unknown", final=True)
LOST = Seen(status=502, code="image_download_failed", final=True)

BROKEN_CODES = ("500", "1200", "1230", "1234")
ACCOUNT_CODES = (
    *("401", "1000", "1001", "1002", "1003", "1004", "1005", "1110", "1111", "1112", "1113", "1120", "1121"),
    *("1220", "1304", "1308", "1309", "1310", "1311", *map(str, range(1313, 1322))),
)
FAILURES = {
    "the prompt is refused": ({"kind": "moderation"}, REFUSED),
    "the picture is refused": ({"kind": "moderation", "role": "assistant", "level": 0}, REFUSED),
    "the history is refused": ({"kind": "moderation", "role": "history"}, REFUSED),
    "code 1300": ({"kind": "error", "code": "1300"}, REFUSED),
    "the prompt is too long": ({"kind": "long_prompt"}, TOO_LONG),
    "the size is refused": ({"kind": "bad_size"}, REJECTED),
    "code 1210": ({"kind": "error", "code": "1210"}, REJECTED),
    "the model is unknown": ({"kind": "wrong_model"}, NO_MODEL),
    "the model is unknown at z.ai": ({"kind": "wrong_model", "code": "1214"}, NO_MODEL),
    "overload persists": ({"kind": "overloaded"}, BUSY),
    "code 1312": ({"kind": "error", "code": "1312"}, BUSY),
    "overload with a number as code": ({"kind": "int_code"}, BUSY),
    "overload under status 200": ({"kind": "error_in_200"}, BUSY),
    "network error": ({"kind": "network_error"}, BROKEN),
    "a page under 503": ({"kind": "html_502", "status": 503}, UNKNOWN),
    **{f"code {code}": ({"kind": "error", "code": code}, BROKEN) for code in BROKEN_CODES},
    "no balance": ({"kind": "no_balance"}, UNAVAILABLE),
    "wrong upstream key": ({"kind": "wrong_key"}, UNAVAILABLE),
    "failure under status 200": ({"kind": "failure_in_200"}, UNAVAILABLE),
    **{f"code {code}": ({"kind": "error", "code": code}, UNAVAILABLE) for code in ACCOUNT_CODES},
    "the connection is cut": ({"kind": "cut"}, UNKNOWN),
    "the connection is cut before the work": ({"kind": "cut", "after": False}, UNKNOWN),
    "half of the answer": ({"kind": "truncated_json"}, UNKNOWN),
    "a page under 502": ({"kind": "html_502"}, UNKNOWN),
    "a page under 504": ({"kind": "html_502", "status": 504, "after": True}, UNKNOWN),
    "the picture stays missing": ({"kind": "not_found_then_ok", "times": None}, LOST),
    "the picture's link is dead": ({"kind": "expired_signature"}, LOST),
    "the picture is a page": ({"kind": "not_an_image"}, LOST),
    "the picture is cut each time": ({"kind": "cdn_cut"}, LOST),
    "the picture is too large": ({"kind": "oversize"}, LOST),
    "the picture leads elsewhere on this machine": ({"kind": "redirect", "location": "http://127.0.0.1:9/"}, LOST),
}
# Faults that end: the retries of the SDK and the upstream calls until the picture came.
RECOVERIES = {
    "overloaded twice": ({"kind": "overloaded", "times": 2}, 0, 3),
    "limited four times": ({"kind": "concurrency", "times": 4}, 0, 5),
    "overloaded for all of a request": ({"kind": "overloaded", "times": 4}, 1, 5),
    "broken for all of a request": ({"kind": "network_error", "times": 3}, 1, 4),
}
# Streams whose first event comes after the headers had to go out (10 s).
SLOW = {"kind": "slow", "seconds": 12}
LATE_PICTURE = "a late picture"
LATE_REFUSAL = "a late refusal"


def events_of(client, **asked):
    with client.images.generate(stream=True, **asked) as stream:
        return list(stream)


def text_of(client, **asked):
    """The seconds until the headers came, and the whole text of a stream."""
    started = time.monotonic()
    with client.images.with_streaming_response.generate(stream=True, **asked) as response:
        return time.monotonic() - started, response.read().decode()


@pytest.fixture(scope="module")
def outcomes(shared_simulator, shared_gateway):
    """What came of each fault and how many upstream calls it took; all at once, because some take 17 seconds.

    Those for which an account is left alone come one by one afterwards, each with the account there again.
    """
    faults = {name: [fault] for name, (fault, *_) in (FAILURES | RECOVERIES).items()}
    faults |= {LATE_PICTURE: [SLOW], LATE_REFUSAL: [SLOW, {"kind": "moderation", "role": "assistant"}]}
    shared_simulator.reset()
    shared_gateway.unpark()
    for name, several in faults.items():
        for fault in several:
            shared_simulator.fault(**fault, prompt_contains=f"[{name}]")
    with sdk(shared_gateway) as hasty, sdk(shared_gateway, max_retries=2) as patient:
        asks = {
            **{name: (patient if seen.final else hasty).images.generate for name, (_, seen) in FAILURES.items()},
            **dict.fromkeys(RECOVERIES, patient.images.with_raw_response.generate),
            LATE_PICTURE: partial(text_of, patient),
            LATE_REFUSAL: partial(events_of, patient),
        }
        bound = {name: partial(ask, prompt=f"[{name}]", size=SMALL) for name, ask in asks.items()}
        parking = {name: bound.pop(name) for name, (_, seen) in FAILURES.items() if seen is UNAVAILABLE}
        with ThreadPoolExecutor(len(bound)) as pool:
            ends = dict(zip(bound, pool.map(attempt, bound.values()), strict=True))
        for name, ask in parking.items():
            shared_gateway.unpark()
            ends[name] = attempt(ask)
    calls = Counter(body["prompt"] for body in sent(shared_simulator))
    return {name: (end, calls[f"[{name}]"]) for name, end in ends.items()}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_of_the_upstream_is_the_right_error_after_the_right_calls(outcomes, name):
    _, seen = FAILURES[name]
    error, calls = outcomes[name]
    assert type(error) is CLASSES.get(seen.status, openai.InternalServerError)
    assert (error.status_code, error.type, error.code, error.param) == (seen.status, seen.type, seen.code, seen.param)
    assert set(error.body) - {"moderation_details"} == ERROR_KEYS
    assert error.message.isascii(), "the upstream's own words have got out"
    assert calls == seen.calls


@pytest.mark.parametrize("name", [name for name, (_, seen) in FAILURES.items() if seen.status >= 429])
def test_a_failure_of_the_upstream_says_whether_a_retry_is_of_use(outcomes, name):
    _, seen = FAILURES[name]
    headers = outcomes[name][0].response.headers
    if seen.final:
        assert headers["x-should-retry"] == "false"
    else:
        assert "x-should-retry" not in headers
        assert 1 <= int(headers["retry-after"]) <= 60


@pytest.mark.parametrize(
    ("name", "stage"),
    [("the prompt is refused", "input"), ("the picture is refused", "output"), ("the history is refused", "unknown")],
)
def test_a_refusal_says_where_it_was_made(outcomes, name, stage):
    error, _ = outcomes[name]
    assert error.body["moderation_details"]["moderation_stage"] == stage
    assert error.body["moderation_details"]["categories"] == []


@pytest.mark.parametrize("name", RECOVERIES)
def test_a_fault_that_ends_is_outlived(outcomes, name):
    _, retries, calls = RECOVERIES[name]
    raw, counted = outcomes[name]
    assert format_and_size(decoded(raw.parse().data[0])) == ("PNG", SMALL)
    assert raw.retries_taken == retries
    assert counted == calls


def test_a_slow_stream_is_kept_alive_until_its_picture(outcomes):
    (seconds, text), calls = outcomes[LATE_PICTURE]
    heartbeat, event, end = text.split("\n\n")
    assert 9.5 < seconds < 11.5
    assert heartbeat.startswith(":")
    assert event.startswith("event: image_generation.completed\ndata: {")
    assert end == ""
    assert calls == 1


def test_a_failure_after_the_headers_of_a_stream_is_raised_while_reading(outcomes):
    error, calls = outcomes[LATE_REFUSAL]
    assert type(error) is openai.APIError
    assert (error.type, error.code) == (REFUSED.type, REFUSED.code)
    assert error.body["moderation_details"]["moderation_stage"] == "output"
    assert calls == 1


@pytest.fixture(scope="module")
def impatient(tmp_path_factory, shared_simulator):
    """A gateway that gives the upstream one second."""
    home = tmp_path_factory.mktemp("impatient")
    with servers.gateway(home, shared_simulator, GLM_GATEWAY_UPSTREAM__TIMEOUT="1") as running:
        yield running


@pytest.mark.parametrize("kind", ["concurrency", "frequency"])
def test_an_account_that_takes_no_call_is_given_up_when_the_queue_is(hasty, simulator, kind):
    simulator.fault(kind)
    hasty.unpark()
    with sdk(hasty) as client, pytest.raises(openai.RateLimitError) as failed:
        client.images.generate(prompt="a fox", size=SMALL)
    assert (failed.value.type, failed.value.code) == ("rate_limit_error", "rate_limit_exceeded")
    assert "x-should-retry" not in failed.value.response.headers
    assert 1 <= int(failed.value.response.headers["retry-after"]) <= 60
    assert simulator.stats()["calls"] == 3  # at 0, 0.5 and 1.5 s, and not at 3.5


@pytest.fixture(scope="module")
def hasty(tmp_path_factory, shared_simulator):
    """A gateway in which a picture waits for 3 seconds."""
    with servers.gateway(
        tmp_path_factory.mktemp("hasty"), shared_simulator, GLM_GATEWAY_QUEUE__MAX_WAIT="3"
    ) as running:
        yield running


@pytest.mark.parametrize("after", [False, True], ids=["nothing made", "picture made and lost"])
def test_a_call_that_hangs_is_not_paid_twice(impatient, simulator, after):
    simulator.fault("hang", after=after)
    with sdk(impatient, max_retries=2) as client, pytest.raises(openai.InternalServerError) as failed:
        client.images.generate(prompt="a fox", size=SMALL)
    assert (failed.value.status_code, failed.value.code) == (504, "upstream_outcome_unknown")
    assert failed.value.response.headers["x-should-retry"] == "false"
    assert simulator.stats()["calls"] == 1


def test_a_mild_warning_comes_with_the_picture(client, simulator):
    simulator.fault("moderation", level=3)
    answer = client.images.generate(prompt="a fox", size=SMALL)
    assert digest(decoded(answer.data[0])) in made(simulator)
    assert answer.content_filter == [{"role": "user", "level": 3}]
