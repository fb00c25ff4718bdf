"""The gateway and its own OpenAPI document agree, and no input makes it fail."""

import json
import re
from urllib.parse import quote

import httpx
import hypothesis.core
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.vendor.pretty import RepresentationPrinter
from schemathesis.generation.hypothesis import setup

from gateway.api.schema import TYPES, UNSUPPORTED
from tests.servers import ADMIN_KEY, http

GENERATIONS = "/v1/images/generations"
FILES = "/v1/images/files/{name}"
NATIVE = "/api/paas/v4"
ADMIN = {"headers": {"Authorization": f"Bearer {ADMIN_KEY}"}}
PROJECTS = "/v1/organization/projects"
PROJECT = f"{PROJECTS}/{{project_id}}"
ACCOUNTS = f"{PROJECT}/service_accounts"
WEBHOOK = f"{PROJECT}/webhook"
ADMIN_KEYS = "/v1/organization/admin_api_keys"
AUDIT_LOGS = "/v1/organization/audit_logs"
OPERATIONS = [
    ("POST", GENERATIONS),
    ("POST", "/v1/images/edits"),
    ("POST", "/v1/images/variations"),
    ("GET", FILES),
    ("HEAD", FILES),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("GET", "/v1/organization/usage/images"),
    ("GET", "/v1/organization/costs"),
    ("POST", f"{NATIVE}/images/generations"),
    ("POST", f"{NATIVE}/async/images/generations"),
    ("GET", f"{NATIVE}/async-result/{{task_id}}"),
    ("POST", PROJECTS),
    ("GET", PROJECTS),
    ("GET", PROJECT),
    ("POST", PROJECT),
    ("POST", f"{PROJECT}/archive"),
    ("GET", f"{PROJECT}/api_keys"),
    ("GET", f"{PROJECT}/api_keys/{{key_id}}"),
    ("POST", f"{PROJECT}/api_keys/{{key_id}}"),
    ("DELETE", f"{PROJECT}/api_keys/{{key_id}}"),
    ("GET", f"{PROJECT}/limits"),
    ("POST", f"{PROJECT}/limits"),
    ("GET", f"{PROJECT}/api_keys/{{key_id}}/limits"),
    ("POST", f"{PROJECT}/api_keys/{{key_id}}/limits"),
    ("GET", f"{PROJECT}/rate_limits"),
    ("POST", f"{PROJECT}/rate_limits/{{rate_limit_id}}"),
    *((method, f"{PROJECT}/spend_limit") for method in ("GET", "POST", "DELETE")),
    *((method, f"{PROJECT}/model_permissions") for method in ("GET", "POST", "DELETE")),
    *((method, "/v1/organization/spend_limit") for method in ("GET", "POST", "DELETE")),
    ("POST", ACCOUNTS),
    ("GET", ACCOUNTS),
    ("GET", f"{ACCOUNTS}/{{account_id}}"),
    ("POST", f"{ACCOUNTS}/{{account_id}}"),
    ("DELETE", f"{ACCOUNTS}/{{account_id}}"),
    ("POST", f"{ACCOUNTS}/{{account_id}}/api_keys"),
    ("POST", WEBHOOK),
    ("GET", WEBHOOK),
    ("DELETE", WEBHOOK),
    ("GET", f"{WEBHOOK}/deliveries"),
    ("POST", f"{WEBHOOK}/deliveries/{{delivery_id}}/redeliver"),
    ("POST", ADMIN_KEYS),
    ("GET", ADMIN_KEYS),
    ("GET", f"{ADMIN_KEYS}/{{key_id}}"),
    ("DELETE", f"{ADMIN_KEYS}/{{key_id}}"),
    *(("GET", path) for path in ("/healthz", "/health/liveliness", "/readyz", "/health/readiness")),
    ("GET", AUDIT_LOGS),
    ("GET", "/metrics"),
]
examples = settings(max_examples=max(200, settings().max_examples), suppress_health_check=list(HealthCheck))


def check(status, headers, content, method="POST"):
    """An answer is a success or an error of OpenAI's, and always has an id."""
    assert status < 500, content
    assert headers["x-request-id"].startswith("req_")
    if status < 400 or method == "HEAD":
        return
    assert headers["content-type"].partition(";")[0] == "application/json", content
    error = json.loads(content)["error"]
    assert {"message", "type", "param", "code"} <= set(error)
    assert error["message"]
    assert isinstance(error["message"], str)
    assert isinstance(error["type"], str)
    assert error["param"] is None or isinstance(error["param"], str)
    assert error["code"] is None or isinstance(error["code"], str)


def check_native(status, headers, content, method="POST"):
    """An answer on GLM's own path is a success or an error of GLM's, and always has an id."""
    assert status < 500, content
    assert re.fullmatch("[0-9]{14}[0-9a-f]{16}", headers["x-request-id"])
    if status < 400 or method == "HEAD":
        return
    assert headers["content-type"].partition(";")[0] == "application/json", content
    body = json.loads(content)
    assert set(body) <= {"error", "contentFilter"}
    assert set(body["error"]) == {"code", "message"}
    assert re.fullmatch("[0-9]{3,4}", body["error"]["code"])
    assert body["error"]["message"]


def check_of(path):
    return check_native if path.startswith(NATIVE) else check


def cheap(body):
    """A picture costs 20 ms: order two at most."""
    if isinstance(body, dict) and type(body.get("n")) is int and 2 < body["n"] <= 10:
        return {**body, "n": 2}
    return body


@pytest.fixture(scope="module")
def schema(shared_gateway):
    setup()
    hypothesis.core.RepresentationPrinter = RepresentationPrinter  # setup() has made failing examples invisible
    return schemathesis.openapi.from_url(f"{shared_gateway.url}/schema/openapi.json")


@pytest.fixture(scope="module")
def document(shared_gateway):
    return json.loads(shared_gateway.get("/schema/openapi.json")[2])


def test_the_document_has_every_operation(document):
    found = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert found == set(OPERATIONS)


@pytest.mark.parametrize("mode", schemathesis.GenerationMode)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_generated_case_makes_an_operation_fail(gateway, schema, method, path, mode):
    """Cases inside the document (positive) and beside it (negative), where the document leaves any room for them."""
    operation = schema[path][method]
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {ADMIN_KEY if '/organization/' in path else gateway.key}"

        @examples
        @given(case=operation.as_strategy(generation_mode=mode))
        def examine(case):
            case.body = cheap(case.body)
            response = case.call(session=session)
            check_of(path)(
                response.status_code,
                {name: values[0] for name, values in response.headers.items()},
                response.content,
                method,
            )

        examine()


def test_the_document_describes_the_body_of_a_generation(document):
    operation = document["paths"][GENERATIONS]["post"]
    described = operation["requestBody"]["content"]["application/json"]["schema"]
    assert operation["requestBody"]["required"] is True
    assert described["required"] == ["prompt"]
    assert set(described["properties"]) >= set(TYPES)


@pytest.mark.parametrize(
    ("path", "lists"),
    [
        (AUDIT_LOGS, {"project_ids[]", "event_types[]", "actor_ids[]", "resource_ids[]"}),
        ("/v1/organization/costs", {"group_by[]", "project_ids[]", "api_key_ids[]", "line_items[]"}),
        ("/v1/organization/usage/images", {"group_by[]", "models[]", "sizes[]", "sources[]", "user_ids[]"}),
    ],
)
def test_the_document_describes_the_lists_of_a_query(document, path, lists):
    described = {one["name"]: one["schema"] for one in document["paths"][path]["get"]["parameters"]}
    assert lists <= set(described)
    assert all(described[name] == {"type": "array", "items": {"type": "string"}} for name in lists)


@pytest.mark.parametrize(
    ("operation", "name", "sent", "status"),
    [
        (f"POST {GENERATIONS}", "", {"body": {"prompt": "a fox"}}, 200),
        (f"POST {GENERATIONS}", "", {"body": {}}, 400),
        (f"POST {GENERATIONS}", "", {"body": {"prompt": "a fox", "model": "gpt-4o"}}, 404),
        (f"POST {GENERATIONS}", "", {"body": {"prompt": "a fox"}, "headers": {"Authorization": "Bearer x"}}, 401),
        ("POST /v1/images/edits", "", {"body": {}}, 400),
        ("POST /v1/images/variations", "", {"body": {}}, 410),
        (f"GET {FILES}", "fox.png", {"headers": {}}, 403),
        ("GET /v1/models", "", {}, 200),
        ("GET /v1/models", "", {"headers": {"Authorization": "Bearer x"}}, 401),
        ("GET /v1/models/{model}", "dall-e-3", {}, 200),
        ("GET /v1/models/{model}", "gpt-4o", {}, 404),
        (f"POST {NATIVE}/images/generations", "", {"body": {"model": "glm-image", "prompt": "a fox"}}, 200),
        (f"POST {NATIVE}/images/generations", "", {"body": {}}, 400),
        (f"POST {NATIVE}/images/generations", "", {"headers": {"Authorization": "Bearer x"}}, 401),
        (f"POST {NATIVE}/async/images/generations", "", {"body": {"model": "glm-image", "prompt": "a fox"}}, 200),
        (f"GET {NATIVE}/async-result/{{task_id}}", "", {}, 400),
        (f"GET {PROJECTS}", "", ADMIN, 200),
        (f"GET {PROJECTS}", "", {}, 403),
        (f"POST {PROJECTS}", "", {**ADMIN, "body": {}}, 400),
        (f"GET {PROJECT}", "", ADMIN, 404),
        (f"GET {PROJECT}/api_keys", "", {"headers": {}}, 401),
        (f"DELETE {PROJECT}/api_keys/{{key_id}}", "", ADMIN, 404),
        (f"GET {WEBHOOK}", "", ADMIN, 404),
        (f"POST {WEBHOOK}", "", {**ADMIN, "body": {"thresholds": [0]}}, 400),
        (f"GET {WEBHOOK}/deliveries", "", {}, 403),
        (f"GET {AUDIT_LOGS}", "", ADMIN, 200),
        (f"GET {AUDIT_LOGS}", "", {}, 403),
        ("GET /healthz", "", {"headers": {}}, 200),
        ("GET /readyz", "", {"headers": {}}, 200),
        ("GET /metrics", "", {"headers": {}}, 200),
    ],
)
def test_every_status_is_in_the_document(gateway, document, operation, name, sent, status):
    method, path = operation.split()
    sent = {"headers": {"Authorization": f"Bearer {gateway.key}"}, **sent}
    answer = http(method, gateway.url + path.replace("{model}", name).replace("{name}", name), **sent)
    check_of(path)(*answer)
    assert answer[0] == status
    documented = document["paths"][path][method.lower()]["responses"]
    assert {str(status), f"{status // 100}XX", "default"} & set(documented)


def test_every_error_in_the_document_is_in_the_paths_words(document):
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status.startswith(("4", "5", "default")) and status != "503":
                    described = response["content"]["application/json"]["schema"]
                    while "$ref" in described:
                        described = document["components"]["schemas"][described["$ref"].rpartition("/")[2]]
                    filtered = {"contentFilter"} if path.startswith(NATIVE) else set()
                    assert set(described["properties"]) == {"error", *filtered}, operation["operationId"]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"prompt": "x"}, 200, None),
        ({"prompt": "\U0001f600" * 1000}, 200, None),
        ({"prompt": "\U0001f600" * 1001}, 400, "prompt"),
        ({"prompt": ""}, 400, "prompt"),
        ({"prompt": "\0"}, 200, None),
        ({"n": 10, "size": "512x512"}, 200, None),
        ({"n": 0}, 400, "n"),
        ({"n": 11}, 400, "n"),
        ({"n": 2**63}, 400, "n"),
        ({"n": -(10**400)}, 400, "n"),
        ({"n": 1.0}, 400, "n"),
        ({"size": "1x1"}, 200, None),
        ({"size": "99999x99999"}, 200, None),
        ({"size": "0x1"}, 400, "size"),
        ({"size": "100000x1"}, 400, "size"),
        ({"size": "auto", "quality": "auto", "background": "auto", "model": None}, 200, None),
        ({"quality": "ultra"}, 400, "quality"),
        ({"background": "transparent"}, 400, "background"),
        ({"model": "x" * 100_000}, 404, "model"),
        ({"user": "\0" * 10_000, "safety_identifier": "\U0001f600"}, 200, None),
        ({"stream": True, "partial_images": 3}, 200, None),
        ({f"unknown{number}": number for number in range(1000)}, 200, None),
    ],
)
def test_boundaries(gateway, body, status, param):
    answered, headers, content = gateway.post({"prompt": "a fox", **body})
    check(answered, headers, content)
    assert answered == status, content
    if status >= 400:
        assert json.loads(content)["error"]["param"] == param


def test_a_body_that_is_too_large(gateway):
    headers = {"Authorization": f"Bearer {gateway.key}"}
    body = {"prompt": "x" * 2**20}
    response = httpx.post(gateway.url + GENERATIONS, headers=headers, json=body, trust_env=False)
    check(response.status_code, response.headers, response.content)
    assert response.status_code == 413
    assert "1048576 bytes" in response.json()["error"]["message"]


values = st.none() | st.booleans() | st.integers(-1, 2) | st.integers() | st.floats() | st.text(max_size=10)
json_values = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from([*TYPES, *sorted(UNSUPPORTED)]) | st.text(max_size=10)
WORDS = ["auto", "hd", "url", "opaque", "512x512", "1024\u00d7768", "png", "dall-e-3", "cogview-4", "transparent"]
valid_bodies = st.fixed_dictionaries({"prompt": st.text(max_size=30)}).flatmap(
    lambda body: st.dictionaries(names, json_values | st.sampled_from(WORDS), max_size=4).map(
        lambda more: {**body, **more}
    )
)


def encoded(body):
    return json.dumps(cheap(body), ensure_ascii=True).encode()


def damaged(body, place, dirt, gap):
    content = encoded(body)
    place %= len(content) + 1
    return content[:place] + dirt + content[place + gap :]


BODIES = {
    "any bytes": st.binary(max_size=300),
    "any JSON": json_values.map(encoded),
    "any parameters": valid_bodies.map(encoded),
    "damaged JSON": st.builds(damaged, valid_bodies, st.integers(0, 1000), st.binary(max_size=3), st.integers(0, 3)),
}


@pytest.mark.parametrize("kind", BODIES)
def test_no_body_makes_a_generation_fail(gateway, kind):
    @examples
    @given(content=BODIES[kind])
    def examine(content):
        check(*gateway.post(content))
        check_native(*gateway.post(content, path=f"{NATIVE}/images/generations"))

    examine()


PREFIXES = ["/", "//", "/v1/", "/v1/models/", "/v1/images/", "/v1/v1/images/", "/v1/images/generations/", "/schema/"]
PREFIXES += [f"{NATIVE}/", f"{NATIVE}/async-result/", f"{NATIVE}/images/"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_no_path_makes_the_gateway_fail(gateway, method):
    """Nothing answers with HTML (design.md section 1, promise 4)."""

    @settings(examples, max_examples=50)
    @given(prefix=st.sampled_from(PREFIXES), rest=st.text(max_size=20))
    @example(prefix="/schema/", rest="nothing")
    @example(prefix="/", rest="")
    def examine(prefix, rest):
        headers = {"Authorization": f"Bearer {gateway.key}"}
        path = prefix + quote(rest, safe="")
        check_of(prefix)(*http(method, gateway.url + path, headers=headers, body=b"{}"), method)

    examine()
