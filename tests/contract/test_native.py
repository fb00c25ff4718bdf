"""GLM's own path on a running gateway: what users of zai-sdk, zhipuai and the documentation's examples send and get."""

import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import httpx
import pytest
from zai import ZaiClient, ZhipuAiClient
from zai.core import _errors

from tests import servers
from tests.servers import wait_until

ZHIPUAI_PYTHON = servers.ROOT / ".venv-zhipuai" / "bin" / "python"
PROMPTS = json.loads((servers.ROOT / "tests" / "contract" / "prompts.json").read_text("utf-8"))
BASE = "/api/paas/v4"
SYNC, ASYNC, RESULT = f"{BASE}/images/generations", f"{BASE}/async/images/generations", f"{BASE}/async-result"
SMALL = "512x512"  # quick to draw
ID = re.compile("20[0-9]{12}[0-9a-f]{16}")


def sdk(gateway, kind=ZaiClient, **options):
    options = {"base_url": gateway.url + BASE, "api_key": gateway.key, "max_retries": 0} | options
    return kind(http_client=httpx.Client(trust_env=False), **options)


@pytest.fixture(params=[ZaiClient, ZhipuAiClient])
def client(request, gateway):
    with sdk(gateway, request.param) as client:
        yield client


def sent(simulator):
    return [call["body"] for call in simulator.calls()]


def key(gateway, *options):
    """Make another key of the gateway's."""
    name = f"key {time.time_ns()}"
    made = servers.glm_gateway("keys", "create", "--name", name, *options, env=gateway.env)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def asked(gateway, body, *, path=SYNC, **more):
    status, headers, content = gateway.post({"model": "glm-image", "size": SMALL, **body}, path=path, **more)
    return status, headers, json.loads(content)


def polled(gateway, task, secret=None):
    status, headers, content = servers.http(
        "GET", f"{gateway.url}{RESULT}/{task}", headers={"Authorization": f"Bearer {secret or gateway.key}"}
    )
    assert headers["content-type"] == "application/json"
    return status, json.loads(content)


def ended(gateway, task, secret=None):
    """Poll until a task has ended."""
    answers = []

    def over():
        status, answer = polled(gateway, task, secret)
        assert status == 200, answer
        answers.append(answer)
        return answer["task_status"] != "PROCESSING"

    wait_until(over, 60, what=f"the end of {task}")
    return answers[-1]


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=range(len(PROMPTS)))
def test_the_documented_prompts_work_as_they_are(client, simulator, prompt):
    answer = client.images.generations(model="glm-image", prompt=prompt, size="1280x1280")
    assert ID.fullmatch(answer.id)
    assert answer.request_id == answer.id
    assert abs(answer.created - time.time()) < 60
    [picture] = simulator.images()
    assert picture["prompt"] == prompt
    [item] = answer.data
    status, headers, content = servers.http("GET", item.url)
    assert (status, headers["content-type"]) == (200, "image/png")
    assert sha256(content).hexdigest() == picture["sha256"]


def test_the_documentations_curl_example_works(gateway, simulator, tmp_path):
    """With the prompts of GLM-Image's own pages; base URL and key are all that changes."""
    prompt = next(iter(PROMPTS.values()))
    body = tmp_path / "body.json"
    body.write_text(
        json.dumps({"model": "glm-image", "prompt": prompt, "size": "1280x1280"}, ensure_ascii=False), "utf-8"
    )
    command = ["curl", "-sS", "--noproxy", "*", "-X", "POST", gateway.url + SYNC]
    command += ["-H", f"Authorization: Bearer {gateway.key}", "-H", "Content-Type: application/json", "-d", f"@{body}"]
    ran = subprocess.run(command, capture_output=True, timeout=60, check=True)
    answer = json.loads(ran.stdout)
    assert list(answer) == ["created", "data", "id", "request_id"]
    assert list(answer["data"][0]) == ["url"]
    assert simulator.images()[0]["prompt"] == prompt


def blocks(kind):
    """The examples of the README's section on this path, to be pasted."""
    readme = (servers.ROOT / "README.md").read_text("utf-8")
    section = readme.partition("## Clients of Zhipu's own API\n")[2].partition("\n## ")[0]
    return re.findall(f"```{kind}\n(.*?)```", section, re.DOTALL)


@pytest.mark.parametrize(("kind", "command"), [("python", [sys.executable, "-c"]), ("sh", ["sh", "-c"])])
def test_the_readmes_examples_can_be_pasted(gateway, simulator, kind, command):
    [example] = blocks(kind)
    example = example.replace("http://127.0.0.1:8000", gateway.url).replace("sk-glm-...", gateway.key)
    env = servers.environment(NO_PROXY="127.0.0.1", no_proxy="127.0.0.1")
    ran = subprocess.run([*command, example], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert f"{gateway.url}/v1/images/files/" in ran.stdout
    assert simulator.images()[0]["prompt"] == "a red fox in the snow"


def test_the_older_sdk_gets_its_pictures(gateway, simulator):
    environment = servers.environment(
        ZHIPUAI_API_KEY=gateway.key, ZHIPUAI_BASE_URL=gateway.url + BASE, NO_PROXY="127.0.0.1", PYTHONUTF8="1"
    )
    ran = subprocess.run(
        [ZHIPUAI_PYTHON, Path(__file__).parent / "zhipuai" / "generate.py"],
        input=json.dumps(list(PROMPTS.values())),
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert len(json.loads(ran.stdout)) == len(PROMPTS)
    assert [picture["prompt"] for picture in simulator.images()] == list(PROMPTS.values())


def test_the_documented_parameters_arrive(gateway, client, simulator):
    client.images.generations(
        model="glm-image",
        prompt="a cat",
        size="1568\u00d71056",
        quality="hd",
        user_id="end-user",
        watermark_enabled=True,
    )
    [body] = sent(simulator)
    user = body.pop("user_id")
    assert re.fullmatch("[0-9a-f]{32}", user)  # the same pseudonym as OpenAI's `user`
    gateway.post({"prompt": "a dog", "user": "end-user", "size": SMALL})
    assert sent(simulator)[1]["user_id"] == user
    assert body["size"] == "1568x1056"
    assert body["quality"] == "hd"


def test_what_is_not_documented_is_ignored(client, simulator):
    """The SDKs can send it, and GLM's own servers take it (glm-image-api.md section 1.2)."""
    answer = client.images.generations(
        model="glm-image", prompt="a cat", size=SMALL, n=3, response_format="b64_json", style="vivid", user="me",
        extra_body={"foo": [1]},
    )  # fmt: skip
    assert len(answer.data) == 1
    assert answer.data[0].url
    assert len(sent(simulator)) == 1


def test_an_unwatermarked_picture_needs_leave(gateway, simulator):
    status, _, answer = asked(gateway, {"prompt": "a cat", "watermark_enabled": False})
    assert (status, answer["error"]["code"]) == (400, "1214")
    assert "watermark_enabled" in answer["error"]["message"]
    allowed = key(gateway, "--unwatermarked")
    assert asked(gateway, {"prompt": "a cat", "watermark_enabled": False}, key=allowed)[0] == 200
    assert simulator.images()[0]["watermark"] is False


def test_warnings_about_the_content_are_passed_on(gateway, simulator):
    simulator.fault("moderation", role="assistant", level=3, times=2)
    _, _, answer = asked(gateway, {"prompt": "a cat"})
    _, _, task = asked(gateway, {"prompt": "a dog"}, path=ASYNC)
    for said in (answer, ended(gateway, task["id"])):
        assert said["content_filter"] == [{"role": "assistant", "level": 3}]


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        ({"prompt": None}, "1213", "prompt"),
        ({"prompt": ""}, "1213", "prompt"),
        ({"model": None}, "1213", "model"),
        ({"model": "gpt-4o"}, "1211", "gpt-4o"),
        ({"model": 4}, "1214", "model"),
        ({"prompt": 4}, "1214", "prompt"),
        ({"prompt": "\U0001f600" * 1001}, "1261", "prompt"),
        ({"size": "1000x1000"}, "1214", "size"),
        ({"size": "auto"}, "1214", "size"),
        ({"size": 512}, "1214", "size"),
        ({"quality": "standard"}, "1214", "quality"),
        ({"quality": "high"}, "1214", "quality"),
        ({"user_id": "short"}, "1214", "user_id"),
        ({"user_id": "u" * 129}, "1214", "user_id"),
        ({"watermark_enabled": "no"}, "1214", "watermark_enabled"),
    ],
)
@pytest.mark.parametrize("path", [SYNC, ASYNC])
def test_wrong_values_are_refused_as_glm_refuses_them(gateway, simulator, path, body, code, named):
    status, _, answer = asked(gateway, {"prompt": "a cat", **body}, path=path)
    assert (status, answer["error"]["code"]) == (400, code)
    assert named in answer["error"]["message"]
    assert simulator.stats()["calls"] == 0


@pytest.mark.parametrize("user_id", ["sixsix", "u" * 128])
def test_the_documented_lengths_of_user_ids_are_taken(gateway, user_id):
    assert asked(gateway, {"prompt": "a cat", "user_id": user_id})[0] == 200


def test_other_models_have_their_own_qualities_and_sizes(gateway, simulator):
    assert (
        asked(gateway, {"prompt": "a cat", "model": "cogview-4", "quality": "standard", "size": "768x1344"})[0] == 200
    )
    [body] = sent(simulator)
    assert (body["model"], body["quality"], body["size"]) == ("cogview-4", "standard", "768x1344")


@pytest.mark.parametrize(
    ("request_line", "authorization", "content", "status", "code"),
    [
        (f"POST {SYNC}", None, b"{}", 401, "401"),
        (f"POST {SYNC}", "Bearer sk-glm-nobody", b"{}", 401, "401"),
        (f"POST {ASYNC}", "Bearer sk-glm-nobody", b"{}", 401, "401"),
        (f"GET {RESULT}/1", "Bearer sk-glm-nobody", None, 401, "401"),
        (f"POST {SYNC}", "Bearer {key}", b"no JSON", 400, "1210"),
        (f"POST {SYNC}", "Bearer {key}", b"[]", 400, "1210"),
        (f"POST {SYNC}", "Bearer {key}", b'{"prompt":"' + b"x" * 2**20 + b'"}', 413, "1210"),
        (f"GET {SYNC}", "Bearer {key}", None, 405, "1222"),
        (f"POST {BASE}/chat/completions", "Bearer {key}", b"{}", 404, "1222"),
        (f"GET {RESULT}/nothing", "Bearer {key}", None, 400, "1214"),
        (f"GET {RESULT}/a:b", "Bearer {key}", None, 400, "1214"),
    ],
)
def test_every_refusal_has_glms_shape(gateway, request_line, authorization, content, status, code):
    method, path = request_line.split()
    sent = {"Authorization": authorization.format(key=gateway.key)} if authorization else {}
    answered = httpx.request(method, gateway.url + path, headers=sent, content=content, trust_env=False, timeout=30)
    assert answered.status_code == status, answered.text
    answer = answered.json()
    assert set(answer) == {"error"}
    assert set(answer["error"]) == {"code", "message"}
    assert answer["error"]["code"] == code
    assert answer["error"]["message"]
    assert ID.fullmatch(answered.headers["x-request-id"])


def test_raw_keys_open_with_and_without_bearer(gateway):
    for authorization in (gateway.key, f"Bearer {gateway.key}", f"bearer {gateway.key}"):
        sent = {"Authorization": authorization}
        status, _, content = servers.http(
            "POST", gateway.url + SYNC, body={"model": "glm-image", "prompt": "a cat", "size": SMALL}, headers=sent
        )
        assert status == 200, content


@pytest.mark.parametrize("scheme", ["", "Bearer "])
def test_a_jwt_is_told_what_to_do(gateway, scheme):
    token = "eyJhbGciOiJIUzI1NiJ9.eyJhcGlfa2V5IjoiYSJ9.c2lnbmF0dXJl"
    status, _, content = servers.http("POST", gateway.url + SYNC, body={}, headers={"Authorization": scheme + token})
    error = json.loads(content)["error"]
    assert (status, error["code"]) == (401, "401")
    assert "disable_token_cache=True" in error["message"]
    assert token not in error["message"]


ERRORS = [
    ("1301", 400, "1301", _errors.APIRequestFailedError),
    ("1113", 429, "1305", _errors.APIReachLimitError),
    ("1305", 429, "1305", _errors.APIReachLimitError),
]


@pytest.mark.parametrize(("upstream", "status", "code", "kind"), ERRORS)
def test_upstream_failures_are_the_sdks_own_exceptions(client, simulator, upstream, status, code, kind):
    simulator.fault("error", code=upstream, times=20)
    with pytest.raises(_errors.APIStatusError) as raised:
        client.images.generations(model="glm-image", prompt="a cat", size=SMALL)
    assert type(raised.value) is kind
    assert raised.value.status_code == status
    assert raised.value.response.json()["error"]["code"] == code


def test_a_refused_content_says_whose(gateway, simulator):
    simulator.fault("moderation", role="user", level=1)
    status, _, answer = asked(gateway, {"prompt": "a cat"})
    assert (status, answer["error"]["code"]) == (400, "1301")
    assert answer["contentFilter"] == [{"level": 1, "role": "user"}]


def test_an_unknown_outcome_is_not_sent_again_by_the_sdk(gateway, simulator):
    """The picture may be paid: zai-sdk would otherwise order it three times more (glm-image-api.md section 1.5)."""
    simulator.fault("cut", times=10)
    with sdk(gateway, max_retries=3) as client, pytest.raises(_errors.APIInternalError) as raised:
        client.images.generations(model="glm-image", prompt="a cat", size=SMALL)
    assert raised.value.response.json()["error"]["code"] == "1234"
    assert simulator.stats()["calls"] == 1


def test_limits_and_cache_are_those_of_the_other_path(gateway, simulator):
    secret = key(gateway, "--images-per-day", "1", "--cache", "project")
    prompt = f"limited {time.time_ns()}"
    first = asked(gateway, {"prompt": prompt}, key=secret)
    assert (first[0], first[1]["x-glm-cache"], first[1]["x-ratelimit-remaining-images"]) == (200, "MISS", "0")
    again = asked(gateway, {"prompt": prompt}, key=secret)
    assert (again[0], again[1]["x-glm-cache"]) == (200, "HIT")
    status, headers, _ = gateway.post({"prompt": prompt, "size": SMALL}, key=secret)
    assert (status, headers["x-glm-cache"]) == (200, "HIT")
    for path in (SYNC, ASYNC):
        status, headers, answer = asked(gateway, {"prompt": f"{prompt} other"}, key=secret, path=path)
        assert (status, answer["error"]["code"]) == (429, "1113")
        assert headers["x-should-retry"] == "false"
    assert simulator.stats()["calls"] == 1


def test_a_minutes_limit_is_1302(gateway):
    secret = key(gateway, "--requests-per-minute", "1")
    assert asked(gateway, {"prompt": "a cat"}, key=secret)[0] == 200
    status, headers, answer = asked(gateway, {"prompt": "a cat"}, key=secret)
    assert (status, answer["error"]["code"]) == (429, "1302")
    assert 1 <= int(headers["retry-after"]) <= 60


def test_a_model_that_the_key_may_not_use_is_1220(gateway):
    secret = key(gateway, "--models", "cogview-4")
    status, _, answer = asked(gateway, {"prompt": "a cat"}, key=secret)
    assert (status, answer["error"]["code"]) == (403, "1220")


def test_an_idempotency_key_gives_the_same_answer(gateway, simulator):
    name = f"key-{time.time_ns()}"
    first = asked(gateway, {"prompt": "a cat"}, idempotency_key=name)
    again = asked(gateway, {"prompt": "a cat"}, idempotency_key=name)
    assert again[1]["idempotent-replayed"] == "true"
    assert again[2]["created"] == first[2]["created"]
    assert simulator.stats()["calls"] == 1
    status, _, answer = asked(gateway, {"prompt": "a dog"}, idempotency_key=name)
    assert (status, answer["error"]["code"]) == (400, "1214")


def test_an_asynchronous_generation_is_retrieved(gateway, client, simulator):
    simulator.fault("slow", seconds=4.0)
    task = client.images.async_generations(model="glm-image", prompt="a cat", size=SMALL)
    assert simulator.images() == []
    assert (task.model, task.task_status, task.image_result) == ("glm-image", "PROCESSING", None)
    assert ID.fullmatch(task.id)
    assert task.request_id == task.id
    assert client.images.retrieve_images_result(task.id).task_status == "PROCESSING"
    assert ended(gateway, task.id)["task_status"] == "SUCCESS"
    result = client.images.retrieve_images_result(task.id)
    assert (result.model, result.task_status, result.request_id) == ("glm-image", "SUCCESS", task.id)
    [item] = result.image_result
    assert sha256(servers.http("GET", item.url)[2]).hexdigest() == simulator.images()[0]["sha256"]
    wait_until(lambda: client.images.retrieve_images_result(task.id).image_result[0].url != item.url, what="a new URL")


def test_a_failed_task_says_why(gateway, simulator):
    simulator.fault("moderation", role="assistant", level=0)
    _, _, task = asked(gateway, {"prompt": "a cat"}, path=ASYNC)
    answer = ended(gateway, task["id"])
    assert answer["task_status"] == "FAIL"
    assert answer["error"]["code"] == "1301"
    assert answer["error"]["message"]
    assert answer["contentFilter"] == [{"level": 1, "role": "assistant"}]
    assert "image_result" not in answer


def test_a_task_whose_picture_was_removed_fails(gateway):
    _, _, task = asked(gateway, {"prompt": "a cat"}, path=ASYNC)
    url = ended(gateway, task["id"])["image_result"][0]["url"]
    name = url.partition("?")[0].rpartition("/")[2].removesuffix(".png")
    [stored] = (gateway.data_dir / "store").rglob(name)
    stored.unlink()
    status, answer = polled(gateway, task["id"])
    assert (status, answer["task_status"], answer["error"]["code"]) == (200, "FAIL", "1234")


def test_a_task_is_its_projects(gateway):
    _, _, task = asked(gateway, {"prompt": "a cat"}, path=ASYNC)
    name = f"other-{time.time_ns()}"
    made = servers.glm_gateway("projects", "create", "--name", name, env=gateway.env)
    assert made.returncode == 0, made.stderr
    status, answer = polled(gateway, task["id"], key(gateway, "--project", name))
    assert (status, answer["error"]["code"]) == (400, "1214")
    assert ended(gateway, task["id"], key(gateway))["task_status"] == "SUCCESS"


def test_a_submission_with_an_idempotency_key_is_one_task(gateway, simulator):
    name = f"key-{time.time_ns()}"
    first = asked(gateway, {"prompt": "a cat"}, path=ASYNC, idempotency_key=name)
    again = asked(gateway, {"prompt": "a cat"}, path=ASYNC, idempotency_key=name)
    assert first[2]["id"] == again[2]["id"]
    assert ended(gateway, first[2]["id"])["task_status"] == "SUCCESS"
    assert asked(gateway, {"prompt": "a cat"}, path=ASYNC, idempotency_key=name)[2]["id"] == first[2]["id"]
    assert simulator.stats()["calls"] == 1


def test_equal_tasks_are_one_picture_and_each_has_its_result(gateway, simulator):
    secret, prompt = key(gateway, "--cache", "project"), f"equal {time.time_ns()}"
    simulator.fault("slow", seconds=1.0)

    def submit(_):
        return asked(gateway, {"prompt": prompt}, path=ASYNC, key=secret)[2]["id"]

    with ThreadPoolExecutor(4) as clients:
        tasks = list(clients.map(submit, range(4)))
    assert len(set(tasks)) == 4
    for task in (*tasks, submit(0)):  # the last one is remembered
        assert ended(gateway, task, secret)["task_status"] == "SUCCESS"
    assert simulator.stats()["images"] == 1


def test_the_metrics_name_the_routes_and_no_task(gateway):
    _, _, task = asked(gateway, {"prompt": "a cat"}, path=ASYNC)
    ended(gateway, task["id"])
    metrics = gateway.get("/metrics")[2].decode()
    assert f'route="{RESULT}/{{task_id}}"' in metrics or f'route="{RESULT}/{{task_id:str}}"' in metrics
    assert task["id"] not in metrics


def test_upstream_urls_are_passed_on_where_the_operator_wants_so(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_STORE__URLS="upstream") as gateway:
        _, _, answer = asked(gateway, {"prompt": "a cat"})
        _, _, task = asked(gateway, {"prompt": "a dog"}, path=ASYNC)
        urls = [answer["data"][0]["url"], ended(gateway, task["id"])["image_result"][0]["url"]]
        assert urls == [picture["url"] for picture in simulator.images()]
