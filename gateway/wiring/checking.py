"""Checks settings without opening or making anything."""

from gateway.adapters.redis.urls import parse_redis_url
from gateway.adapters.sql.engine import open_engine
from gateway.service.offers import Offer
from gateway.settings import Settings
from gateway.wiring.offers import offer_of
from gateway.wiring.peppers import needs_secret


def check(settings: Settings) -> Offer:
    """Give what a gateway with these settings would offer.

    Raises:
        Misconfigured: it would not start; the message is the one that it would end with.
    """
    offer = offer_of(settings)
    if url := settings.redis.url.reveal():
        parse_redis_url(url)
    if url := settings.database.url.reveal():
        open_engine(url)
    needs_secret(settings)
    return offer
