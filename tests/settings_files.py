"""The files of an installation, as its operator changes them while gateways run."""

import json
import re
import signal
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import ROOT, http, wait_until

MODELS = (ROOT / "config" / "models.toml").read_text("utf-8")
SECRET = "SimulatorKey1234"


def key(name):
    """An upstream key whose id is one letter, so that the simulator's calls tell it apart."""
    return f"{name * 32}.{SECRET}"


@dataclass
class Files:
    """A settings file, its models and a key for each account, all in one folder. `upstream` is the simulator."""

    folder: Path
    upstream: object
    keys: dict = field(default_factory=dict)

    @property
    def config(self):
        return self.folder / "gateway.toml"

    @property
    def environment(self):
        return {"GLM_GATEWAY_CONFIG": str(self.config), "ZHIPUAI_API_KEY": ""}

    def write(self, *accounts, price="0.10", aliases="", more="", **given):
        """Write it all: an account is a name, one of `given` settings of accounts by name."""
        models = self.folder / "models.toml"
        models.write_text(MODELS.replace('price = "0.10"', f'price = "{price}"', 1) + aliases)
        tables = [self._account(name, **given.get(name, {})) for name in accounts]
        self.config.write_text("\n".join([more, f'[models]\nfile = "{models}"', *tables]))
        return self

    def rotate(self, name, secret):
        """Put another key into an account's file."""
        self.keys[name] = secret
        (self.folder / f"{name}.key").write_text(secret + "\n")

    def _account(self, name, **settings):
        self.rotate(name, self.keys.get(name, key(name)))
        told = {"name": name, "api_key_file": str(self.folder / f"{name}.key"), "base_url": self.upstream.base_url}
        told |= {"concurrency": 20, **settings}
        return "\n".join(["[[upstreams]]", *(f"{word} = {json.dumps(value)}" for word, value in told.items())])


def reloads(gateway, outcome):
    """How many reloads ended so."""
    text = http("GET", f"{gateway.url}/metrics")[2].decode()
    said = re.search(rf'^glm_gateway_config_reloads_total{{outcome="{outcome}"}} (\S+)$', text, re.MULTILINE)
    return float(said[1])


def hang_up(gateway, outcome="loaded"):
    """Send SIGHUP, and wait until the files were read."""
    before = reloads(gateway, outcome)
    gateway.process.popen.send_signal(signal.SIGHUP)
    wait_until(lambda: reloads(gateway, outcome) > before, 10, f"a reload that is {outcome}")
