"""Where a project's alerts are posted, and what becomes of each of them. Pure."""

import base64
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import urlsplit

from gateway.domain.addresses import is_loopback, is_public_host
from gateway.domain.errors import InvalidValue

ORDINARY_THRESHOLDS = (50, 80, 100)
TRIES = 8
OVERLAP = timedelta(hours=24)  # for which a secret that was replaced signs as well
KEPT = timedelta(days=30)
LONGEST_URL, MOST_THRESHOLDS, LARGEST_THRESHOLD = 2000, 10, 1000
_FIRST_WAIT, _FACTOR = timedelta(seconds=5), 5  # 5 s, 25 s, 2 min, 10 min, 52 min, 4 h, 22 h: 27 hours together
_PERCENT = re.compile(r"[0-9]{1,4}")

DeliveryState = Literal["pending", "delivered", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A project's webhook: thresholds in percent; secrets are derived from their ids. Times are UTC.

    `disabled_at`: its receiver answered 410, and wants nothing any more.
    """

    project_id: str
    url: str
    thresholds: tuple[int, ...]
    secret_id: str
    created_at: datetime
    previous_secret_id: str | None = None
    previous_until: datetime | None = None
    disabled_at: datetime | None = None

    def secret_ids(self, now: datetime) -> tuple[str, ...]:
        """Name the secrets that sign, the newest first."""
        previous = self.previous_secret_id if self.previous_until and now < self.previous_until else None
        return (self.secret_id, previous) if previous else (self.secret_id,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """An event on its way to a project's webhook, or at its end; `id` is its webhook-id.

    The threshold that it tells of is that of `limit` in `period`; all are None in a test. `amount` and `used` are
    pictures or millionths. `last_status`: the receiver's, None when there was no answer. Times are UTC.
    """

    id: str
    project_id: str
    type: str
    body: str
    created_at: datetime
    limit: str | None = None
    period: str | None = None
    period_ends: datetime | None = None
    threshold: int | None = None
    amount: int | None = None
    used: int | None = None
    state: DeliveryState = "pending"
    tries: int = 0
    tries_left: int = TRIES
    last_status: int | None = None
    last_error: str | None = None
    last_tried_at: datetime | None = None
    next_try_at: datetime | None = None
    delivered_at: datetime | None = None


def secret_text(secret: bytes) -> str:
    """Write a secret as receivers are given it."""
    return "whsec_" + base64.b64encode(secret).decode()


def wait_before(number: int, chance: float) -> timedelta:
    """Say how long to wait before a try, from the second on; a `chance` of 0 to 1 is a fifth less to a fifth more."""
    seconds: float = _FIRST_WAIT.total_seconds() * _FACTOR ** (number - 2)
    return timedelta(seconds=seconds * (0.8 + 0.4 * chance))


def parse_url(url: str, *, allow_private: bool) -> str:
    """Check where events are to be posted; where names lead is seen when they are.

    Raises:
        InvalidValue: it is no URL, or one that needs webhooks.allow_private_hosts: http, or a host that is not public.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise _no_url() from None
    printable = url.isascii() and url.isprintable() and " " not in url and len(url) <= LONGEST_URL
    if not (printable and host) or parts.scheme not in {"https", "http"} or "@" in parts.netloc:
        raise _no_url()
    if not allow_private and (parts.scheme == "http" or not is_public_host(host) or _is_local(url, host)):
        raise InvalidValue(
            "The webhook's URL has to be https with a public host; webhooks.allow_private_hosts allows others.",
            param="url",
        )
    return url


def parse_thresholds(word: str) -> tuple[int, ...]:
    """Read a comma list of percents; InvalidValue when one of them is none, or there are too many."""
    words = [part.strip() for part in word.split(",")]
    return check_thresholds([int(part) if _PERCENT.fullmatch(part) else 0 for part in words])


def check_thresholds(percents: list[int]) -> tuple[int, ...]:
    """Sort percents; InvalidValue when one of them is none, or there are too many."""
    found = tuple(sorted(set(percents)))
    if not 1 <= len(found) <= MOST_THRESHOLDS or not 1 <= found[0] <= found[-1] <= LARGEST_THRESHOLD:
        raise InvalidValue(
            f"Thresholds are 1 to {MOST_THRESHOLDS} whole percents from 1 to {LARGEST_THRESHOLD}, like 50,80,100.",
            param="thresholds",
        )
    return found


def _is_local(url: str, host: str) -> bool:
    return is_loopback(url) or f".{host.rstrip('.')}".endswith(".localhost")


def _no_url() -> InvalidValue:
    return InvalidValue(
        f"The webhook's URL is none like https://hooks.example.com/path, of at most {LONGEST_URL} characters and "
        "without a user.",
        param="url",
    )
