"""The systemd unit: what systemd itself says of it, and what it promises."""

import re
import sys
from pathlib import Path

import pytest

from gateway.settings import load
from tests.deploy.tools import DEPLOY, run, tool

UNIT = DEPLOY / "systemd" / "glm-gateway@.service"
EXPOSURE = 20  # of 100, as systemd-analyze counts; a unit without any measures has 96


@pytest.fixture
def unit(tmp_path):
    """The unit as an instance, with a program that exists."""
    copy = tmp_path / "glm-gateway@8000.service"
    copy.write_text(UNIT.read_text("utf-8").replace("/opt/glm-gateway/bin/glm-gateway", sys.executable), "utf-8")
    return copy


def test_systemd_has_nothing_to_say(unit):
    """It ends well whatever it finds, so its words count."""
    assert run(tool("systemd-analyze"), "verify", unit) == (0, "")


def test_systemd_would_have_named_an_unknown_word(unit):
    unit.write_text(unit.read_text("utf-8").replace("ProtectHome=", "ProtectHouse="), "utf-8")
    assert "ProtectHouse" in run(tool("systemd-analyze"), "verify", unit)[1]


def test_the_service_is_shut_in(unit):
    code, said = run(tool("systemd-analyze"), "security", "--offline=true", f"--threshold={EXPOSURE}", unit)
    assert code == 0, said


def test_the_gateway_takes_its_settings(tmp_path):
    """The files lie elsewhere here; what stands in comments is used as well."""
    text = (UNIT.parent / "environment").read_text("utf-8").replace("/etc/glm-gateway", str(tmp_path))
    secrets = {"zhipuai_api_key": "id.secret", "secret_key": "s" * 64, "admin_key": "sk-admin-0123456789abcdef"}
    secrets |= {"redis_url": "redis://redis", "database_url": "postgresql://gateway@postgres/gateway"}
    for name, content in secrets.items():
        (tmp_path / name).write_text(content, "utf-8")
    settings = load(dict(re.findall(r"^(?:# )?([A-Z_]+)=(\S+)$", text, re.MULTILINE)))
    assert settings.data_dir == Path("/var/lib") / "glm-gateway"
    assert settings.database.url.reveal() == secrets["database_url"]
    assert settings.upstreams[0].api_key.reveal() == "id.secret"


def test_a_gateway_has_longer_to_stop_than_its_pictures():
    stop = float(re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text("utf-8"), re.MULTILINE)[1])
    assert stop >= load({}).server.drain_seconds + 30
