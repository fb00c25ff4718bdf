"""The simulator against the upstream's own SDKs: what they send is understood, what they expect comes back."""

import json
import os
import subprocess
from pathlib import Path

import httpx
import pytest
from zai import ZaiClient, ZhipuAiClient
from zai.core import _errors

from gateway.simulator import SimulatorOptions
from tests.unit.simulator.serving import BASE, KEY, KEY_ID, OTHER_KEY, serve, until

# The upstream's secrets have 16 bytes, and the SDK signs JWTs with them.
pytestmark = pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")

ROOT = Path(__file__).parents[2]
ZHIPUAI_PYTHON = ROOT / ".venv-zhipuai" / "bin" / "python"
PROMPTS = json.loads((ROOT / "tests" / "contract" / "prompts.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def address():
    with serve(SimulatorOptions(latency=0.0, keys=(KEY,))) as address:
        yield address


@pytest.fixture
def http(address, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with httpx.Client(base_url=address, trust_env=False) as client:
        client.post("/_simulator/reset")
        yield client


@pytest.fixture(params=[ZaiClient, ZhipuAiClient])
def client(request, http):
    with request.param(api_key=KEY, base_url=f"{http.base_url}{BASE}", max_retries=0) as client:
        yield client


def made(http):
    return http.get("/_simulator/images").json()


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=range(len(PROMPTS)))
def test_the_documented_prompts_arrive_character_for_character(client, http, prompt):
    answer = client.images.generations(model="glm-image", prompt=prompt)
    assert len(answer.id) == 30
    assert answer.id == answer.request_id
    (call,) = http.get("/_simulator/calls").json()
    assert call["body"] == {"model": "glm-image", "prompt": prompt}
    (picture,) = made(http)
    assert (picture["prompt"], picture["url"]) == (prompt, answer.data[0].url)
    assert http.get(answer.data[0].url).content.startswith(b"\x89PNG")


def test_every_documented_parameter_arrives(client, http):
    client.images.generations(
        model="glm-image", prompt="a cat", size="1568x1056", quality="hd", user_id="end-user", watermark_enabled=False
    )
    (picture,) = made(http)
    assert (picture["size"], picture["user_id"], picture["watermark"]) == ("1568x1056", "end-user", False)


def test_the_sdks_jwt_is_accepted(http):
    with ZaiClient(api_key=KEY, base_url=f"{http.base_url}{BASE}", disable_token_cache=False) as client:
        client.images.generations(model="glm-image", prompt="a cat")
    assert made(http)[0]["key_id"] == KEY_ID


def test_an_asynchronous_generation_is_retrieved(client, http):
    http.post("/_simulator/faults", json={"kind": "slow", "seconds": 0.2})
    job = client.images.async_generations(model="glm-image", prompt="a cat")
    assert (job.model, job.task_status, job.image_result) == ("glm-image", "PROCESSING", None)
    assert client.images.retrieve_images_result(job.id).task_status == "PROCESSING"
    until(lambda: made(http))
    result = client.images.retrieve_images_result(job.id)
    assert (result.task_status, result.request_id) == ("SUCCESS", job.request_id)
    assert result.image_result[0].url == made(http)[0]["url"]


ERRORS = {
    "1210": _errors.APIRequestFailedError,
    "1301": _errors.APIRequestFailedError,
    "1003": _errors.APIAuthenticationError,
    "1220": _errors.APIStatusError,
    "1302": _errors.APIReachLimitError,
    "1113": _errors.APIReachLimitError,
    "1234": _errors.APIInternalError,
}


@pytest.mark.parametrize("code", ERRORS)
def test_each_status_is_its_own_error(client, http, code):
    http.post("/_simulator/faults", json={"kind": "error", "code": code})
    with pytest.raises(_errors.APIStatusError) as raised:
        client.images.generations(model="glm-image", prompt="a cat")
    assert type(raised.value) is ERRORS[code]
    assert raised.value.response.json()["error"]["code"] == code


def test_a_foreign_key_is_an_authentication_error(http):
    with (
        ZaiClient(api_key=OTHER_KEY, base_url=f"{http.base_url}{BASE}", max_retries=0) as client,
        pytest.raises(_errors.APIAuthenticationError),
    ):
        client.images.generations(model="glm-image", prompt="a cat")


def test_a_busy_gateway_is_a_flow_error(client, http):
    http.post("/_simulator/faults", json={"kind": "html_502", "status": 503})
    with pytest.raises(_errors.APIServerFlowExceedError):
        client.images.generations(model="glm-image", prompt="a cat")


def test_a_hang_is_a_timeout(client, http):
    http.post("/_simulator/faults", json={"kind": "hang"})
    with pytest.raises(_errors.APITimeoutError):
        client.images.generations(model="glm-image", prompt="a cat", timeout=0.3)


def test_a_cut_is_a_connection_error(client, http):
    http.post("/_simulator/faults", json={"kind": "cut"})
    with pytest.raises(_errors.APIConnectionError):
        client.images.generations(model="glm-image", prompt="a cat")


def test_the_sdk_repeats_what_was_refused_for_the_moment(http):
    http.post("/_simulator/faults", json={"kind": "concurrency", "times": 1})
    with ZaiClient(api_key=KEY, base_url=f"{http.base_url}{BASE}", max_retries=1) as client:
        client.images.generations(model="glm-image", prompt="a cat")
    assert http.get("/_simulator/stats").json() == {"calls": 2, "images": 1, "in_flight": 0, "max_in_flight": 1}


def test_the_older_sdk_gets_its_pictures(http):
    environment = os.environ | {
        "ZHIPUAI_API_KEY": KEY,
        "ZHIPUAI_BASE_URL": f"{http.base_url}{BASE}",
        "PYTHONIOENCODING": "utf-8",
        "PYTHONUTF8": "1",
    }
    ran = subprocess.run(
        [ZHIPUAI_PYTHON, Path(__file__).parent / "zhipuai" / "generate.py"],
        input=json.dumps(list(PROMPTS.values())),
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    answers = json.loads(ran.stdout)
    assert [picture["prompt"] for picture in made(http)] == list(PROMPTS.values())
    assert [picture["url"] for picture in made(http)] == [answer["data"][0]["url"] for answer in answers]
