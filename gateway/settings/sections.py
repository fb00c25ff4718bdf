"""The sections of the settings with their defaults; config/gateway.toml says what each means."""

from typing import Annotated, Literal

from msgspec import Meta

from gateway.domain.addresses import Networks, parse_networks
from gateway.domain.errors import InvalidValue, Misconfigured
from gateway.domain.secret import Secret
from gateway.settings.files import Section

DAY = 86_400.0  # no time here has a reason to be longer; the bound also keeps `inf` out
Seconds = Annotated[float, Meta(gt=0, le=DAY)]
Bytes = Annotated[int, Meta(gt=0)]
Count = Annotated[int, Meta(gt=0)]


class Server(Section, frozen=True, kw_only=True):
    """[server]."""

    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535)] = 8000
    drain_seconds: Seconds = 200.0
    strict: bool = False
    max_body: Bytes = 1024 * 1024
    trusted_proxies: tuple[str, ...] = ()
    public_url: str = ""
    cors_origins: tuple[str, ...] = ()

    def trusted_networks(self) -> Networks:
        """Give the proxies that X-Forwarded-For is believed from; Misconfigured when one is no address or network."""
        try:
            return parse_networks(self.trusted_proxies)
        except InvalidValue as failure:
            raise Misconfigured(f"server.trusted_proxies: {failure.message}") from failure


class Upstream(Section, frozen=True, kw_only=True):
    """[upstream]."""

    timeout: Seconds = 200.0
    image_hosts: tuple[str, ...] = ("ufileos.com", "bigmodel.cn", "z.ai")
    image_timeout: Seconds = 60.0
    image_max_bytes: Bytes = 32 * 1024 * 1024


class Models(Section, frozen=True, kw_only=True):
    """[models]."""

    file: str = ""


class Queue(Section, frozen=True, kw_only=True):
    """[queue]."""

    max_wait: Seconds = 180.0
    max_length: Annotated[int, Meta(ge=0)] = 1000
    abandon_after: Annotated[float, Meta(ge=0, le=DAY)] = 30.0
    max_jobs: Count = 10_000


class Images(Section, frozen=True, kw_only=True):
    """[images]."""

    allow_unwatermarked: bool = False


class Redis(Section, frozen=True, kw_only=True):
    """[redis]."""

    url: Secret = Secret("")
    reserve_deadline: Annotated[float, Meta(ge=0, le=DAY)] = 0.0
    wait_replicas: Annotated[int, Meta(ge=-1)] = -1


class Database(Section, frozen=True, kw_only=True):
    """[database]."""

    url: Secret = Secret("")


class Quota(Section, frozen=True, kw_only=True):
    """[quota]."""

    on_outage: Literal["refuse", "allow"] = "refuse"
    timezone: str = "UTC"
    lease: Annotated[float, Meta(ge=1, le=DAY)] = 30.0


class Billing(Section, frozen=True, kw_only=True):
    """[billing]."""

    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")] = "CNY"


class Ledger(Section, frozen=True, kw_only=True):
    """[ledger]."""

    max_backlog: Count = 100_000
    # Quotas of a month are refilled from its lines, and a late settlement asks whether its line is there.
    retention: Annotated[float, Meta(ge=35 * DAY, le=36_500 * DAY)] = 400 * DAY
    prompts: bool = False


class Webhooks(Section, frozen=True, kw_only=True):
    """[webhooks]."""

    allow_private_hosts: bool = False


class Log(Section, frozen=True, kw_only=True):
    """[log]."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"
    access: bool = True
    redact: bool = True


class Metrics(Section, frozen=True, kw_only=True):
    """[metrics]."""

    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    by: Literal["none", "project", "key"] = "none"


class Tracing(Section, frozen=True, kw_only=True):
    """[tracing]."""

    endpoint: Annotated[str, Meta(pattern=r"^(https?://[^\s/]+\S*)?\Z")] = ""
    propagate: bool = True
