"""[store] and [cache]: where pictures live, how long, and what is remembered of them."""

from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from msgspec import Meta

from gateway.domain.caching import Scope
from gateway.domain.errors import Misconfigured
from gateway.settings.files import Section

DAY = 86400.0
LONGEST = 3650 * DAY
REPLAYED = DAY  # how long an Idempotency-Key gives the same answer, each time with new URLs
Life = Annotated[float, Meta(gt=0, le=LONGEST)]


class Store(Section, frozen=True, kw_only=True):
    """[store]."""

    url: str = ""
    urls: Literal["own", "upstream"] = "own"
    url_life: Life = DAY
    retention: Life = 7 * DAY


class Cache(Section, frozen=True, kw_only=True):
    """[cache]."""

    scope: Scope = "project"
    lifetime: Annotated[float, Meta(ge=0, le=LONGEST)] = DAY
    max_entries: Annotated[int, Meta(gt=0)] = 200_000
    distinct_user_agents: tuple[str, ...] = ("ai-sdk/",)


def check_store(store: Store, cache: Cache, public_url: str) -> None:
    """Check what belongs together.

    Raises:
        Misconfigured: names the setting.
    """
    if store.retention < cache.lifetime + REPLAYED + store.url_life:
        raise Misconfigured(
            "store.retention has to be at least cache.lifetime + 24 h (86400) + store.url_life, or URLs would outlive "
            "their pictures: what is remembered may be answered under an Idempotency-Key, which repeats it for a day.",
        )
    _check_url(store.url)
    if public_url and not _is_web_address(public_url):
        raise Misconfigured(f"server.public_url has to be like https://images.example.com, not {public_url!r}.")


def _check_url(url: str) -> None:
    parts = _split(url)
    whole = {"": not url, "file": parts.path.startswith("/") and not parts.netloc, "s3": bool(parts.netloc)}
    if not whole.get(parts.scheme, False):
        raise Misconfigured(f"store.url has to be file:///a/folder or s3://bucket/prefix, not {url!r}.")


def _is_web_address(url: str) -> bool:
    parts = _split(url)
    return parts.scheme in {"http", "https"} and bool(parts.netloc) and not parts.query and not parts.fragment


def _split(url: str) -> SplitResult:
    """Take a URL apart; what is none has no parts."""
    try:
        return urlsplit(url)
    except ValueError:
        return urlsplit("none:")
