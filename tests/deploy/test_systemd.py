"""The systemd unit: what systemd itself says of it, and what it promises."""

import re
import sys

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
    text = UNIT.read_text("utf-8")
    for line in re.findall(r"^LoadCredential=(\w+):", text, re.MULTILINE):
        known = {"admin_key": "sk-admin-0123456789abcdef", "secret_key": "s" * 64}
        (tmp_path / line).write_text(known.get(line, "id.secret"), "utf-8")
    words = " ".join(re.findall(r"^Environment=(.*)$", text, re.MULTILINE))
    for short, long in (("%i", "8001"), ("%S", str(tmp_path)), ("%d", str(tmp_path))):
        words = words.replace(short, long)
    settings = load(dict(word.split("=", 1) for word in words.split()))
    assert (settings.server.port, settings.data_dir) == (8001, tmp_path / "glm-gateway")
    assert settings.upstreams[0].api_key.reveal() == "id.secret"


def test_a_gateway_has_longer_to_stop_than_its_pictures():
    stop = float(re.search(r"^TimeoutStopSec=(\d+)$", UNIT.read_text("utf-8"), re.MULTILINE)[1])
    assert stop >= load({}).server.drain_seconds + 30
