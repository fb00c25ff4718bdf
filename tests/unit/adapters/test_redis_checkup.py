"""Which servers are new enough, by what they say of themselves."""

import pytest

from gateway.adapters.redis.checkup import judged
from gateway.domain.checkup import Verdict

SAID = {
    "redis 6.2": ({"redis_version": "6.2.14"}, Verdict.WRONG, "Redis 6.2.14"),
    "redis 7.0": ({"redis_version": "7.0.0"}, Verdict.OK, "Redis 7.0.0"),
    "redis 8.2": ({"redis_version": "8.2.1"}, Verdict.OK, "Redis 8.2.1"),
    "valkey": (
        {"redis_version": "7.2.4", "server_name": "valkey", "valkey_version": "9.0.0"},
        Verdict.OK,
        "Valkey 9.0.0",
    ),
    "silence": ({}, Verdict.WARNING, "does not tell"),
}


@pytest.mark.parametrize(("facts", "verdict", "said"), SAID.values(), ids=SAID)
def test_a_version(facts, verdict, said):
    found = judged(facts, "redis://host")
    assert found.verdict is verdict
    assert said in found.said
