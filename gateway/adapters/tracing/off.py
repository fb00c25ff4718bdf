"""What tracing makes of a gateway's parts while it is off: it leaves each as it is. Imports no OpenTelemetry."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import httpx

from gateway.service.dispatch import PictureMaker
from gateway.service.picture_ports import PictureSource, PictureStore
from gateway.service.ports_flights import FlightStore
from gateway.service.ports_requests import RequestTraces
from gateway.service.ports_upstream import Upstream


class Untraced:
    """Wraps nothing, so that it costs nothing per request. `scripts` opens a span around a script by its name."""

    requests: RequestTraces | None = None
    scripts: Callable[[str], AbstractContextManager[object]] | None = None

    def locate(self, places: Mapping[str, Mapping[str, str | int]]) -> None:
        """Take note of what the conventions say of each account's server, by the account's name."""

    def transport(self, transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """Give what carries upstream calls."""
        return transport

    def upstream(self, upstream: Upstream) -> Upstream:
        """Give what makes paid calls."""
        return upstream

    def source(self, source: PictureSource) -> PictureSource:
        """Give what downloads."""
        return source

    def store(self, store: PictureStore) -> PictureStore:
        """Give what keeps pictures."""
        return store

    def maker(self, maker: PictureMaker) -> PictureMaker:
        """Give what makes a picture from its slot to the store."""
        return maker

    def flights(self, flights: FlightStore) -> FlightStore:
        """Give what jobs wait for each other with."""
        return flights
