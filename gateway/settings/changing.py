"""What of the settings may change while the gateway runs, and what takes a restart."""

import msgspec

from gateway.domain.errors import Misconfigured
from gateway.settings import Settings, checked
from gateway.settings.explaining import values
from gateway.settings.sources import Place

# Whole sections, or single settings of one.
LIVE: tuple[Place, ...] = (
    ("upstreams",),
    ("models",),
    ("upstream", "timeout"),
    ("upstream", "image_hosts"),
    ("upstream", "image_timeout"),
)


def changed(running: Settings, given: Settings) -> Settings:
    """Give the settings of a running gateway with what may change of other ones.

    Raises:
        Misconfigured: they do not hold together.
    """
    if given.billing.currency != running.billing.currency:
        raise Misconfigured(
            f"Prices would be charged in {running.billing.currency} that are meant in {given.billing.currency}: "
            "billing.currency takes a restart.",
        )
    live = {name: getattr(given.upstream, name) for section, *names in LIVE if section == "upstream" for name in names}
    upstream = msgspec.structs.replace(running.upstream, **live)
    return checked(msgspec.structs.replace(running, upstreams=given.upstreams, models=given.models, upstream=upstream))


def fixed(running: Settings, given: Settings) -> tuple[str, ...]:
    """Name what differs and takes a restart."""
    before = dict(values(running))
    return tuple(".".join(place) for place, value in values(given) if not _lives(place) and before[place] != value)


def _lives(place: Place) -> bool:
    return any(place[: len(live)] == live for live in LIVE)
