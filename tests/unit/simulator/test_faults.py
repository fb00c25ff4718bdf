"""Every fault of a call: what the caller sees, and whether a picture was made."""
# ruff: noqa: RUF001 - the upstream's own words

import pytest

from gateway.simulator.switchboard import KINDS
from gateway.simulator.texts import TABLE
from tests.unit.simulator.serving import KEY_ID, OTHER_KEY, SYNC, a_body

pytestmark = pytest.mark.anyio

REFUSALS = {
    "missing_header": ({}, 401, "1001"),
    "expired_jwt": ({}, 401, "1003"),
    "wrong_key": ({}, 401, "401"),
    "wrong_model": ({}, 400, "1211"),
    "long_prompt": ({}, 400, "1261"),
    "bad_size": ({}, 400, "1214"),
    "unsigned_watermark": ({}, 400, "1210"),
    "duplicate_request_id": ({}, 400, "1231"),
    "no_balance": ({}, 429, "1113"),
    "concurrency": ({}, 429, "1302"),
    "frequency": ({}, 429, "1303"),
    "overloaded": ({}, 429, "1305"),
    "moderation": ({}, 400, "1301"),
    "network_error": ({}, 500, "1234"),
    "error": ({"code": "1220"}, 403, "1220"),
    "error_in_200": ({"code": "1302"}, 200, "1302"),
    "int_code": ({}, 429, 1305),
}


async def switch(client, *faults):
    response = await client.post("/_simulator/faults", json=list(faults))
    assert response.status_code == 200, response.text
    return response.json()


async def stats(client):
    return (await client.get("/_simulator/stats")).json()


@pytest.mark.parametrize("kind", REFUSALS)
async def test_a_refusal_strikes_as_often_as_told(simulator, kind):
    params, status, code = REFUSALS[kind]
    await switch(simulator, {"kind": kind, "times": 2, **params})
    responses = [await simulator.post(SYNC, json=a_body(watermark_enabled=False)) for _ in range(3)]
    assert [response.status_code for response in responses] == [status, status, 200]
    assert responses[0].json()["error"]["code"] == code
    assert (await stats(simulator))["images"] == 1
    assert (await simulator.get("/_simulator/faults")).json() == []


@pytest.mark.parametrize("code", TABLE)
async def test_every_code_of_the_table_can_be_had(simulator, code):
    await switch(simulator, {"kind": "error", "code": code})
    response = await simulator.post(SYNC, json=a_body())
    assert response.status_code == TABLE[code].status
    assert response.json()["error"]["code"] == code
    assert "{" not in response.json()["error"]["message"]


async def test_an_error_can_say_anything(simulator):
    await switch(simulator, {"kind": "error", "code": "9999", "status": 418, "message": "short and stout"})
    response = await simulator.post(SYNC, json=a_body())
    assert (response.status_code, response.json()) == (418, {"error": {"code": "9999", "message": "short and stout"}})


async def test_a_network_error_names_its_request(simulator):
    await switch(simulator, {"kind": "network_error"})
    body = (await simulator.post(SYNC, json=a_body(request_id="r-1"))).json()
    assert body == {"error": {"code": "1234", "message": "网络错误，错误id：r-1，请联系客服。"}, "request_id": "r-1"}


async def test_other_answers_under_200(simulator):
    await switch(simulator, {"kind": "failure_in_200", "times": 1}, {"kind": "error_in_200"})
    first = await simulator.post(SYNC, json=a_body())
    assert (first.status_code, list(first.json())) == (200, ["code", "msg", "success"])
    assert (first.json()["code"], first.json()["success"]) == (401, False)
    second = await simulator.post(SYNC, json=a_body())
    assert (second.status_code, list(second.json())) == (200, ["error"])


@pytest.mark.parametrize(("status", "title"), [(502, "Bad Gateway"), (503, "Service"), (504, "Gateway Time-?out")])
@pytest.mark.parametrize("after", [False, True])
async def test_a_proxys_page(simulator, status, title, after):
    await switch(simulator, {"kind": "html_502", "status": status, "after": after})
    response = await simulator.post(SYNC, json=a_body())
    assert (response.status_code, response.headers["content-type"]) == (status, "text/html")
    assert response.text.startswith("<html>")
    assert (await stats(simulator))["images"] == int(after)


@pytest.mark.parametrize("kind", ["error", "network_error", "int_code", "error_in_200", "failure_in_200"])
async def test_an_error_can_come_after_the_picture_was_made(simulator, kind):
    await switch(simulator, {"kind": kind, "after": True})
    body = (await simulator.post(SYNC, json=a_body())).json()
    assert "data" not in body
    assert (await stats(simulator))["images"] == 1


@pytest.mark.parametrize(
    ("code", "message"), [("1211", "模型不存在，请检查模型代码。"), ("1214", "modelCode: does not exist")]
)
async def test_an_unknown_model_is_said_in_either_way(simulator, code, message):
    await switch(simulator, {"kind": "wrong_model", "code": code})
    assert (await simulator.post(SYNC, json=a_body())).json() == {"error": {"code": code, "message": message}}


async def test_a_size_can_fall_back_without_a_word(simulator):
    await switch(simulator, {"kind": "bad_size", "mode": "fallback"})
    assert (await simulator.post(SYNC, json=a_body(size="1024x1024"))).status_code == 200
    assert (await simulator.get("/_simulator/images")).json()[0]["size"] == "1280x1280"


async def test_a_prompt_limit_can_be_lower(simulator):
    await switch(simulator, {"kind": "long_prompt", "limit": 3, "code": "1214"})
    assert (await simulator.post(SYNC, json=a_body(prompt="abc"))).status_code == 200
    assert (await simulator.post(SYNC, json=a_body(prompt="abcd"))).json()["error"]["code"] == "1214"


async def test_an_unsigned_watermark_can_do_nothing(simulator):
    await switch(simulator, {"kind": "unsigned_watermark", "mode": "ignore"})
    assert (await simulator.post(SYNC, json=a_body(watermark_enabled=False))).status_code == 200
    assert (await simulator.get("/_simulator/images")).json()[0]["watermark"] is True


@pytest.mark.parametrize(("role", "level"), [("user", 0), ("assistant", 1), ("history", 1)])
async def test_moderation_refuses_severe_findings_by_keyword(simulator, role, level):
    await switch(simulator, {"kind": "moderation", "role": role, "level": level, "prompt_contains": "blood"})
    assert (await simulator.post(SYNC, json=a_body())).status_code == 200
    response = await simulator.post(SYNC, json=a_body(prompt="a bloody mess"))
    assert response.status_code == 400
    assert list(response.json()) == ["contentFilter", "error"]
    assert response.json()["contentFilter"] == [{"level": level, "role": role}]
    assert response.json()["error"]["code"] == "1301"
    assert response.json()["error"]["message"].startswith("系统检测到输入或生成内容可能包含不安全或敏感内容")
    assert (await stats(simulator))["images"] == 1


@pytest.mark.parametrize(("role", "spends"), [("user", False), ("assistant", True)])
async def test_moderation_of_the_output_takes_a_generations_time(a_simulator, role, spends):
    async with a_simulator(latency=0.05) as client:
        await switch(client, {"kind": "moderation", "role": role})
        await client.post(SYNC, json=a_body())
        assert (await stats(client))["max_in_flight"] == int(spends)


async def test_mild_findings_pass_with_a_warning(simulator):
    await switch(simulator, {"kind": "moderation", "role": "assistant", "level": 3})
    body = (await simulator.post(SYNC, json=a_body())).json()
    assert list(body) == ["content_filter", "created", "data", "id", "request_id"]
    assert body["content_filter"] == [{"level": 3, "role": "assistant"}]


async def test_slow_replaces_the_latency(a_simulator):
    async with a_simulator(latency=60.0) as client:
        await switch(client, {"kind": "slow", "seconds": 0.05, "jitter": 0.05})
        assert (await client.post(SYNC, json=a_body())).status_code == 200


async def test_a_fault_is_for_the_calls_it_names(simulator):
    await switch(simulator, {"kind": "overloaded", "key_id": KEY_ID, "prompt_contains": "猫"})
    assert (await simulator.post(SYNC, json=a_body())).status_code == 429
    assert (await simulator.post(SYNC, json=a_body(prompt="dog"))).status_code == 200
    other = {"Authorization": f"Bearer {OTHER_KEY}"}
    assert (await simulator.post(SYNC, json=a_body(), headers=other)).status_code == 200


async def test_a_fault_strikes_with_its_probability(simulator):
    await switch(simulator, {"kind": "overloaded", "probability": 0.0}, {"kind": "no_balance", "probability": 0.5})
    codes = {(await simulator.post(SYNC, json=a_body(size="512x512"))).status_code for _ in range(40)}
    assert codes == {200, 429}  # one of the two is missing once in 2**39 runs


async def test_faults_are_listed_with_the_times_that_are_left(simulator):
    await switch(simulator, {"kind": "overloaded", "times": 2})
    await simulator.post(SYNC, json=a_body())
    (fault,) = await active(simulator)
    assert fault == {"kind": "overloaded", "times": 1, "probability": 1.0, "prompt_contains": None, "key_id": None}
    assert (await simulator.delete("/_simulator/faults")).status_code == 204
    assert await active(simulator) == []


async def active(client):
    return (await client.get("/_simulator/faults")).json()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"kind": "gremlins"}, "gremlins"),
        ({"times": 1}, "kind"),
        ({"kind": "slow", "speed": 1}, "speed"),
        ({"kind": "slow", "seconds": -1}, "seconds"),
        ({"kind": "error", "code": "77"}, "77"),
        ([{"kind": "overloaded"}, {"kind": "gremlins"}], "gremlins"),
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused_with_the_list_of_kinds(simulator, fault, says):
    response = await simulator.post("/_simulator/faults", json=fault)
    assert response.status_code == 400
    assert says in response.json()["error"]
    assert set(response.json()["kinds"]) == set(KINDS)
    assert response.json()["kinds"]["html_502"] == [
        "after",
        "status",
        "times",
        "probability",
        "prompt_contains",
        "key_id",
    ]
    assert await active(simulator) == []


async def test_reset_forgets_everything(simulator):
    url = (await simulator.post(SYNC, json=a_body())).json()["data"][0]["url"]
    await switch(simulator, {"kind": "overloaded"})
    assert (await simulator.post("/_simulator/reset")).status_code == 204
    assert await stats(simulator) == {"calls": 0, "images": 0, "in_flight": 0, "max_in_flight": 0}
    for path in ("images", "calls", "faults"):
        assert (await simulator.get(f"/_simulator/{path}")).json() == []
    assert (await simulator.get(url)).status_code == 404
