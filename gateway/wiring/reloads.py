"""Calls on running gateways to reload."""

import secrets
from contextlib import aclosing
from functools import partial

from gateway.adapters.redis.client import RedisClient
from gateway.adapters.redis.embedded import EmbeddedServer
from gateway.adapters.redis.reloads import RedisReloads
from gateway.adapters.redis.scripts import Scripts
from gateway.adapters.system import SystemClock
from gateway.domain.errors import Misconfigured
from gateway.service.administer_settings import AdministerSettings, Called
from gateway.service.ports import QuotaUnavailable
from gateway.settings import Settings


async def reload_all(settings: Settings) -> Called:
    """Let all gateways of the installation read their settings anew.

    Raises:
        Misconfigured: Redis does not answer.
    """
    url = settings.redis.url.reveal() or EmbeddedServer(settings.data_dir).running_url()
    if not url:
        return Called(heard=0, answers=())
    async with aclosing(RedisClient(url)) as redis:
        reloads = RedisReloads(redis, Scripts(redis))
        try:
            return await AdministerSettings(reloads, SystemClock(), partial(secrets.token_hex, 8)).reload()
        except QuotaUnavailable as failure:
            raise Misconfigured(f"Redis at {redis.where} does not answer: {failure}.") from failure
