"""Prometheus' files read by Prometheus, and every query read against what a used gateway shows."""

import importlib.util
import json
import re
import time

import promql_parser
import pytest
import yaml

from tests.deploy.tools import DEPLOY, succeed, tool
from tests.servers import http

PROMETHEUS = DEPLOY / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RUNBOOKS = (DEPLOY / "runbooks.md").read_text("utf-8")
OF_PROMETHEUS = {"up", "ALERTS"}


def rules():
    """Every rule of every group."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text("utf-8"))["groups"]]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
RECORDED = {rule["record"]: rule["expr"] for rule in rules() if "record" in rule}


def panels():
    """Every panel of every dashboard."""
    boards = [json.loads(path.read_text("utf-8")) for path in DASHBOARDS]
    return [panel for board in boards for panel in board["panels"] if panel["type"] != "row"]


def queries():
    """Every expression, with what it is in. Grafana puts a time in place of its own variables."""
    shown = [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]
    ruled = [(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]
    return [(name, re.sub(r"\$__\w+", "5m", expr)) for name, expr in [*ruled, *shown]]


def metrics_of(expr):
    """The names of the series that an expression selects."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    return set(re.findall(r"\b(?:glm_gateway[a-z0-9_:]*|up|ALERTS)\b(?!\s*\()", bare))


def test_prometheus_takes_its_configuration():
    said = succeed(tool("promtool"), "check", "config", "--lint-fatal", PROMETHEUS / "prometheus.yml")
    assert "SUCCESS" in said


def test_prometheus_takes_every_rule():
    assert len(RULES) >= 2
    for path in RULES:
        succeed(tool("promtool"), "check", "rules", "--lint-fatal", path)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_rules_say_what_they_should(path):
    assert "SUCCESS" in succeed(tool("promtool"), "test", "rules", path)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_is_seen_to_fire_and_to_keep_silent(alert):
    cases = [test for path in TESTS for test in yaml.safe_load(path.read_text("utf-8"))["tests"]]
    asked = [case for test in cases for case in test["promql_expr_test"] if f'alertname="{alert}"' in case["expr"]]
    assert {bool(case.get("exp_samples")) for case in asked} == {True, False}


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_how_urgent_it_is_and_what_to_do(alert):
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert {"summary", "description", "runbook"} <= set(rule["annotations"])
    assert rule["annotations"]["runbook"] == f"deploy/runbooks.md#{alert.lower()}"
    steps = re.search(rf"(?ms)^### {alert}$(.*?)(?=^###? |\Z)", RUNBOOKS)
    assert f"`{rule['labels']['severity']}`" in steps[1]
    assert re.search(r"(?m)^(1\. |As \[)", steps[1])


def test_there_is_a_runbook_for_no_other_alert():
    assert set(re.findall(r"(?m)^### (\w+)$", RUNBOOKS)) == set(ALERTS)


@pytest.mark.parametrize(("name", "expr"), queries())
def test_a_query_can_be_read(name, expr):
    assert promql_parser.parse(expr), name


@pytest.fixture(scope="module")
def shown(shared_simulator, shared_gateway):
    """Every series' name that Prometheus would get of a gateway; a counter without events is known by its type."""
    assert shared_gateway.post({"prompt": f"metrics {time.monotonic()}"})[0] == 200
    text = http("GET", f"{shared_gateway.url}/metrics")[2].decode()
    types = re.findall(r"(?m)^# TYPE (\S+) (\S+)$", text)
    ends = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
    return {name + end for name, kind in types for end in ends[kind]}


@pytest.mark.parametrize(("name", "expr"), queries())
def test_a_query_asks_for_what_there_is(shown, name, expr):
    asked = metrics_of(expr)
    assert asked, name
    assert asked - shown - set(RECORDED) - OF_PROMETHEUS == set()


def test_what_is_recorded_is_asked_for():
    asked = {metric for _, expr in queries() for metric in metrics_of(expr)}
    assert set(RECORDED) <= asked


def test_the_dashboard_is_as_its_program_writes_it():
    spec = importlib.util.spec_from_file_location("dashboard", DEPLOY / "grafana" / "dashboard.py")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    assert program.FILE.read_text("utf-8") == program.build()
    assert program.FILE in DASHBOARDS
