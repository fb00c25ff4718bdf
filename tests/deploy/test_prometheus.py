"""Prometheus' files, read by Prometheus."""

from tests.deploy.tools import DEPLOY, succeed, tool


def test_prometheus_takes_its_configuration():
    said = succeed(tool("promtool"), "check", "config", "--lint-fatal", DEPLOY / "prometheus" / "prometheus.yml")
    assert "SUCCESS" in said


def test_prometheus_takes_every_rule():
    for rules in sorted((DEPLOY / "prometheus" / "rules").glob("*.yml")):
        succeed(tool("promtool"), "check", "rules", "--lint-fatal", rules)
