"""The ports with a span around what each of them is asked; what they do and raise stands at the ports."""

from collections.abc import AsyncGenerator, Mapping, MutableMapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

import httpx

from gateway.adapters.tracing.off import Untraced
from gateway.adapters.tracing.requests import Owners, TracedRequests
from gateway.adapters.tracing.spans import Attributes, Mark, Spans, propagate
from gateway.domain.flights import End, Follow
from gateway.domain.image import ImageOrder, ImagePlan, ImageRef, PaidPicture, Picture, Rendition
from gateway.domain.picture_urls import PictureFile
from gateway.domain.quota import Reservation
from gateway.domain.upstream import Account, CallFailure
from gateway.service.dispatch import PictureMaker, Progress
from gateway.service.picture_ports import Download, PictureSource, PictureStore, StoredPicture
from gateway.service.ports_flights import FlightStore
from gateway.service.ports_upstream import Submitted, Upstream
from gateway.service.slots import Wish

Marks = MutableMapping[tuple[str, int], Mark]  # where a picture in the making is seen, by its job and position


class Traced(Untraced):
    """Tracing while it is on."""

    def __init__(self, spans: Spans, *, by: Owners, propagates: bool) -> None:
        self._spans = spans
        self._places: dict[str, Attributes] = {}
        self._propagates = propagates
        self._marks: Marks = {}
        self.requests = TracedRequests(spans, by)

    def scripts(self, name: str) -> AbstractContextManager[object]:
        """Open a span around a script, or a command, whose name has capitals."""
        operation = name if name.isupper() else "EVALSHA"
        told = {"db.system.name": "redis", "db.operation.name": operation}
        if operation == name:
            return self._spans.call(name, told)
        return self._spans.call(f"{operation} {name}", {**told, "db.stored_procedure.name": name})

    def locate(self, places: Mapping[str, Attributes]) -> None:
        """Take note of the servers in place of those that were known."""
        self._places.clear()
        self._places.update(places)

    def transport(self, transport: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
        """Let calls carry the trace, unless the operator does not want that."""
        return _Propagating(transport) if self._propagates else transport

    def upstream(self, upstream: Upstream) -> Upstream:
        """Keep each paid call."""
        return _TracedUpstream(upstream, self._spans, self._places)

    def source(self, source: PictureSource) -> PictureSource:
        """Keep each download."""
        return _TracedSource(source, self._spans)

    def store(self, store: PictureStore) -> PictureStore:
        """Keep each use of the store."""
        return _TracedStore(store, self._spans)

    def maker(self, maker: PictureMaker) -> PictureMaker:
        """Keep each picture that is made, and its waits."""
        return _TracedMaker(maker, self._spans, self._marks)

    def flights(self, flights: FlightStore) -> FlightStore:
        """Keep what jobs wait for."""
        return _TracedFlights(flights, self._spans, self._marks)


class _Propagating(httpx.AsyncBaseTransport):
    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        propagate(request.headers)
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _TracedUpstream:
    def __init__(self, inner: Upstream, spans: Spans, places: Mapping[str, Attributes]) -> None:
        self._inner = inner
        self._spans = spans
        self._places = places

    async def make(self, account: Account, plan: ImagePlan, submitted: Submitted) -> PaidPicture:
        operation = "generate_content"
        told: Attributes = {
            "gen_ai.operation.name": operation,
            "gen_ai.request.model": plan.model,
            "gen_ai.output.type": "image",
            "glm_gateway.account": account.name,
            **self._places[account.name],
        }
        with self._spans.call(f"{operation} {plan.model}", told) as span:
            paid = await self._inner.make(account, plan, submitted)
            span.set_attributes({"gen_ai.response.id": paid.request_id, "gen_ai.response.model": plan.model})
        return paid

    async def resume(self, account: Account, task_id: str) -> PaidPicture:
        return await self._inner.resume(account, task_id)

    async def probe(self, account: Account, model: str) -> CallFailure:
        return await self._inner.probe(account, model)


class _TracedSource:
    def __init__(self, inner: PictureSource, spans: Spans) -> None:
        self._inner = inner
        self._spans = spans

    @asynccontextmanager
    async def fetch(self, url: str) -> AsyncGenerator[Download]:
        """Keep the download, and not what is done with the bytes. Of the URL, its host: the rest is a signature."""
        async with AsyncExitStack() as stack:
            with self._spans.call("fetch picture", {"server.address": urlsplit(url).hostname or ""}) as span:
                download = await stack.enter_async_context(self._inner.fetch(url))
                span.set_attribute("glm_gateway.bytes", download.image.bytes)
            yield download


class _TracedStore:
    def __init__(self, inner: PictureStore, spans: Spans) -> None:
        self._inner = inner
        self._spans = spans

    def usable(self) -> bool:
        return self._inner.usable()

    async def put(self, download: Download) -> ImageRef:
        with self._spans.call("store picture", {"glm_gateway.bytes": download.image.bytes}):
            return await self._inner.put(download)

    async def open(self, image: ImageRef, rendition: Rendition | None = None, *, found: bool = False) -> StoredPicture:
        with self._spans.call("open picture", {}):
            return await self._inner.open(image, rendition, found=found)

    async def find(self, file: PictureFile) -> StoredPicture:
        with self._spans.call("open picture", {}):
            return await self._inner.find(file)


class _TracedMaker:
    def __init__(self, inner: PictureMaker, spans: Spans, marks: Marks) -> None:
        self._inner = inner
        self._spans = spans
        self._marks = marks

    async def make(self, order: ImageOrder, wish: Wish, progress: Progress) -> Picture:
        name = (wish.group, wish.position)
        with self._spans.span("picture", {"glm_gateway.position": wish.position}) as span:
            self._marks[name] = span.get_span_context()
            try:
                return await self._inner.make(order, wish, _TracedProgress(progress, self._spans))
            finally:
                del self._marks[name]


class _TracedProgress:
    def __init__(self, inner: Progress, spans: Spans) -> None:
        self._inner = inner
        self._spans = spans
        self.sent = inner.sent
        self.turned_away = inner.turned_away
        self.submitted = inner.submitted
        self.paid = inner.paid

    def waited(self, seconds: float) -> None:
        self._spans.past("wait for a slot", seconds)
        self._inner.waited(seconds)


class _TracedFlights:
    """Keeps the waits; all else is notes, whose scripts have spans of their own."""

    def __init__(self, inner: FlightStore, spans: Spans, marks: Marks) -> None:
        self._inner = inner
        self._spans = spans
        self._marks = marks
        self.lapsed = inner.lapsed
        self.sent = inner.sent
        self.submitted = inner.submitted
        self.paid = inner.paid
        self.finish = inner.finish
        self.vacate = inner.vacate
        self.left = inner.left
        self.waiting = inner.waiting
        self.forget = inner.forget

    async def turn(self, reservation: Reservation) -> bool:
        with self._spans.span("wait for a turn"):
            return await self._inner.turn(reservation)

    async def follow(self, reservation: Reservation, part: Follow) -> End:
        """The picture's own span is linked where it is made by this replica; elsewhere its job's name finds it."""
        mark = self._marks.get((part.job_id, part.index))
        told: Attributes = {"glm_gateway.job": part.job_id, "glm_gateway.position": part.index}
        with self._spans.span("wait for another request's picture", told, link=mark):
            return await self._inner.follow(reservation, part)
