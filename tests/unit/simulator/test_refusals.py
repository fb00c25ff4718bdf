"""What a bad call gets, in the words of either platform, and the order of the checks."""
# ruff: noqa: RUF001 - the upstream's own words

import pytest

from tests.unit.simulator.serving import ASYNC, SYNC, a_body

pytestmark = pytest.mark.anyio

BAD_BODIES = {
    "no object": ([1], "1210", "API 调用参数有误，请检查文档。"),
    "no model": (a_body(model=None), "1213", "未正常接收到model参数。"),
    "no prompt": (a_body(prompt=None), "1213", "未正常接收到prompt参数。"),
    "empty prompt": (a_body(prompt=""), "1213", "未正常接收到prompt参数。"),
    "prompt of a wrong type": (a_body(prompt=7), "1214", "prompt 参数非法。请检查文档。"),
    "unknown model": (a_body(model="dall-e-3"), "1211", "模型不存在，请检查模型代码。"),
    "long prompt": (a_body(prompt="汉" * 1001), "1261", "Prompt 超长"),
    "too small": (a_body(size="256x256"), "1214", "size 参数非法。请检查文档。"),
    "no multiple of 32": (a_body(size="1000x1000"), "1214", "size 参数非法。请检查文档。"),
    "too large": (a_body(size="2080x1024"), "1214", "size 参数非法。请检查文档。"),
    "typographic times": (a_body(size="1280×1280"), "1214", "size 参数非法。请检查文档。"),
    "auto": (a_body(size="auto"), "1214", "size 参数非法。请检查文档。"),
    "size of a wrong type": (a_body(size=1024), "1214", "size 参数非法。请检查文档。"),
    "cogview beyond its pixels": (a_body(model="cogview-4", size="2048x1040"), "1214", "size 参数非法。请检查文档。"),
    "standard on an hd model": (a_body(quality="standard"), "1214", "quality 参数非法。请检查文档。"),
    "OpenAI's quality": (a_body(quality="high"), "1214", "quality 参数非法。请检查文档。"),
    "watermark as text": (a_body(watermark_enabled="no"), "1214", "watermark_enabled 参数非法。请检查文档。"),
    "short user_id": (a_body(user_id="12345"), "1214", "user_id 参数非法。请检查文档。"),
    "long user_id": (a_body(user_id="u" * 129), "1214", "user_id 参数非法。请检查文档。"),
}


@pytest.mark.parametrize("path", [SYNC, ASYNC])
@pytest.mark.parametrize("case", BAD_BODIES)
async def test_a_bad_body_is_refused_in_the_upstreams_words(simulator, path, case):
    body, code, message = BAD_BODIES[case]
    response = await simulator.post(path, json=body)
    assert response.status_code == 400
    known = {"cogview beyond its pixels"} if path == ASYNC else set()
    if case in known:
        code, message = "1211", "模型不存在，请检查模型代码。"
    assert response.json() == {"error": {"code": code, "message": message}}


async def test_what_is_no_json_is_refused(simulator):
    response = await simulator.post(SYNC, content=b'{"model":')
    assert (response.status_code, response.json()["error"]["code"]) == (400, "1210")


async def test_limits_count_code_points(simulator):
    assert (await simulator.post(SYNC, json=a_body(prompt="𠮷" * 1000, user_id="u" * 128))).status_code == 200


EN_BODIES = {
    "unknown model": (a_body(model="cogview-3-flash"), "1214", "modelCode: does not exist"),
    "no prompt": (a_body(prompt=None), "1213", "The prompt parameter was not received properly."),
    "long prompt": (a_body(prompt="a" * 1001), "1261", "Prompt exceeds max length"),
    "size": (a_body(size="1x1"), "1214", "size is invalid. Please check the documentation."),
}


@pytest.mark.parametrize("case", EN_BODIES)
async def test_zai_says_it_in_english(a_simulator, case):
    body, code, message = EN_BODIES[case]
    async with a_simulator(language="en") as client:
        response = await client.post(SYNC, json=body)
    assert (response.status_code, response.json()) == (400, {"error": {"code": code, "message": message}})


async def test_zai_does_not_know_the_watermark_field(a_simulator):
    async with a_simulator(language="en") as client:
        await client.post(SYNC, json=a_body(watermark_enabled=False))
        assert (await client.get("/_simulator/images")).json()[0]["watermark"] is True


CHOICES = {
    "bad size becomes the default": ({"bad_size": "fallback"}, {"size": "1x1"}, "1280x1280"),
    "long prompt by another code": ({"long_prompt": "1214"}, {"prompt": "a" * 1001}, "1214"),
    "long prompt accepted": ({"long_prompt": "accept"}, {"prompt": "a" * 3000}, "1280x1280"),
    "standard made as hd": ({"standard_quality": "hd"}, {"quality": "standard"}, "1280x1280"),
    "a custom size under the stricter document": ({"smallest_side": 1024}, {"size": "992x1024"}, "1214"),
    "a recommended size under it": ({"smallest_side": 1024}, {"size": "960x1728"}, "960x1728"),
    "unsigned watermark refused": ({"unsigned_watermark": "error"}, {"watermark_enabled": False}, "1210"),
    "unsigned watermark ignored": ({"unsigned_watermark": "ignore"}, {"watermark_enabled": False}, "1280x1280"),
}


@pytest.mark.parametrize("case", CHOICES)
async def test_undocumented_choices_are_switchable(a_simulator, case):
    options, fields, outcome = CHOICES[case]
    async with a_simulator(**options) as client:
        response = await client.post(SYNC, json=a_body(**fields))
        pictures = (await client.get("/_simulator/images")).json()
    seen = pictures[0]["size"] if pictures else response.json()["error"]["code"]
    assert seen == outcome
    assert response.status_code == (200 if pictures else 400)


async def test_checks_come_in_the_documented_order(simulator):
    """Each step mends what the step before it refused."""
    await simulator.post("/_simulator/faults", json=[{"kind": "no_balance"}, {"kind": "moderation"}])
    steps = [
        ({"Authorization": ""}, a_body(model="x", prompt=None), "1001"),
        ({"Authorization": "Bearer x.y"}, a_body(model="x", prompt=None), "401"),
        ({}, a_body(model="x", prompt=None), "1213"),
        ({}, a_body(model="x", size="1x1"), "1211"),
        ({}, a_body(size="1x1"), "1214"),
        ({}, a_body(), "1113"),
    ]
    for headers, body, code in steps:
        response = await simulator.post(SYNC, json=body, headers=headers)
        assert response.json()["error"]["code"] == code
    await simulator.delete("/_simulator/faults")
    await simulator.post("/_simulator/faults", json=[{"kind": "moderation"}, {"kind": "concurrency", "times": 1}])
    codes = [(await simulator.post(SYNC, json=a_body())).json()["error"]["code"] for _ in range(2)]
    assert codes == ["1302", "1301"]
