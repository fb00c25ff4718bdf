"""Whose keys are accepted, in which forms."""
# ruff: noqa: RUF001 - the upstream's own words

import time
import warnings

import jwt
import pytest

from tests.unit.simulator.serving import KEY, KEY_ID, OTHER_KEY, SYNC, a_body

pytestmark = pytest.mark.anyio

SECRET = KEY.partition(".")[2]
REFUSED = {"error": {"code": "401", "message": "令牌已过期或验证不正确"}}


def a_token(secret: str = SECRET, lives: float = 210, sign_type: str | None = "SIGN", **payload: object) -> str:
    now = int(time.time() * 1000)
    claims = {"api_key": KEY_ID, "exp": now + int(lives * 1000), "timestamp": now} | payload
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jwt.warnings.InsecureKeyLengthWarning)  # the upstream's secrets have 16 bytes
        return jwt.encode(claims, secret, "HS256", headers={"sign_type": sign_type} if sign_type else {})


@pytest.mark.parametrize("keys", [(), (OTHER_KEY, KEY)], ids=["any key", "named keys"])
@pytest.mark.parametrize("form", ["Bearer {key}", "bearer {key}", "Bearer {token}", "{token}"])
async def test_documented_forms_are_accepted(a_simulator, keys, form):
    header = form.format(key=KEY, token=a_token())
    async with a_simulator(keys=keys) as client:
        response = await client.post(SYNC, json=a_body(), headers={"Authorization": header})
        assert response.status_code == 200
        assert (await client.get("/_simulator/images")).json()[0]["key_id"] == KEY_ID
        assert (await client.get("/_simulator/calls")).json()[0]["headers"]["authorization"] == KEY_ID


@pytest.mark.parametrize(
    "header",
    [
        "Bearer sk-openai",
        "Bearer 123.456",
        f"Bearer {KEY.upper()}",
        KEY,
        "Bearer a.b.c",
        f"Bearer {a_token(sign_type=None)}",
        f"Bearer {a_token(api_key='short')}",
        f"Bearer {a_token(timestamp='now')}",
    ],
)
async def test_malformed_keys_are_refused(simulator, header):
    response = await simulator.post(SYNC, json=a_body(), headers={"Authorization": header})
    assert (response.status_code, response.json()) == (401, REFUSED)


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {OTHER_KEY}",
        f"Bearer {KEY[:-1]}9",
        f"Bearer {a_token('AnotherSecret123')}",
        f"Bearer {a_token(api_key=KEY_ID[::-1])}",
    ],
)
async def test_keys_that_are_not_named_are_refused(a_simulator, header):
    async with a_simulator(keys=(KEY,)) as client:
        response = await client.post(SYNC, json=a_body(), headers={"Authorization": header})
    assert (response.status_code, response.json()) == (401, REFUSED)


@pytest.mark.parametrize("claims", [{"lives": -1}, {"exp": int(time.time()) + 210}], ids=["old", "in seconds"])
async def test_a_token_ends_at_its_milliseconds(simulator, claims):
    response = await simulator.post(SYNC, json=a_body(), headers={"Authorization": a_token(**claims)})
    assert response.status_code == 401
    assert response.json()["error"] == {"code": "1003", "message": "Authentication Token 已过期，请重新生成/获取"}


async def test_no_header_has_its_own_code(simulator):
    simulator.headers.pop("Authorization")
    response = await simulator.post(SYNC, json=a_body())
    assert response.status_code == 401
    assert response.json()["error"] == {
        "code": "1001",
        "message": "Header 中未收到 Authentication 参数，无法进行身份验证",
    }
