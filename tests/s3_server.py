"""A real S3 server on loopback: SeaweedFS, which checks signatures."""

import json
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from tests.servers import http, wait_until

ACCESS_KEY, SECRET_KEY = "tests", "a-secret-of-the-tests"
START_SECONDS = 90.0


@dataclass
class S3:
    """An S3 server under way; `env` is what a client of it needs."""

    port: int
    filer_port: int
    process: subprocess.Popen

    @property
    def env(self):
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }

    def make_bucket(self, name):
        """A bucket is a folder of the file server beneath; it takes files when the volumes have registered."""
        first = f"http://127.0.0.1:{self.filer_port}/buckets/{name}/first"
        wait_until(lambda: _answers("PUT", first, b"x"), START_SECONDS, "a volume")
        return name


@contextmanager
def s3_server(folder):
    names = ("master", "master.grpc", "volume", "volume.grpc", "filer", "filer.grpc", "s3", "s3.grpc")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(_command(folder, ports), stdout=log, stderr=log)
    try:
        server = S3(ports["s3"], ports["filer"], process)
        wait_until(lambda: _answers("GET", f"http://127.0.0.1:{server.port}/healthz"), START_SECONDS, "S3")
        yield server
    finally:
        process.kill()  # it takes 20 s to end on SIGTERM
        process.wait()


def free_ports(number):
    """Ports that differ from one another: all are taken before any is given back."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


def _command(folder, ports):
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}]
    identity = {"name": "tests", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    options = {
        "dir": folder / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        **{name.replace(".grpc", "") + (".port.grpc" if "grpc" in name else ".port"): p for name, p in ports.items()},
        "s3.config": folder / "s3.json",
        "s3.iam": "false",
        "s3.port.iceberg": 0,  # two catalogs on fixed ports, so that no second server could start
        "s3.port.lance": 0,
        "volume.max": 10,
        "master.volumeSizeLimitMB": 64,
        "master.telemetry": "false",
    }
    weed = Path(sys.executable).parent / "weed"
    words = [f"-{name}={value}" for name, value in options.items()]
    return [weed, "-logtostderr=true", "server", "-filer", "-s3", *words]


def _answers(method, url, body=None):
    try:
        return http(method, url, body=body, headers={"Content-Type": "text/plain"}, timeout=5)[0] < 300
    except (URLError, OSError):
        return False
