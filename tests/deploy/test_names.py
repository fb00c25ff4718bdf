"""Every name in deploy/ is one of the product's: settings, metrics, paths, commands."""

import re

import msgspec
import pytest
from rich_click import Context

from gateway.cli import main
from gateway.settings import Settings
from gateway.settings.sources import _SECRETS, CONVENTIONAL, _place
from tests.deploy.tools import DEPLOY
from tests.servers import http

FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".json" and path.stat().st_size)
TEXT = {path.relative_to(DEPLOY): path.read_text("utf-8") for path in FILES if "secrets" not in path.parts}
FAMILIES = r"\b((?:GLM_GATEWAY|ZHIPUAI|ZAI)_[A-Z0-9_]*[A-Z0-9]|REDIS_URL|DATABASE_URL)(_FILE)?\b"
OF_ACCOUNTS = {f"{family}_{name}" for family in ("ZHIPUAI", "ZAI") for name in ("API_KEY", "BASE_URL", "CONCURRENCY")}
OTHER_TESTS = re.compile("^(prometheus|grafana)/|^runbooks")  # test_prometheus.py reads their queries
PATHS = (r"path: (/[a-z/]+)", r"location = (/\w+)", r"'GET', '(/\w+)'", r'list ((?:"/[^ ]+" ?)+)')


def found(pattern):
    """What matches anywhere in deploy/, and in which file."""
    return sorted({(str(path), match[1]) for path, text in TEXT.items() for match in re.finditer(pattern, text)})


def is_setting(name):
    if name in CONVENTIONAL or name in OF_ACCOUNTS or name == "GLM_GATEWAY_CONFIG":
        return True
    kind = Settings
    for part in _place(name) or ("none",):
        fields = (
            {field.name: field.type for field in msgspec.structs.fields(kind)}
            if hasattr(kind, "__struct_fields__")
            else {}
        )
        if part not in fields:
            return False
        kind = fields[part]
    return True


def test_there_is_something_to_look_at():
    assert len(TEXT) > 15
    assert len(found(FAMILIES)) > 20


@pytest.mark.parametrize(("file", "name"), found(FAMILIES))
def test_settings_exist(file, name):
    secret = name.removesuffix("_FILE")
    assert secret in _SECRETS if name.endswith("_FILE") else is_setting(name), f"{file}: {name}"


def test_metrics_exist(gateway):
    shown = http("GET", f"{gateway.url}/metrics")[2].decode()
    known = set(re.findall(r"^# TYPE (\S+)", shown, re.MULTILINE)) | set(re.findall(r"^(\w+)[ {]", shown, re.MULTILINE))
    named = [(file, name) for file, name in found(r"\b(glm_gateway_[a-z_]+)") if not OTHER_TESTS.search(file)]
    assert named
    assert [(file, name) for file, name in named if name not in known] == []


def test_paths_exist(gateway):
    paths = {path for pattern in PATHS for _, text in found(pattern) for path in re.findall(r"/[a-z0-9/]+", text)}
    assert {"/healthz", "/readyz", "/metrics", "/v1"} <= paths
    for path in paths & {"/healthz", "/readyz", "/metrics"}:
        assert gateway.get(path)[0] == 200
    for path in ("/v1/models", "/api/paas/v4/images/generations", "/images/generations"):
        assert any(path.startswith(prefix) for prefix in paths - {"/"})
        assert gateway.get(path)[0] != 404


def test_commands_exist():
    """In texts and in what containers are told to run."""
    commands = {text for _, text in found(r"\bglm-gateway ((?:serve|[a-z][a-z-]*(?: [a-z-]+)?) ?)(?=--|$|\n|`)")}
    commands |= {text for _, text in found(r"(?:args|command): \[([a-z]+)\]")}
    assert {"serve", "migrate"} <= {words.strip() for words in commands}
    for words in commands:
        command = main
        for word in words.split():
            command = command.get_command(Context(command), word)
            assert command is not None, f"{words}: there is no {word}"
