"""[[upstreams]]: the accounts, their keys, and what each of them lets be made at once and takes for it."""

import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from gateway.domain.addresses import is_loopback
from gateway.domain.errors import Misconfigured
from gateway.domain.secret import Secret
from gateway.settings.files import Section
from gateway.settings.sections import DAY

BIGMODEL = "https://open.bigmodel.cn/api/paas/v4"
DEAREST = 1_000_000  # no picture costs more, in any currency; the bound keeps sums within 64 bits


class UpstreamAccount(Section, frozen=True, kw_only=True):
    """[[upstreams]]. Tables in `concurrency` and `price` are by model; `timeout` 0 is upstream.timeout."""

    name: str
    kind: Literal["zhipu"] = "zhipu"
    api_key: Secret = Secret("")
    api_key_file: str = ""
    base_url: str = BIGMODEL
    account: str = ""
    models: tuple[str, ...] = ()
    concurrency: int | dict[str, int] = 1
    weight: Annotated[int, Meta(ge=1, le=1000)] = 1
    price: Decimal | dict[str, Decimal] | None = None
    currency: Annotated[str, Meta(pattern=r"^([A-Z]{3})?\Z")] = ""
    image_hosts: tuple[str, ...] = ()
    timeout: Annotated[float, Meta(ge=0, le=DAY)] = 0.0
    mode: Literal["sync", "async"] = "sync"

    @property
    def concurrencies(self) -> dict[str, int]:
        """The exceptions by model."""
        return self.concurrency if isinstance(self.concurrency, dict) else {}

    @property
    def most_calls(self) -> int:
        """The calls that may be in flight at most, as far as the entry names its models."""
        return sum(self.concurrency.values()) if isinstance(self.concurrency, dict) else self.concurrency

    @property
    def named_models(self) -> set[str]:
        """Every model that the entry names."""
        priced = self.price if isinstance(self.price, dict) else {}
        return {*self.models, *self.concurrencies, *priced}


def with_keys(upstreams: tuple[UpstreamAccount, ...]) -> tuple[UpstreamAccount, ...]:
    """Read the keys that are in files.

    Raises:
        Misconfigured: a file cannot be read, or an account has no key or two.
    """
    return tuple(_with_key(upstream) for upstream in upstreams)


def check_upstreams(upstreams: tuple[UpstreamAccount, ...]) -> None:
    """Check what no single value shows.

    Raises:
        Misconfigured: names the account.
    """
    names = [upstream.name for upstream in upstreams]
    for upstream in upstreams:
        if names.count(upstream.name) > 1:
            raise Misconfigured(f"Two upstreams have the name {upstream.name!r}.")
        for wrong in _wrong(upstream):
            raise Misconfigured(f"Upstream {upstream.name!r}: {wrong}")


def _with_key(upstream: UpstreamAccount) -> UpstreamAccount:
    path = upstream.api_key_file
    if bool(path) == bool(upstream.api_key):
        raise Misconfigured(f"Upstream {upstream.name!r}: give either api_key or api_key_file.")
    if not path:
        return upstream
    try:
        key = Path(path).expanduser().read_text("utf-8").strip()
    except OSError as failure:
        raise Misconfigured(f"Upstream {upstream.name!r}: {path} cannot be read: {failure.strerror}.") from failure
    except UnicodeDecodeError as failure:
        raise Misconfigured(f"Upstream {upstream.name!r}: {path} is not text in UTF-8.") from failure
    if not key:
        raise Misconfigured(f"Upstream {upstream.name!r}: {path} is empty.")
    return msgspec.structs.replace(upstream, api_key=Secret(key))


def _wrong(upstream: UpstreamAccount) -> Iterator[str]:
    """Say what is wrong with an account, if anything is."""
    limits = upstream.concurrencies.values() if isinstance(upstream.concurrency, dict) else [upstream.concurrency]
    if any(limit < 1 for limit in limits):
        yield "concurrency has to be at least 1."
    prices = upstream.price.values() if isinstance(upstream.price, dict) else [upstream.price or Decimal()]
    if not all(price.is_finite() and 0 <= price <= DEAREST for price in prices):
        yield f"price has to be a number from 0 to {DEAREST}."
    if not re.fullmatch(r"[!-~]+", upstream.api_key.reveal()):  # no header could carry it
        yield "the key has to be one word of ASCII characters."
    if not _is_usable(upstream.base_url):
        yield "base_url has to be https://..., or http on this machine."


def _is_usable(base_url: str) -> bool:
    """Tell whether a key may be sent there."""
    try:
        parts = urlsplit(base_url)
        there = bool(parts.hostname) and parts.port != 0  # reading the port checks it
    except ValueError:
        return False
    return there and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(base_url)))
