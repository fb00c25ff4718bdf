"""Every setting, its default and where it may come from: built-in file < --config file < environment < command line."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import msgspec
from platformdirs import user_data_path

from gateway.domain.admin_keys import is_admin_secret
from gateway.domain.errors import Misconfigured
from gateway.domain.secret import Secret
from gateway.settings.files import Section
from gateway.settings.sections import (
    Billing,
    Database,
    Images,
    Ledger,
    Log,
    Metrics,
    Models,
    Queue,
    Quota,
    Redis,
    Server,
    Tracing,
    Upstream,
    Webhooks,
)
from gateway.settings.sources import Gathered, gather
from gateway.settings.store import Cache, Store, check_store
from gateway.settings.upstreams import UpstreamAccount, check_upstreams, with_keys


class Settings(Section, frozen=True, kw_only=True):
    """All settings. `secret_key` is empty when the gateway is to make one in the data directory, `admin_key` too."""

    data_dir: Path = user_data_path("glm-gateway")
    secret_key: Secret = Secret("")
    admin_key: Secret = Secret("")
    server: Server = Server()
    upstream: Upstream = Upstream()
    upstreams: tuple[UpstreamAccount, ...] = ()
    models: Models = Models()
    queue: Queue = Queue()
    images: Images = Images()
    store: Store = Store()
    cache: Cache = Cache()
    redis: Redis = Redis()
    database: Database = Database()
    quota: Quota = Quota()
    billing: Billing = Billing()
    ledger: Ledger = Ledger()
    webhooks: Webhooks = Webhooks()
    log: Log = Log()
    metrics: Metrics = Metrics()
    tracing: Tracing = Tracing()

    def with_redis(self, url: str) -> "Settings":
        """Give the same settings with another Redis."""
        return msgspec.structs.replace(self, redis=msgspec.structs.replace(self.redis, url=Secret(url)))

    def timeout_of(self, upstream: UpstreamAccount) -> float:
        """Give the seconds that a picture of an account may take."""
        return upstream.timeout or self.upstream.timeout

    @property
    def longest_call(self) -> float:
        """Give the seconds that any call may take."""
        return max(map(self.timeout_of, self.upstreams), default=self.upstream.timeout)


def load(environ: Mapping[str, str], config: Path | None = None) -> Settings:
    """Read the settings.

    Raises:
        Misconfigured: a file is missing or malformed, or a value is unknown or wrong; the message names the place.
    """
    return read(gather(environ, config, Settings))


def read(gathered: Gathered) -> Settings:
    """Read what was gathered; raises as `load` does."""
    settings = _convert(gathered.raw, Settings, gathered.path or "the environment")
    return checked(msgspec.structs.replace(settings, upstreams=with_keys(settings.upstreams)))


def _convert(raw: dict[str, Any], kind: type[Settings], source: object) -> Settings:
    try:
        return msgspec.convert(raw, kind, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as failure:
        raise Misconfigured(f"Settings from {source}: {failure}.") from failure


def _decode(kind: type, value: object) -> object:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser().absolute()
    raise ValueError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def checked(settings: Settings) -> Settings:
    """Give the settings back when they hold together; Misconfigured says what no single value shows."""
    settings.server.trusted_networks()
    if settings.admin_key and not is_admin_secret(settings.admin_key.reveal()):
        raise Misconfigured(
            "GLM_GATEWAY_ADMIN_KEY has to be 'sk-admin-' and 16 to 200 letters, digits, - or _ that nobody can guess: "
            "make them with 'openssl rand -hex 32'.",
        )
    if settings.quota.timezone not in available_timezones():
        raise Misconfigured(f"quota.timezone: {settings.quota.timezone!r} is no time zone like Asia/Shanghai.")
    check_upstreams(settings.upstreams)
    check_store(settings.store, settings.cache, settings.server.public_url)
    if settings.server.drain_seconds < max(
        map(settings.timeout_of, settings.upstreams), default=settings.upstream.timeout
    ):
        raise Misconfigured(
            "server.drain_seconds has to be at least upstream.timeout and each upstream's own timeout, "
            "or a stop would lose pictures.",
        )
    return settings


def environment() -> Mapping[str, str]:
    """Give the process's environment: the one place that reads it."""
    return os.environ
