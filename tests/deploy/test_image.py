"""deploy/Dockerfile, built and run without a container engine."""

import json
import re
import signal

import psutil
import pytest

from tests import servers
from tests.deploy.image import Builder, container, wheels_of_the_lock
from tests.deploy.tools import DEPLOY, succeed, tool
from tests.servers import ROOT, UPSTREAM_KEY, answers, free_port, http, wait_until

pytestmark = pytest.mark.timeout(900)  # the build is part of whichever test comes first

# What an image is built with, and nothing needs that runs.
TOOLS = {"pip", "setuptools", "wheel", "hatchling", "editables", "uv", "pathspec", "pluggy", "trove-classifiers"}
PARTS = """
import importlib.metadata as metadata, json
print(json.dumps({d.metadata["Name"]: d.requires or [] for d in metadata.distributions()}))
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The files and the configuration of the image."""
    folder = tmp_path_factory.mktemp("image")
    with Builder(folder).storage() as builder:
        builder.make_base()
        builder.build(wheels_of_the_lock(folder / "wheels"))
        yield builder.root()


def run_in(image, folder, *command):
    """Run a command in a container to its end; give what it said."""
    data, log = folder / "data", folder / "said"
    data.mkdir(exist_ok=True)
    with container(*image, data, {}, *command, log=log) as process:
        assert process.wait(60) == 0, log.read_text("utf-8")
    return log.read_text("utf-8")


def test_hadolint_finds_nothing():
    assert succeed(tool("hadolint"), DEPLOY / "Dockerfile") == ""


def test_the_image_serves_a_picture_with_nothing_to_write_to_but_its_data(image, tmp_path):
    """As process 1, without a name, rights or a root that can be written."""
    port, data, log = free_port(), tmp_path / "data", tmp_path / "gateway.log"
    data.mkdir()
    with servers.simulator(tmp_path) as upstream:
        upstream_env = {"ZHIPUAI_API_KEY": UPSTREAM_KEY, "ZHIPUAI_BASE_URL": upstream.base_url}
        env = {"PORT": str(port), "HOST": "127.0.0.1", "GLM_GATEWAY_ADMIN_KEY": servers.ADMIN_KEY, **upstream_env}
        key = run_in(image, tmp_path, "glm-gateway", "keys", "create", "--name", "tests").strip().splitlines()[-1]
        with container(*image, data, env, log=log) as process:
            ready = f"http://127.0.0.1:{port}/readyz"
            wait_until(lambda: answers(ready) or process.poll() is not None, what=ready)
            assert process.poll() is None, log.read_text("utf-8")
            status, _, content = http(
                "POST",
                f"http://127.0.0.1:{port}/v1/images/generations",
                body={"prompt": "a red fox in the snow", "response_format": "url"},
                headers={"Authorization": f"Bearer {key}"},
            )
            assert status == 200, content
            assert http("GET", json.loads(content)["data"][0]["url"])[0] == 200
            assert health(image, tmp_path, port) == 0
            [first] = psutil.Process(process.pid).children()
            first.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, log.read_text("utf-8")


def health(image, folder, port):
    """Run the image's health check; give its exit code."""
    kind, *command = image[1]["Healthcheck"]["Test"]
    assert kind == "CMD"
    data = folder / "other"
    data.mkdir(exist_ok=True)
    with container(*image, data, {"PORT": str(port)}, *command, log=folder / "health") as process:
        return process.wait(30)


def test_the_health_check_fails_where_nothing_answers(image, tmp_path):
    assert health(image, tmp_path, free_port()) != 0


def test_the_image_runs_as_a_user_without_rights(image):
    assert image[1]["User"] == "10001:10001"


def test_the_image_holds_what_the_gateway_needs_and_nothing_to_build_with(image, tmp_path):
    parts = json.loads(run_in(image, tmp_path, "python", "-c", PARTS))
    assert "litestar" in parts
    assert not TOOLS & {name.lower() for name in parts}
    root = image[0]
    assert not [path for path in root.rglob("*") if path.name in {"pip", "pip3", "gcc", "cc", "make", "git"}]


def test_the_image_lets_nobody_in_by_a_set_user_id(image):
    """Whatever the base has: no new file of ours may give rights."""
    assert not [path for path in (image[0] / "opt").rglob("*") if path.lstat().st_mode & 0o6000]


def test_an_image_that_can_trace_has_the_same_and_more():
    """The default's pins, and what the extra asks for, as it was tested."""
    names = ("requirements.lock", "requirements-otel.lock", "requirements-dev.lock")
    plain, tracing, tested = (pins_of(ROOT / name) for name in names)
    assert plain.items() <= tracing.items() <= tested.items()
    assert {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"} <= tracing.keys() - plain.keys()


def pins_of(lock):
    return dict(re.findall(r"^([\w.-]+)==(\S+)", lock.read_text("utf-8"), re.MULTILINE))
