"""What a good call gets."""

import hashlib
import io
import json
import re
import time
from datetime import datetime, timedelta, timezone

import pytest
from PIL import Image

from tests.unit.simulator.serving import BEARER, KEY, KEY_ID, SYNC, a_body

pytestmark = pytest.mark.anyio


async def test_the_answer_has_exactly_the_documented_keys_in_order(simulator):
    before = int(time.time())
    response = await simulator.post(SYNC, json=a_body())
    body = response.json()
    assert response.status_code == 200
    assert list(body) == ["created", "data", "id", "request_id"]
    assert before <= body["created"] <= time.time()
    assert [list(element) for element in body["data"]] == [["url"]]
    assert body["id"] == body["request_id"]
    beijing = datetime.fromtimestamp(body["created"], timezone(timedelta(hours=8))).strftime("%Y%m%d%H%M%S")
    assert re.fullmatch(beijing + "[0-9a-f]{16}", body["id"])


async def test_the_answer_sets_the_waf_cookie_and_varies_by_origin(simulator):
    response = await simulator.post(SYNC, json=a_body())
    assert response.headers["content-type"] == "application/json"
    assert re.fullmatch(r"acw_tc=[0-9a-f]+;path=/;HttpOnly;Max-Age=1800", response.headers["set-cookie"])
    assert response.headers.get_list("vary") == [
        "Origin",
        "Access-Control-Request-Method",
        "Access-Control-Request-Headers",
    ]


async def test_created_is_the_start_of_the_request(a_simulator):
    async with a_simulator(latency=1.1) as client:
        before = int(time.time())
        body = (await client.post(SYNC, json=a_body())).json()
        assert body["created"] - before <= 1
        assert time.time() - body["created"] >= 1.1


@pytest.mark.parametrize("size", ["1280x1280", "960x1728", "512x2048", "2048x2048"])
async def test_the_picture_has_exactly_the_asked_size(simulator, size):
    url = (await simulator.post(SYNC, json=a_body(size=size))).json()["data"][0]["url"]
    response = await simulator.get(url)
    assert response.headers["content-type"] == "image/png"
    with Image.open(io.BytesIO(response.content)) as picture:
        assert (picture.format, "{}x{}".format(*picture.size)) == ("PNG", size)


async def test_two_pictures_of_one_prompt_differ(simulator):
    urls = [(await simulator.post(SYNC, json=a_body())).json()["data"][0]["url"] for _ in range(2)]
    first, second = [(await simulator.get(url)).content for url in urls]
    assert first != second
    with Image.open(io.BytesIO(first)) as one, Image.open(io.BytesIO(second)) as two:
        assert one.tobytes() != two.tobytes()


@pytest.mark.parametrize("watermark", [True, False])
async def test_a_watermark_is_in_the_name_and_in_the_metadata(simulator, watermark):
    answer = (await simulator.post(SYNC, json=a_body(watermark_enabled=watermark))).json()
    url = answer["data"][0]["url"]
    assert (f"/files/{answer['id']}_watermark.png?" in url) is watermark
    with Image.open(io.BytesIO((await simulator.get(url)).content)) as picture:
        assert picture.text["id"] == answer["id"]
        assert ("AIGC" in picture.text) is watermark
        assert not watermark or json.loads(picture.text["AIGC"])["ProduceID"] == answer["id"]


async def test_fields_outside_the_schema_are_ignored(simulator):
    body = a_body(n=4, response_format="b64_json", style="vivid", foo_bar=[1], quality="hd", user_id=None)
    response = await simulator.post(SYNC, json=body)
    assert response.status_code == 200
    assert len(response.json()["data"]) == 1


async def test_a_supplied_request_id_is_echoed(simulator):
    body = (await simulator.post(SYNC, json=a_body(request_id="mine-1"))).json()
    assert body["request_id"] == "mine-1"
    assert body["id"] != "mine-1"


@pytest.mark.parametrize("model", ["cogview-4-250304", "cogview-4", "cogview-3-flash"])
async def test_cogview_has_its_own_default_size(simulator, model):
    assert (await simulator.post(SYNC, json=a_body(model=model, quality="standard"))).status_code == 200
    (picture,) = (await simulator.get("/_simulator/images")).json()
    assert (picture["model"], picture["size"]) == (model, "1024x1024")


async def test_every_picture_is_recorded(simulator):
    url = (await simulator.post(SYNC, json=a_body(user_id="end-user"))).json()["data"][0]["url"]
    png = (await simulator.get(url, headers={"Authorization": ""})).content
    (picture,) = (await simulator.get("/_simulator/images")).json()
    assert picture == {
        "id": picture["id"],
        "prompt": "一只猫",
        "size": "1280x1280",
        "sha256": hashlib.sha256(png).hexdigest(),
        "url": url,
        "user_id": "end-user",
        "key_id": KEY_ID,
        "model": "glm-image",
        "watermark": True,
        "fetches": 1,
        "authorized_fetches": 1,
    }


async def test_calls_are_recorded_without_the_secret(simulator):
    await simulator.post(SYNC, json=a_body(n=2), headers={"X-Trace": "7"})
    await simulator.post(SYNC, content=b"{not json", headers={"Authorization": "nonsense"})
    response = await simulator.get("/_simulator/calls")
    first, second = response.json()
    assert (first["path"], first["body"]) == (SYNC, a_body(n=2))
    assert (first["headers"]["authorization"], first["headers"]["x-trace"]) == (KEY_ID, "7")
    assert (second["headers"]["authorization"], second["body"]) == ("", "{not json")
    assert KEY.partition(".")[2] not in response.text


async def test_a_refused_call_takes_no_slot(a_simulator):
    async with a_simulator() as client:
        assert (await client.post(SYNC, json=a_body(size="1x1"))).status_code == 400
        assert (await client.post(SYNC, json=a_body(), headers=BEARER)).status_code == 200


async def test_other_paths_do_not_exist(simulator):
    for path in ("/api/coding/paas/v4/images/generations", "/v1/images/generations", "/files/none.png"):
        assert (await simulator.post(path, json=a_body())).status_code in {404, 405}
    assert (await simulator.get("/_simulator/stats")).json()["calls"] == 0
