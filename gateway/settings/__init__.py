"""Every setting, its default and where it may come from: built-in file < --config file < environment < command line."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_origin
from zoneinfo import available_timezones

import msgspec
from platformdirs import user_data_path

from gateway.domain.admin_keys import is_admin_secret
from gateway.domain.errors import Misconfigured
from gateway.domain.secret import Secret
from gateway.settings.files import Section, read_toml
from gateway.settings.sections import (
    Billing,
    Database,
    Images,
    Ledger,
    Log,
    Metrics,
    Queue,
    Quota,
    Redis,
    Server,
    Tracing,
    Upstream,
    Webhooks,
)
from gateway.settings.store import Cache, Store, check_store
from gateway.settings.upstreams import BIGMODEL, UpstreamAccount, check_upstreams, with_keys

PREFIX = "GLM_GATEWAY_"
ZAI = "https://api.z.ai/api/paas/v4"


class Settings(Section, frozen=True, kw_only=True):
    """All settings. `secret_key` is empty when the gateway is to make one in the data directory, `admin_key` too."""

    data_dir: Path = user_data_path("glm-gateway")
    secret_key: Secret = Secret("")
    admin_key: Secret = Secret("")
    server: Server = Server()
    upstream: Upstream = Upstream()
    upstreams: tuple[UpstreamAccount, ...] = ()
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


# Conventional names and the settings that they stand for.
CONVENTIONAL = {
    "HOST": ("server", "host"),
    "PORT": ("server", "port"),
    "LOG_LEVEL": ("log", "level"),
    "REDIS_URL": ("redis", "url"),
    "DATABASE_URL": ("database", "url"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("tracing", "endpoint"),
    "GLM_GATEWAY_DATA_DIR": ("data_dir",),
    "GLM_GATEWAY_SECRET_KEY": ("secret_key",),
    "GLM_GATEWAY_ADMIN_KEY": ("admin_key",),
}
_SECRETS = (
    *("REDIS_URL", "DATABASE_URL", "GLM_GATEWAY_SECRET_KEY", "GLM_GATEWAY_ADMIN_KEY", "ZHIPUAI_API_KEY"),
    "ZAI_API_KEY",
)
_NOT_SETTINGS = {"GLM_GATEWAY_CONFIG", *CONVENTIONAL}


def load(environ: Mapping[str, str], config: Path | None = None) -> Settings:
    """Read the settings.

    Raises:
        Misconfigured: a file is missing or malformed, or a value is unknown or wrong; the message names the place.
    """
    named = environ.get("GLM_GATEWAY_CONFIG")
    path = config or (Path(named) if named else None)
    raw = read_toml(path) if path else {}
    environ = _with_secret_files(environ)
    for name, value in environ.items():
        place = _place(name)
        if place and value:
            _put(raw, place, _listed(place, value.lower() if name == "LOG_LEVEL" else value), name)
    accounts = _accounts(environ)
    if accounts:
        upstreams = raw.setdefault("upstreams", [])
        if not isinstance(upstreams, list):
            raise Misconfigured(f"Settings from {path}: upstreams has to be a list of tables, [[upstreams]].")
        raw["upstreams"] = [*upstreams, *accounts]
    settings = _convert(raw, Settings, path or "the environment")
    return _checked(msgspec.structs.replace(settings, upstreams=with_keys(settings.upstreams)))


def _with_secret_files(environ: Mapping[str, str]) -> dict[str, str]:
    """Replace each `<NAME>_FILE` of a secret by the file's content."""
    known = dict(environ)
    for name in _SECRETS:
        path = known.pop(f"{name}_FILE", None)
        if path:
            try:
                known[name] = Path(path).read_text("utf-8").strip()
            except OSError as failure:
                raise Misconfigured(f"{name}_FILE: {path} cannot be read: {failure.strerror}.") from failure
            except UnicodeDecodeError as failure:
                raise Misconfigured(f"{name}_FILE: {path} is not text in UTF-8.") from failure
    return known


def _place(name: str) -> tuple[str, ...] | None:
    """Say which setting an environment variable stands for; None when it is none of ours."""
    if name in CONVENTIONAL:
        return CONVENTIONAL[name]
    if name.startswith(PREFIX) and name not in _NOT_SETTINGS:
        return tuple(name.removeprefix(PREFIX).lower().split("__"))
    return None


def _put(raw: dict[str, Any], place: tuple[str, ...], value: object, source: str) -> None:
    *sections, name = place
    for section in sections:
        raw = raw.setdefault(section, {})
        if not isinstance(raw, dict):
            raise Misconfigured(f"{source} names a setting inside {section}, which is not a table of settings.")
    raw[name] = value


def _listed(place: tuple[str, ...], value: str) -> str | list[str]:
    """Split a comma list where the setting is a list."""
    kind: Any = Settings
    for name in place:
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)} if _is_section(kind) else {}
        kind = fields.get(name)
    return [part.strip() for part in value.split(",") if part.strip()] if get_origin(kind) is tuple else value


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _accounts(environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """Make an account of each key in ZHIPUAI_API_KEY and ZAI_API_KEY (comma lists)."""
    accounts: list[dict[str, Any]] = []
    for family, base_url in (("ZHIPUAI", BIGMODEL), ("ZAI", ZAI)):
        keys = [key.strip() for key in environ.get(f"{family}_API_KEY", "").split(",") if key.strip()]
        accounts += (
            {
                "name": f"{family.lower()}-{number}",
                "api_key": key,
                "base_url": environ.get(f"{family}_BASE_URL") or base_url,
                "concurrency": environ.get(f"{family}_CONCURRENCY") or 1,
            }
            for number, key in enumerate(keys, 1)
        )
    return accounts


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


def _checked(settings: Settings) -> Settings:
    """Check what no single value shows."""
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
