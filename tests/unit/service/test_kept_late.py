"""What is paid and cannot be kept yet is tried again as long as its URL lives, unless its client has it already."""

from dataclasses import replace

import pytest

from gateway.domain import errors
from gateway.domain.flights import End, Follow, Lead, Receipt
from gateway.domain.usage import Outcome
from gateway.service.keeping import LATE_WAITS
from gateway.service.picture_ports import FetchFailed
from gateway.service.ports_flights import Orphan
from gateway.service.rescue import Rescue
from gateway.service.resuming import Resuming
from tests.builders import PRICE, a_paid_picture, a_picture, a_run, an_order
from tests.fakes import settle
from tests.studio import BOOKS, Studio

pytestmark = pytest.mark.anyio
ALWAYS = 10**6


async def begun(studio, n=1):
    """Start a job and stop where its calls are in flight."""
    studio.shop.upstream.gate.clear()
    studio.quotas.found["request-1"] = {"leads": tuple(Lead(index=index) for index in range(n))}
    generation = await studio.start(n=n)
    await settle()
    return generation


async def test_a_client_that_waits_gets_what_the_store_does_not_take_and_that_is_all():
    studio = Studio()
    studio.shop.store.refusals = 1
    [picture] = await (await studio.start()).all()
    assert picture.unstored
    assert (await studio.line()).outcome is Outcome.DELIVERED
    assert len(studio.shop.source.urls) == 1


async def test_what_the_store_did_not_take_of_a_client_that_has_left_is_not_delivered_before_it_is_stored():
    studio = Studio()
    studio.shop.store.refusals = 3
    generation = await begun(studio)
    generation.left()
    studio.shop.upstream.gate.set()
    await studio.jobs.drain(5)
    assert studio.quotas.events == []
    line = await studio.line()
    assert (line.outcome, line.pictures_delivered, line.price) == (Outcome.DELIVERED, 1, PRICE)
    assert len(studio.shop.store.pictures) == 1
    assert studio.quotas.endings["request-1"].ends[0].picture is not None
    assert len(studio.shop.upstream.calls) == 1
    [(_, _, end)] = studio.flights.all("finish")
    assert end.failure.kind == "ImageDownloadFailed"  # who follows the job waits no longer


async def test_before_a_picture_is_tried_later_everybody_knows_its_receipt():
    """A store that was away when the picture was paid has it now: this process may end before the picture is kept."""
    studio = Studio()
    studio.shop.store.refusals = 1
    generation = await begun(studio)
    generation.left()
    studio.flights.down = True
    studio.shop.source.gate.clear()
    studio.shop.upstream.gate.set()
    await settle()
    studio.flights.down = False
    studio.shop.source.gate.set()
    await studio.line()
    [(_, position, receipt)] = studio.flights.all("paid")
    assert (position, receipt.paid.request_id) == (0, "request-1")


async def test_what_a_slow_cdn_gives_while_the_store_is_down_is_tried_until_the_store_is_back():
    studio = Studio()
    studio.shop.source.ends = [FetchFailed("404")] * 4
    studio.shop.store.refusals = 3
    with pytest.raises(errors.ImageDownloadFailed):
        await (await studio.start()).all()
    line = await studio.line()
    assert (line.outcome, line.pictures_delivered) == (Outcome.DELIVERED, 1)
    assert len(studio.shop.store.pictures) == 1


async def test_what_no_store_takes_for_a_day_is_paid_and_not_charged():
    studio = Studio()
    studio.shop.store.refusals = ALWAYS
    generation = await begun(studio)
    generation.left()
    studio.shop.upstream.gate.set()
    line = await studio.line()
    assert (line.outcome, line.pictures_paid, line.pictures_delivered, line.price) == (Outcome.FAILED, 1, 0, 0)
    assert studio.shop.clock.seconds >= sum(LATE_WAITS) > 86_000


async def rescued(studio, receipt, ends=()):
    run = a_run(an_order())
    told = (studio.flights, studio.reservations, BOOKS, studio.errands)
    offers = studio.shop.offers
    resuming = Resuming(studio.shop.upstream, offers)
    rescue = Rescue(studio.shop.keeping, *told, studio.shop.clock, resuming=resuming, offers=offers)
    rescue(Orphan(reservation=run.reservation, receipts={0: receipt}, ends=dict(ends), sent=frozenset({0})))
    return await studio.line()


async def test_a_rescued_picture_is_delivered_when_it_is_stored_and_not_before():
    studio = Studio()
    studio.shop.store.refusals = 10
    line = await rescued(studio, Receipt(paid=a_paid_picture("1")))
    assert (line.outcome, line.pictures_delivered, line.price) == (Outcome.DELIVERED, 1, PRICE)
    assert len(studio.shop.store.pictures) == 1
    assert len(studio.flights.all("finish")) == 1


async def test_of_a_rescued_picture_whose_client_wanted_the_upstreams_url_nothing_is_fetched():
    studio = Studio()
    studio.shop.store.refusals = ALWAYS
    line = await rescued(studio, Receipt(paid=a_paid_picture("1"), linked=True))
    assert (line.outcome, line.pictures_delivered) == (Outcome.DELIVERED, 1)
    assert studio.shop.source.urls == []


async def test_a_rescued_picture_of_which_others_were_told_the_upstreams_url_alone_is_stored():
    studio = Studio()
    paid = a_paid_picture("1")
    told = End.of(replace(a_picture(), paid=paid, unstored=b"fox"))
    line = await rescued(studio, Receipt(paid=paid), {0: told})
    assert (line.outcome, line.pictures_delivered) == (Outcome.DELIVERED, 1)
    assert len(studio.shop.store.pictures) == 1


async def test_who_follows_a_picture_that_no_store_has_fetches_it_again():
    studio = Studio(scope="project")
    studio.flights.ends["other", 0] = End.of(replace(a_picture(), unstored=b"fox"))
    studio.quotas.found["request-1"] = {"follows": (Follow(job_id="other", index=0, shard=0),)}
    [picture] = await (await studio.start()).all()
    assert picture.image is not None
    assert studio.shop.upstream.calls == []
