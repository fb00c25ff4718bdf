"""What a generation charges, and its line in the ledger: exactly what was delivered, whoever still waits for it."""

import asyncio

import pytest

from gateway.api.errors import answer_of
from gateway.domain import errors
from gateway.domain.limits import Limit
from gateway.domain.quota import Limits
from gateway.domain.upstream import Fault
from gateway.domain.usage import Outcome
from gateway.service.picture_ports import FetchFailed
from tests.builders import NOW, PRICE, a_caller, a_paid_picture, failed
from tests.fakes import settle
from tests.studio import Studio

pytestmark = pytest.mark.anyio

PAID = a_paid_picture()
REFUSED = failed(Fault.CONTENT, "1301", 400)
CUT = failed(Fault.CUT, "", 0)
DEFECT = RuntimeError("a defect")
LOST = FetchFailed("gone", final=True)

# What the calls and the downloads end with -> outcome, delivered, paid, cost in pictures, whether that is certain.
ENDS = [
    ([PAID], [], Outcome.DELIVERED, 1, 1, 1, True),
    ([PAID] * 3, [], Outcome.DELIVERED, 3, 3, 3, True),
    ([PAID, REFUSED, PAID], [], Outcome.PARTIAL, 2, 2, 2, True),
    ([REFUSED, REFUSED], [], Outcome.FAILED, 0, 0, 0, True),
    ([PAID], [LOST], Outcome.FAILED, 0, 1, 1, True),
    ([PAID, PAID], [LOST], Outcome.PARTIAL, 1, 2, 2, True),
    ([CUT], [], Outcome.UNKNOWN, 0, 0, 1, False),
    ([CUT, REFUSED, PAID], [LOST], Outcome.UNKNOWN, 0, 1, 2, False),
    ([CUT, PAID], [], Outcome.PARTIAL, 1, 1, 2, False),
    ([DEFECT], [], Outcome.UNKNOWN, 0, 0, 1, False),
]
LIMITS = Limits(**dict.fromkeys((limit.value for limit in Limit), 10**9))


def stay(generation):
    return generation.all()


def first(generation):
    return anext(generation.each())


async def leave(generation):
    client = asyncio.create_task(generation.all())
    await asyncio.sleep(0)
    client.cancel()
    await asyncio.gather(client, return_exceptions=True)


async def leave_a_stream(generation):
    pictures = generation.each()
    await asyncio.gather(anext(pictures), return_exceptions=True)
    await pictures.aclose()


async def never_look(generation):
    pass


@pytest.mark.parametrize("client", [stay, leave, leave_a_stream, never_look])
@pytest.mark.parametrize("row", ENDS)
async def test_what_was_delivered_is_charged_and_what_may_be_paid_is_cost(client, row):
    calls, downloads, outcome, delivered, paid, cost, certain = row
    studio = Studio(*calls)
    studio.shop.source.ends = list(downloads)
    generation = await studio.start(n=len(calls), caller=a_caller(key_limits=LIMITS, project_limits=LIMITS))
    await asyncio.gather(client(generation), return_exceptions=True)
    line = await studio.line()
    assert generation.run.answerable.done()
    assert (line.outcome, line.pictures_requested, line.pictures_delivered) == (outcome, len(calls), delivered)
    assert (line.pictures_paid, line.cost, line.cost_uncertain) == (paid, cost * PRICE, not certain)
    assert line.price == delivered * PRICE
    assert studio.quotas.charged == {"request-1": delivered}
    assert studio.quotas.holding == {}
    counted = {limit: delivered for limit in Limit if limit.value.startswith("images")}
    counted |= {Limit.SPEND_PER_MONTH: delivered * PRICE, Limit.REQUESTS_PER_MINUTE: 1, Limit.CONCURRENT: 0}
    for name in ("key.abcDEF012345", "project.proj_default"):
        assert studio.quotas.used(name) == counted
    assert studio.spool.settlements == []


async def test_the_line_says_who_asked_for_what_and_how_long_it_took():
    studio = Studio(failed(Fault.RATE, "1302", 429))
    caller = a_caller(project_id="proj_1", key_id="keykeykeykey")
    await studio.start(model="gpt-image-1", size="1920x1080", user="someone", caller=caller)
    line = await studio.line()
    assert (line.event_id, line.request_id, line.time) == ("request-1", "request-1", NOW)
    assert (line.project_id, line.key_id) == ("proj_1", "keykeykeykey")
    assert (line.requested_model, line.upstream_model) == ("gpt-image-1", "glm-image")
    assert (line.upstream_account, line.size, line.latency_ms) == ("main", "1280x1280", 500)
    assert (line.cost_currency, line.currency) == ("CNY", "CNY")
    assert len(line.end_user_hash) == 32
    assert line.prompt_hash == "hash of 21"
    assert "someone" not in repr(line)
    assert "fox" not in repr(line)


ANSWERS = [
    ([PAID], [], 200, ""),
    ([CUT, PAID, REFUSED], [], 200, ""),
    ([REFUSED, failed(Fault.ACCOUNT, "1113", 429)], [], 400, "content_policy_violation"),
    ([REFUSED, CUT], [], 504, "upstream_outcome_unknown"),
    ([REFUSED, PAID], [LOST], 502, "image_download_failed"),
    ([PAID, CUT], [LOST], 504, "upstream_outcome_unknown"),
    ([DEFECT], [], 500, "server_error"),
]


@pytest.mark.parametrize(("calls", "downloads", "status", "code"), ANSWERS)
async def test_the_line_has_the_status_and_the_code_that_the_client_gets(calls, downloads, status, code):
    studio = Studio(*calls)
    studio.shop.source.ends = list(downloads)
    generation = await studio.start(n=len(calls))
    [end] = await asyncio.gather(generation.all(), return_exceptions=True)
    line = await studio.line()
    assert (line.status, line.error_code) == (status, code)
    assert status == (answer_of(end).status if isinstance(end, BaseException) else 200)


async def test_the_line_of_a_job_that_a_stop_cut_off_has_the_answer_of_its_client():
    studio = Studio()
    studio.shop.upstream.gate.clear()
    generation = await studio.start()
    await settle()
    generation.run.tasks[0].cancel()
    with pytest.raises(errors.OutcomeUnknown):
        await generation.all()
    line = await studio.line()
    assert (line.outcome, line.status, line.error_code) == (Outcome.UNKNOWN, 504, "upstream_outcome_unknown")


async def test_the_line_says_how_long_the_first_picture_waited_for_its_slot():
    studio = Studio(concurrency=1)
    studio.shop.upstream.gate.clear()
    await studio.start()
    await settle()
    await studio.start(n=2)
    await settle()
    studio.shop.clock.seconds += 2.5
    studio.shop.upstream.gate.set()
    assert await studio.jobs.drain(5) == 0
    assert [(line.event_id, line.queue_ms) for line in studio.quotas.events] == [("request-1", 0), ("request-2", 2500)]


async def test_a_picture_that_was_turned_away_waited_all_of_its_waits():
    studio = Studio(*[failed(Fault.RATE, "1302", 429)] * 2)
    generation = await studio.start()
    await generation.all()
    assert studio.shop.clock.slept == [0.5, 1.0]
    assert generation.queue_ms == (await studio.line()).queue_ms == 1500


async def test_what_is_kept_for_the_owners_death_is_the_most_that_it_may_have_cost():
    studio = Studio()
    studio.shop.upstream.gate.clear()
    await studio.start(n=3)
    line = studio.quotas.holding["request-1"].abandoned
    assert (line.outcome, line.pictures_requested, line.price) == (Outcome.ABANDONED, 3, 0)
    assert (line.cost, line.cost_uncertain) == (3 * PRICE, True)
    studio.shop.upstream.gate.set()
    assert (await studio.line()).outcome is Outcome.DELIVERED


async def test_nothing_is_settled_while_a_picture_is_under_way():
    studio = Studio(concurrency=1)
    studio.shop.source.gate.clear()
    generation = await studio.start(n=3)
    await settle()
    assert studio.quotas.events == []
    assert not generation.run.answerable.done()
    studio.shop.source.gate.set()
    assert (await studio.line()).pictures_delivered == 3


@pytest.mark.parametrize("trouble", ["down", "mute"])
async def test_a_settlement_without_an_answer_waits_on_the_disk(trouble):
    studio = Studio(PAID, REFUSED)
    generation = await studio.start(n=2)
    setattr(studio.quotas, trouble, True)
    assert len(await generation.all()) == 1
    assert await studio.jobs.drain(5) == 0
    [settlement] = studio.spool.settlements
    assert (settlement.charged, settlement.event.outcome, settlement.event.price) == (1, Outcome.PARTIAL, PRICE)
    assert settlement.reservation.claim.request_id == "request-1"
    assert studio.crashes == []


@pytest.mark.parametrize("wait", [stay, first])
async def test_a_failure_is_answered_although_nothing_can_be_given_back_now(wait, monkeypatch):
    """Five seconds more, in which the queue store was away as well, are no use to a client that is refused."""
    studio, back = Studio(REFUSED), asyncio.Event()
    monkeypatch.setattr(studio.quotas, "settle", lambda *_: back.wait())
    generation = await studio.start(n=1)
    async with asyncio.timeout(5):
        with pytest.raises(errors.ContentRefused):
            await wait(generation)
    assert not generation.run.answerable.done()
    back.set()


@pytest.mark.parametrize("trouble", ["down", "mute"])
async def test_nothing_is_made_while_limits_cannot_be_checked(trouble):
    studio = Studio()
    setattr(studio.quotas, trouble, True)
    with pytest.raises(errors.QuotaStoreDown):
        await studio.start(n=3)
    await settle()
    assert studio.shop.upstream.calls == []
    setattr(studio.quotas, trouble, False)
    assert await studio.jobs.drain(5) == 0
    assert studio.quotas.states == {"request-1": "released"}
    assert studio.quotas.events == studio.spool.settlements == []


@pytest.mark.parametrize("trouble", ["down", "mute"])
@pytest.mark.parametrize("back", [True, False])
async def test_an_installation_may_go_on_without_limits_and_still_charges(trouble, back):
    """Whether the release or the settlement comes first, what was delivered is charged once and the rest given back."""
    studio = Studio(PAID, REFUSED, on_outage="allow")
    setattr(studio.quotas, trouble, True)
    generation = await studio.start(n=2)
    assert generation.rooms == ()
    setattr(studio.quotas, trouble, not back)
    assert len(await generation.all()) == 1
    await generation.run.answerable
    setattr(studio.quotas, trouble, False)
    for settlement in studio.spool.settlements:
        await studio.quotas.settle(settlement.reservation, settlement.charged, settlement.event)
    line = await studio.line()
    assert (line.outcome, line.pictures_delivered, line.price) == (Outcome.PARTIAL, 1, PRICE)
    assert studio.quotas.charged == {"request-1": 1}
    assert studio.quotas.holding == {}
    assert studio.quotas.used("key.abcDEF012345")[Limit.IMAGES_PER_DAY] == 1
