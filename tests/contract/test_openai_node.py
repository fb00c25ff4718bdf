"""The stock `openai` SDK for Node against a running gateway: what its users send, get and catch."""

import json
import re
import subprocess
from collections import Counter

import pytest

from tests import servers

SCRIPTS = servers.ROOT / "tests" / "contract" / "node"
SIZE = "512x512"
INVALID = "invalid_request_error"
DESCRIPTION = {"size": SIZE, "quality": "high", "background": "opaque", "output_format": "png"}


def run(script, gateway, **names):
    """Run a script to its end and give what it printed."""
    env = servers.environment(**{"OPENAI_BASE_URL": gateway.base_url, "OPENAI_API_KEY": gateway.key, **names})
    command = [servers.node(), SCRIPTS / script]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_node_is_the_process_that_was_started():
    """Else it would outlive who stops that process."""
    command = [servers.node(), "-e", "console.log(process.pid)"]
    with subprocess.Popen(command, env=servers.environment(), stdout=subprocess.PIPE) as process:
        assert int(process.stdout.read()) == process.pid


@pytest.fixture(scope="module")
def pictures(shared_simulator, shared_gateway):
    """What pictures.mjs printed, and the simulator's pictures by prompt."""
    shared_simulator.reset()
    shared_gateway.unpark()
    printed = run("pictures.mjs", shared_gateway)
    made = {}
    for picture in shared_simulator.images():
        made.setdefault(picture["prompt"], []).append(picture)
    return printed, made


@pytest.fixture(scope="module")
def errors(shared_simulator, shared_gateway):
    """What errors.mjs printed, and the upstream calls by prompt."""
    shared_simulator.reset()
    shared_gateway.unpark()
    shared_simulator.fault("moderation", prompt_contains="[refused]")
    shared_simulator.fault("no_balance", prompt_contains="[no balance]")
    shared_simulator.fault("cut", prompt_contains="[cut]")
    thrown = run("errors.mjs", shared_gateway)
    return thrown, Counter(call["body"]["prompt"] for call in shared_simulator.calls())


def test_b64_json_is_the_very_picture_that_was_made(pictures):
    printed, made = pictures
    [picture] = made["node inline"]
    assert printed["inline"]["keys"] == ["b64_json"]
    assert printed["inline"]["digest"] == picture["sha256"]
    assert re.fullmatch(r"req_[0-9a-z]+", printed["inline"]["requestId"])
    about = printed["inline"]["about"]
    assert isinstance(about["created"], int)
    assert about == {**about, **DESCRIPTION}
    assert about["usage"]["input_tokens_details"] == {"text_tokens": 0, "image_tokens": 0}


def test_url_is_ours_and_gives_the_same_bytes(pictures):
    printed, made = pictures
    [picture] = made["node linked"]
    assert printed["linked"] == printed["linked"] | {"keys": ["url"], "digest": picture["sha256"]}
    assert "/v1/images/files/" in printed["linked"]["url"]


@pytest.mark.parametrize(
    ("model", "key"), [("dall-e-3", "url"), ("gpt-image-1", "b64_json"), ("glm-image", "b64_json")]
)
def test_each_model_name_gets_the_format_that_its_clients_expect(pictures, model, key):
    assert pictures[0]["defaults"][model] == [[key]]


def test_n_pictures_are_n_different_ones_in_one_answer(pictures):
    printed, made = pictures
    assert len(set(printed["three"])) == 3
    assert set(printed["three"]) == {picture["sha256"] for picture in made["node three"]}


def test_a_stream_completes_once_for_each_picture(pictures):
    printed, made = pictures
    assert {event["digest"] for event in printed["events"]} == {picture["sha256"] for picture in made["node stream"]}
    assert len(printed["events"]) == len(made["node stream"]) == 2
    for event in printed["events"]:
        assert event["type"] == "image_generation.completed"
        assert event == {**event, **DESCRIPTION}
        assert isinstance(event["created_at"], int)
        assert event["usage"]["total_tokens"] == 0


def test_headers_say_what_was_made_and_what_was_changed(pictures):
    headers = pictures[0]["headers"]
    assert re.fullmatch(r"req_[0-9a-z]+", headers["x-request-id"])
    assert headers["openai-processing-ms"].isdigit()
    assert headers["x-glm-size"] == "1920x1088"
    assert headers["x-glm-changed"] == "quality=low->hd,size=1920x1080->1920x1088,style"


def test_models_are_listed_and_retrieved(pictures):
    printed, _ = pictures
    models = {model["id"]: model for model in printed["models"]}
    assert {"glm-image", "gpt-image-1", "dall-e-3"} <= set(models)
    assert {model["object"] for model in models.values()} == {"model"}
    assert printed["model"] == models["dall-e-3"]


@pytest.mark.parametrize(
    ("name", "error", "status", "code", "param"),
    [
        ("wrongKey", "AuthenticationError", 401, "invalid_api_key", None),
        ("missingKey", "AuthenticationError", 401, None, None),
        ("emptyPrompt", "BadRequestError", 400, "empty_string", "prompt"),
        ("longPrompt", "BadRequestError", 400, "string_above_max_length", "prompt"),
        ("noPictures", "BadRequestError", 400, "integer_below_min_value", "n"),
        ("tooManyPictures", "BadRequestError", 400, "integer_above_max_value", "n"),
        ("wrongType", "BadRequestError", 400, "invalid_type", "n"),
        ("badSize", "BadRequestError", 400, "invalid_value", "size"),
        ("badQuality", "BadRequestError", 400, "invalid_value", "quality"),
        ("transparent", "BadRequestError", 400, "invalid_value", "background"),
        ("unwatermarked", "BadRequestError", 400, "invalid_value", "watermark_enabled"),
        ("strict", "BadRequestError", 400, "unsupported_parameter", "style"),
        ("unknownModel", "NotFoundError", 404, "model_not_found", "model"),
        ("unknownModelRetrieved", "NotFoundError", 404, "model_not_found", "model"),
        ("edit", "BadRequestError", 400, "unsupported_endpoint", None),
        ("variation", "APIError", 410, None, None),
    ],
)
def test_a_mistake_is_the_right_error(errors, name, error, status, code, param):
    thrown = errors[0][name]
    seen = {"class": error, "status": status, "type": INVALID, "code": code, "param": param}
    assert {key: thrown[key] for key in seen} == seen
    assert thrown["message"].startswith(f"{status} ")
    assert thrown["message"].endswith(thrown["error"]["message"])
    assert re.fullmatch(r"req_[0-9a-z]+", thrown["requestID"])


def test_mistakes_cost_no_upstream_call(errors):
    assert set(errors[1]) == {"[refused]", "[no balance]", "[cut]"}


@pytest.mark.parametrize("name", ["refused", "refusedStream"])
def test_a_refused_prompt_is_a_bad_request_with_moderation_details(errors, name):
    thrown, calls = errors
    assert (thrown[name]["class"], thrown[name]["status"]) == ("BadRequestError", 400)
    assert (thrown[name]["type"], thrown[name]["code"]) == ("image_generation_user_error", "content_policy_violation")
    assert thrown[name]["error"]["moderation_details"] == {"moderation_stage": "input", "categories": []}
    assert calls["[refused]"] == 2  # one for each of the two mistakes


@pytest.mark.parametrize(
    ("name", "prompt", "status", "code"),
    [("noBalance", "[no balance]", 503, "upstream_unavailable"), ("cut", "[cut]", 504, "upstream_outcome_unknown")],
)
def test_a_failure_that_no_retry_mends_is_not_repeated(errors, name, prompt, status, code):
    thrown, calls = errors
    assert [thrown[name][key] for key in ("class", "status", "code")] == ["InternalServerError", status, code]
    assert calls[prompt] == 1
