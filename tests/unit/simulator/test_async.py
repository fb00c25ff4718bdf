"""The asynchronous twin and its polls."""

import asyncio

import pytest

from tests.unit.simulator.serving import ASYNC, BASE, OTHER_KEY, SYNC, a_body

pytestmark = pytest.mark.anyio


async def submit(client, **fields):
    response = await client.post(ASYNC, json=a_body(**fields))
    assert response.status_code == 200, response.text
    return response.json()


async def poll(client, job, **options):
    return await client.get(f"{BASE}/async-result/{job['id']}", **options)


async def finished(client, job):
    for _ in range(500):
        if (body := (await poll(client, job)).json())["task_status"] != "PROCESSING":
            return body
        await asyncio.sleep(0.01)
    raise AssertionError("the job never ended")


async def a_picture_is_made(client):
    for _ in range(500):
        if (await client.get("/_simulator/stats")).json()["images"]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("no picture was made")


async def test_a_job_is_processing_until_its_latency_is_over(a_simulator):
    async with a_simulator(latency=0.2) as client:
        job = await submit(client)
        assert list(job) == ["model", "id", "request_id", "task_status"]
        assert (job["model"], job["task_status"], job["id"]) == ("glm-image", "PROCESSING", job["request_id"])
        assert (await poll(client, job)).json() == {
            "model": "glm-image",
            "task_status": "PROCESSING",
            "request_id": job["id"],
        }
        body = await finished(client, job)
        assert list(body) == ["model", "task_status", "image_result", "request_id"]
        (image,) = body["image_result"]
        assert (await client.get(image["url"])).content.startswith(b"\x89PNG")


async def test_a_job_takes_the_keys_slot(a_simulator):
    async with a_simulator(latency=0.2) as client:
        job = await submit(client)
        assert (await client.post(SYNC, json=a_body())).json()["error"]["code"] == "1302"
        await finished(client, job)
        assert (await client.post(SYNC, json=a_body())).status_code == 200


async def test_only_glm_image_is_asynchronous(simulator):
    response = await simulator.post(ASYNC, json=a_body(model="cogview-4"))
    assert (response.status_code, response.json()["error"]["code"]) == (400, "1211")


async def test_a_job_is_seen_by_its_own_key_only(simulator):
    job = await submit(simulator)
    other = await poll(simulator, job, headers={"Authorization": f"Bearer {OTHER_KEY}"})
    nobody = await poll(simulator, job, headers={"Authorization": ""})
    unknown = await poll(simulator, {"id": "0"})
    assert [other.status_code, nobody.status_code, unknown.status_code] == [400, 401, 400]


async def test_a_job_can_stay_processing(simulator):
    await simulator.post("/_simulator/faults", json={"kind": "stay_processing", "polls": 2, "times": 1})
    job = await submit(simulator)
    await a_picture_is_made(simulator)
    statuses = [(await poll(simulator, job)).json()["task_status"] for _ in range(4)]
    assert statuses == ["PROCESSING", "PROCESSING", "SUCCESS", "SUCCESS"]


@pytest.mark.parametrize("message", [None, "生成失败"])
async def test_a_job_can_fail_without_a_picture(simulator, message):
    await simulator.post("/_simulator/faults", json={"kind": "fail", "message": message})
    body = await finished(simulator, await submit(simulator))
    assert body["task_status"] == "FAIL"
    assert body.get("error", {}).get("message") == message
    assert (await simulator.get("/_simulator/stats")).json()["images"] == 0


async def test_moderation_of_a_job(simulator):
    await simulator.post("/_simulator/faults", json={"kind": "moderation", "role": "user", "times": 1})
    assert (await simulator.post(ASYNC, json=a_body())).json()["error"]["code"] == "1301"
    await simulator.post("/_simulator/faults", json={"kind": "moderation", "role": "assistant", "times": 1})
    failed = await finished(simulator, await submit(simulator))
    assert (failed["task_status"], failed["contentFilter"]) == ("FAIL", [{"level": 1, "role": "assistant"}])
    await simulator.post("/_simulator/faults", json={"kind": "moderation", "level": 3, "times": 1})
    passed = await finished(simulator, await submit(simulator))
    assert (passed["task_status"], passed["content_filter"]) == ("SUCCESS", [{"level": 3, "role": "user"}])


async def test_an_answer_lost_on_the_way_leaves_the_job_running(simulator):
    await simulator.post("/_simulator/faults", json={"kind": "html_502", "after": True})
    assert (await simulator.post(ASYNC, json=a_body())).status_code == 502
    await a_picture_is_made(simulator)
