"""deploy/compose.yaml: what Compose itself says of it, and what its servers do with the options it gives them."""

import subprocess
import sys
from pathlib import Path

import obstore
import pytest
import redis
import yaml
from obstore.exceptions import BaseError, PermissionDeniedError
from obstore.store import S3Store

from gateway.settings import load
from tests.deploy.tools import DEPLOY, run, succeed, tool
from tests.s3_server import free_ports
from tests.servers import environment, free_port, server_binary, wait_until

SECRETS = {
    "zhipuai_api_key": "id.secret",
    "secret_key": "s" * 64,
    "admin_key": "sk-admin-0123456789abcdef",
    "database_url": "postgresql://gateway:password@postgres/gateway",
}


def compose(*words, **env):
    names = ("PATH", "HOME")
    kept = {name: value for name, value in environment().items() if name in names}
    return run(tool("docker-compose"), "-f", DEPLOY / "compose.yaml", *words, env=kept | env)


@pytest.fixture(scope="module")
def services():
    """The services as Compose understands them."""
    code, said = compose("config", AWS_SECRET_ACCESS_KEY="a-secret")
    assert code == 0, said
    return yaml.safe_load(said)["services"]


def test_compose_takes_the_file_without_a_word():
    assert compose("config", "--quiet", AWS_SECRET_ACCESS_KEY="a-secret") == (0, "")


def test_compose_keeps_to_its_specification():
    succeed(
        tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml", env=environment()
    )


def test_compose_asks_for_the_secret_of_the_store():
    code, said = compose("config", "--quiet")
    assert code != 0
    assert "AWS_SECRET_ACCESS_KEY" in said


def test_there_are_two_gateways_and_everything_that_they_need(services):
    assert services["gateway"]["deploy"]["replicas"] == 2
    assert {"balancer", "redis", "postgres", "s3", "prometheus", "grafana", "migrate"} < set(services)


def test_gateways_can_write_nothing_but_their_data_and_gain_no_rights(services):
    for name in ("gateway", "migrate"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["security_opt"] == ["no-new-privileges:true"]
        assert [volume["target"] for volume in services[name]["volumes"]] == ["/var/lib/glm-gateway"]


def test_stores_are_reached_by_gateways_only(services):
    assert {name for name, service in services.items() if "ports" in service} == {"balancer", "grafana"}
    assert {name for name, service in services.items() if "stores" in service["networks"]} == {
        *("gateway", "migrate", "redis", "postgres", "s3"),
    }


def test_the_gateway_takes_its_settings(services, tmp_path):
    """The files of its secrets lie elsewhere here."""
    env = {name: value for name, value in services["gateway"]["environment"].items() if value}
    for name, content in SECRETS.items():
        (tmp_path / name).write_text(content, "utf-8")
    settings = load({name: value.replace("/run/secrets", str(tmp_path)) for name, value in env.items()})
    assert settings.store.url == "s3://pictures"
    assert settings.redis.url.reveal() == "redis://redis:6379/0"
    assert settings.upstreams[0].api_key.reveal() == "id.secret"
    assert [str(network) for network in settings.server.trusted_networks()] == ["172.31.250.0/24"]


def test_a_gateway_has_longer_to_stop_than_its_pictures(services):
    drain = load({}).server.drain_seconds
    assert services["gateway"]["stop_grace_period"] == "4m0s"
    assert drain + 30 <= 240


def test_redis_keeps_its_counts_and_evicts_none(services, tmp_path):
    """The very options, given to a real server."""
    _, *options = services["redis"]["command"]
    port = free_port()
    with subprocess.Popen(
        [server_binary(), *options, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
    ) as server:
        try:
            with redis.Redis(port=port) as client:
                wait_until(lambda: answers(client), what="Redis")
                said = client.config_get("append*", "maxmemory*", "save")
        finally:
            server.kill()
    assert (said["appendonly"], said["appendfsync"], said["save"]) == ("yes", "everysec", "")
    assert (said["maxmemory-policy"], int(said["maxmemory"])) == ("noeviction", 2**30)


def answers(client):
    try:
        return client.ping()
    except redis.ConnectionError:
        return False


def test_pictures_find_a_bucket_that_opens_to_the_gateways_alone(services, tmp_path):
    """The very options, given to a real server; its ports and its folder are others here."""
    names = ("master", "volume", "filer", "s3")
    numbers = free_ports(2 * len(names))
    ports = dict(zip([word for name in names for word in (f"{name}.port", f"{name}.port.grpc")], numbers, strict=True))
    options = [option.replace("=/data", f"={tmp_path}") for option in services["s3"]["command"]]
    options += [f"-{name}={port}" for name, port in (ports | {"s3.port.iceberg": 0, "s3.port.lance": 0}).items()]
    identity = services["s3"]["environment"]
    assert identity.items() <= services["gateway"]["environment"].items()
    command = [Path(sys.executable).parent / "weed", *options, "-ip=127.0.0.1", "-master.volumeSizeLimitMB=64"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment(**identity), stdout=log, stderr=log)
    try:
        wait_until(lambda: put(ports["s3.port"], identity) is None, 90, "the bucket")
        wrong = identity | {"AWS_SECRET_ACCESS_KEY": "another"}
        assert isinstance(put(ports["s3.port"], wrong), PermissionDeniedError)
    finally:
        server.kill()
        server.wait()


def put(port, identity):
    """Store one object in the bucket of the gateways; give what went wrong."""
    bucket = S3Store(
        "pictures",
        endpoint=f"http://127.0.0.1:{port}",
        region="us-east-1",
        access_key_id=identity["AWS_ACCESS_KEY_ID"],
        secret_access_key=identity["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True, "timeout": "5s"},
        retry_config={"max_retries": 0},
    )
    try:
        obstore.put(bucket, "picture", b"bytes")
    except BaseError as failure:
        return failure
    return None
