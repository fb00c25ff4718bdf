"""Slots are handed out fairly and never lost; a call is repeated only while it is certain that nothing was made."""

import asyncio
from collections import Counter
from contextlib import ExitStack, nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain import errors
from gateway.domain.upstream import Fault
from gateway.service.picture_ports import FetchFailed
from tests.builders import a_paid_picture, an_account, an_offer, failed
from tests.fakes import Queue, Workshop, a_wish, serve_out, settle

pytestmark = pytest.mark.anyio

UNREACHABLE = failed(Fault.UNREACHABLE, "", 0)
INTERNAL, OVERLOADED = [0.5, 1.0], [1.0, 2.0, 4.0]
FAULTS = [
    (failed(Fault.INTERNAL), errors.UpstreamBroken, INTERNAL),
    (failed(Fault.OVERLOADED, "1305", 429), errors.UpstreamOverloaded, OVERLOADED),
    (UNREACHABLE, errors.UpstreamUnreachable, INTERNAL),
    (failed(Fault.ACCOUNT, "1113", 429), errors.AccountUnusable, []),
    (failed(Fault.CONTENT, "1301", 400), errors.ContentRefused, []),
    (failed(Fault.PROMPT_TOO_LONG, "1261", 400), errors.TextTooLong, []),
    (failed(Fault.MODEL, "1211", 400), errors.ModelNotFound, []),
    (failed(Fault.REQUEST, "1210", 400), errors.UpstreamRejected, []),
    (failed(Fault.CUT, "", 0), errors.OutcomeUnknown, []),
]


async def test_a_picture_is_called_for_once_downloaded_once_and_told():
    shop = Workshop(a_paid_picture("fox"))
    shop.clock.step = 2.0
    picture = await shop.make(prompt="a fox")
    assert [(account.name, plan.prompt) for account, plan in shop.upstream.calls] == [("main", "a fox")]
    assert shop.source.urls == ["https://cdn.z.ai/fox.png"]
    assert (picture.paid.request_id, picture.size) == ("request-fox", "1280x1280")
    assert shop.observer.all("picture_paid") == [["main", "glm-image", 2.0]]
    assert shop.observer.all("picture_delivered") == [["glm-image"]]
    assert shop.clock.slept == []


@pytest.mark.parametrize(("fault", "kind", "waits"), FAULTS)
async def test_a_fault_that_stays_is_tried_so_often_and_no_more(fault, kind, waits):
    shop = Workshop(*[fault] * 20)
    with pytest.raises(kind):
        await shop.make()
    assert len(shop.upstream.calls) == len(waits) + 1
    assert shop.clock.slept == waits
    assert [told[0] for told in shop.observer.all("call_failed")] == ["main"] * (len(waits) + 1)
    assert shop.observer.all("picture_paid") == []


@pytest.mark.parametrize(
    ("fault", "waits"), [(fault, waits[:tries]) for fault, _, waits in FAULTS for tries in range(1, len(waits) + 1)]
)
async def test_a_fault_that_passes_leaves_one_paid_picture(fault, waits):
    shop = Workshop(*[fault] * len(waits))
    await shop.make()
    assert len(shop.upstream.calls) == len(waits) + 1
    assert shop.clock.slept == waits
    assert len(shop.observer.all("picture_paid")) == 1


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        (failed(Fault.RATE, "1302", 429, detail="slow down"), "code 1302, status 429: slow down"),
        (failed(Fault.CUT, "", 0, detail="half an answer"), "code -, status 0: half an answer"),
    ],
)
async def test_the_operator_is_told_the_upstreams_own_words(fault, detail):
    shop = Workshop(*[fault] * 5)
    await asyncio.gather(shop.make(), return_exceptions=True)
    assert shop.observer.all("call_failed")[0] == ["main", "glm-image", fault.failure.fault, detail]


@given(numbers=st.lists(st.integers(0, len(FAULTS)), max_size=12))
def test_nothing_is_called_again_after_a_paid_or_unknown_end(numbers):
    """Number len(FAULTS) is a paid picture; afterwards the fake would pay for every further call."""
    ends = [FAULTS[number][0] if number < len(FAULTS) else a_paid_picture() for number in numbers]
    shop = Workshop(*ends)
    kind = None
    try:
        asyncio.run(shop.make())
    except errors.GatewayError as failure:
        kind = type(failure)
    calls = len(shop.upstream.calls)
    assert calls <= 5
    made = [FAULTS[number] if number < len(FAULTS) else (None, None, []) for number in [*numbers, len(FAULTS)][:calls]]
    assert all(waits for _, _, waits in made[:-1])
    assert made[-1][1] is kind


@pytest.mark.parametrize(
    "end", [*(fault for fault, _, _ in FAULTS), RuntimeError("a defect"), asyncio.CancelledError()]
)
async def test_a_slot_comes_back_however_a_call_ends(end):
    shop = Workshop(*[end] * 5, max_wait=0.05)
    await asyncio.gather(shop.make(), return_exceptions=True)
    shop.upstream.ends = []
    shop.clock.seconds += 3601  # an account without balance is left alone for an hour
    await shop.make()
    assert shop.observer.waiting == 0


RATE = failed(Fault.RATE, "1302", 429)
EMPTY = failed(Fault.ACCOUNT, "1113", 429)
WRONG_KEY = failed(Fault.ACCOUNT, "401", 401)


@pytest.mark.parametrize(("seconds", "calls"), [(30, 3), (90, 2), (150, 1)])
async def test_what_fails_late_is_not_tried_for_longer_than_a_call_may_take(seconds, calls):
    shop = Workshop(*[failed(Fault.INTERNAL)] * 5)
    make = shop.upstream.make

    async def slow(*words):
        shop.clock.seconds += seconds
        return await make(*words)

    shop.upstream.make = slow
    with pytest.raises(errors.UpstreamBroken):
        await shop.make()
    assert len(shop.upstream.calls) == calls


async def test_an_account_with_too_many_calls_is_asked_again_later_and_its_picture_keeps_its_place():
    shop = Workshop(RATE, RATE)
    in_no_time = shop.clock.sleep

    async def sleep(seconds):
        await settle()  # whoever comes back does so before the wait is over
        await in_no_time(seconds)

    shop.clock.sleep = sleep
    first = asyncio.create_task(shop.make(prompt="first"))
    await settle(1)
    second = asyncio.create_task(shop.make(prompt="second"))
    await asyncio.gather(first, second)
    assert [plan.prompt for _, plan in shop.upstream.calls] == ["first"] * 3 + ["second"]
    assert shop.clock.slept == [0.5, 1.0]


async def test_an_account_that_has_too_many_calls_for_ever_is_given_up_when_the_queue_is():
    shop = Workshop(*[RATE] * 20, max_wait=20)
    with pytest.raises(errors.UpstreamRateLimited):
        await shop.make()
    assert shop.clock.slept[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert len(shop.upstream.calls) == 7  # the last wait began in time, and the clock that is asked ran ahead
    assert shop.progress.times_sent == 0


async def test_an_account_without_balance_is_asked_once_and_no_client_sees_it():
    shop = Workshop(EMPTY, accounts=[an_account("empty"), an_account("full")])
    for _ in range(5):
        await shop.make()
    assert [account.name for account, _ in shop.upstream.calls] == ["empty"] + ["full"] * 5
    [[name, park]] = shop.observer.all("account_parked")
    assert (name, park.code) == ("empty", "1113")
    shop.clock.seconds += 3601
    await shop.make()
    await shop.make()
    assert "empty" in [account.name for account, _ in shop.upstream.calls[-2:]]


async def test_an_account_that_cannot_be_reached_is_left_alone_for_a_moment_and_another_one_asked_at_once():
    shop = Workshop(UNREACHABLE, accounts=[an_account("gone"), an_account("there")])
    for _ in range(5):
        await shop.make()
    assert [account.name for account, _ in shop.upstream.calls] == ["gone"] + ["there"] * 5
    assert shop.clock.slept == []
    [[name, park]] = shop.observer.all("account_parked")
    assert (name, park.code, park.until) == ("gone", "unreachable", round((shop.clock.now().timestamp() + 30) * 1000))
    assert shop.progress.times_sent == 5
    shop.clock.seconds += 30
    await asyncio.gather(shop.make(), shop.make())
    assert "gone" in [account.name for account, _ in shop.upstream.calls[-2:]]


async def test_the_last_account_that_is_left_is_tried_again_and_left_alone_by_nobody():
    shop = Workshop(*[UNREACHABLE] * 4, accounts=[an_account("first"), an_account("second")])
    with pytest.raises(errors.UpstreamUnreachable):
        await shop.make()
    assert [account.name for account, _ in shop.upstream.calls] == ["first"] + ["second"] * 3
    assert shop.clock.slept == INTERNAL
    await shop.make()
    assert shop.upstream.calls[-1][0].name == "second"


async def test_accounts_that_cannot_be_reached_at_the_same_moment_are_used_all_the_same():
    """Both calls fail before either account is known to be left alone."""
    shop = Workshop(UNREACHABLE, UNREACHABLE, accounts=[an_account("first"), an_account("second")])
    await asyncio.gather(shop.make(), shop.make())
    assert Counter(account.name for account, _ in shop.upstream.calls) == {"first": 2, "second": 2}
    assert len(shop.observer.all("account_parked")) == 2


async def test_an_account_that_cannot_be_reached_is_tried_again_when_the_others_have_no_balance():
    shop = Workshop(EMPTY, UNREACHABLE, accounts=[an_account("empty"), an_account("far")])
    await shop.make()
    assert [account.name for account, _ in shop.upstream.calls] == ["empty", "far", "far"]
    assert shop.clock.slept == INTERNAL[:1]


async def test_a_picture_that_no_other_account_takes_in_time_hears_that_the_upstream_cannot_be_reached():
    shop = Workshop(UNREACHABLE, accounts=[an_account("busy"), an_account("gone")], max_wait=0.1)
    with await shop.slots.take(a_wish("another")) as slot:
        assert slot.account.name == "busy"
        with pytest.raises(errors.UpstreamUnreachable):
            await shop.make()
    assert [account.name for account, _ in shop.upstream.calls] == ["gone"]
    assert shop.progress.times_sent == 0


async def test_a_wrong_key_is_never_used_again_and_its_account_is():
    first, second = an_account("first", account="both"), an_account("second", account="both", fingerprint="other")
    shop = Workshop(WRONG_KEY, accounts=[first, second])
    for _ in range(3):
        await shop.make()
    shop.clock.seconds += 10 * 86_400
    await shop.make()
    assert [account.name for account, _ in shop.upstream.calls] == ["first"] + ["second"] * 4


@pytest.mark.parametrize(("code", "status", "others"), [("1220", 403, ["glm-image"]), ("401", 401, [])])
async def test_a_key_that_may_not_use_one_model_is_used_for_the_others_and_one_that_is_wrong_for_none(
    code, status, others
):
    shop = Workshop(failed(Fault.ACCOUNT, code, status))
    with pytest.raises(errors.AccountUnusable):
        await shop.make(model="cogview-4")
    used = ["cogview-4", *others]
    for model in ("cogview-4", "glm-image"):
        with nullcontext() if model in others else pytest.raises(errors.AccountUnusable):
            await shop.make(model=model)
    assert [plan.model for _, plan in shop.upstream.calls] == used


async def test_when_no_account_is_left_those_who_wait_hear_why():
    shop = Workshop(EMPTY)
    shop.upstream.gate.clear()
    tasks = [asyncio.create_task(shop.make()) for _ in range(3)]
    await settle()
    shop.upstream.gate.set()
    await settle()
    await shop.slots.tend()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, errors.AccountUnusable) and "no balance" in end.message for end in ends)
    assert len(shop.upstream.calls) == 1
    with pytest.raises(errors.AccountUnusable):
        await shop.make()
    assert len(shop.upstream.calls) == 1


async def test_a_model_that_no_account_makes_is_refused_at_once():
    shop = Workshop(accounts=[an_account(models=frozenset({"cogview-4-250304"}))])
    with pytest.raises(errors.AccountUnusable):
        await shop.make()


async def test_downloading_holds_no_slot():
    shop = Workshop()
    shop.source.gate.clear()
    tasks = [asyncio.create_task(shop.make()) for _ in range(3)]
    await settle()
    assert len(shop.upstream.calls) == 3
    assert shop.upstream.most_in_flight == 1
    shop.source.gate.set()
    await asyncio.gather(*tasks)


async def test_calls_in_flight_never_exceed_what_an_account_lets():
    shop = Workshop(accounts=[an_account("large", 3), an_account("small", 1)])
    shop.upstream.gate.clear()
    tasks = [asyncio.create_task(shop.make()) for _ in range(20)]
    await settle()
    assert Counter(account.name for account, _ in shop.upstream.calls) == {"large": 3, "small": 1}
    assert shop.observer.waiting == 16
    shop.upstream.gate.set()
    await asyncio.gather(*tasks)
    assert len(shop.upstream.calls) == 20
    assert shop.upstream.most_in_flight == 4
    assert shop.observer.waiting == 0


DOWNLOADS = [([], [], True), ([False], [1.0], True), ([False] * 3, [1.0, 2.0, 4.0], True)]
DOWNLOADS += [([False] * 4, [1.0, 2.0, 4.0], False), ([True], [], False), ([False, True], [1.0], False)]


@pytest.mark.parametrize(("finals", "waits", "delivered"), DOWNLOADS)
async def test_a_paid_picture_is_downloaded_in_four_tries_and_never_paid_again(finals, waits, delivered):
    shop = Workshop()
    shop.source.ends = [FetchFailed("status 404", final=final) for final in finals]
    [end] = await asyncio.gather(shop.make(), return_exceptions=True)
    assert isinstance(end, errors.ImageDownloadFailed) is not delivered
    assert delivered or "request-1" in end.message
    assert len(shop.upstream.calls) == 1
    assert shop.clock.slept == waits
    given_up = [given_up for _, _, given_up in shop.observer.all("fetch_failed")]
    assert given_up == [not delivered and number == len(finals) for number in range(1, len(finals) + 1)]
    assert len(shop.observer.all("picture_delivered")) == delivered


async def test_first_come_first_served():
    """Even when a newcomer starts in the tick in which a slot is given back, before the first waiter has woken up."""
    queue = Queue()
    tasks = queue.enter("a", "b", "c")
    await settle()
    queue.release["a"].set()
    tasks += queue.enter("newcomer")
    await settle()
    await serve_out(queue, tasks, ["b", "c", "newcomer"])
    assert queue.served == ["a", "b", "c", "newcomer"]


async def test_who_waits_too_long_is_refused_and_leaves_no_trace():
    queue = Queue(max_wait=0.05, max_length=1)
    holder, waiter = queue.enter("holder", "waiter")
    with pytest.raises(errors.QueueTimedOut, match="in time"):
        await waiter
    with pytest.raises(errors.QueueTimedOut, match="in time"):
        await queue.hold("another")  # the only place in the queue is free again
    assert queue.observer.waiting == 0
    queue.release["holder"].set()
    await holder
    [later] = queue.enter("later")
    await settle()
    assert queue.served == ["holder", "later"]
    queue.release["later"].set()
    await later


@pytest.mark.parametrize(("pace", "told"), [(20.0, 20 * 3.5 - 0.05), (0.001, 0.0), (0.0, None)])
async def test_who_waited_in_vain_is_told_when_another_try_would_be_served_in_time(pace, told):
    """Three others of its project stand before it; how long calls take is known only while it waits."""
    queue = Queue()
    tasks = queue.enter("holder", "b", "c", "d")
    await settle()
    late = asyncio.create_task(queue.slots.take(a_wish("late", patience=0.05)))
    await settle()
    queue.store.memory.line("glm-image").pace = pace
    with pytest.raises(errors.QueueTimedOut, match="in time") as failed:
        await late
    assert failed.value.retry_after == (None if told is None else pytest.approx(told))
    await serve_out(queue, tasks, ["holder", "b", "c", "d"])


async def test_who_waited_in_vain_is_told_no_time_while_the_store_is_away():
    queue = Queue()
    tasks = queue.enter("holder")
    await settle()
    late = asyncio.create_task(queue.slots.take(a_wish("late", patience=0.05)))
    await settle()
    queue.store.memory.line("glm-image").pace = 20.0
    queue.store.down = True
    with pytest.raises(errors.QueueTimedOut) as failed:
        await late
    assert failed.value.retry_after is None
    queue.store.down = False
    await serve_out(queue, tasks, ["holder"])


async def test_one_too_many_is_refused_at_once():
    queue = Queue(max_length=2)
    holder, leaver, stayer = queue.enter("holder", "leaver", "stayer")
    await settle()
    [late] = queue.enter("late")
    with pytest.raises(errors.QueueTimedOut, match="So many"):
        await asyncio.wait_for(late, 1)
    leaver.cancel()
    await settle()
    [newcomer] = queue.enter("newcomer")  # there is room again
    await settle()
    await serve_out(queue, [holder, stayer, newcomer], ["holder", "stayer", "newcomer"])
    assert queue.served == ["holder", "stayer", "newcomer"]


async def test_a_queue_without_places_still_serves_who_need_not_wait():
    queue = Queue(max_length=0)
    [holder] = queue.enter("holder")
    await settle()
    assert queue.served == ["holder"]
    [late] = queue.enter("late")
    with pytest.raises(errors.QueueTimedOut):
        await asyncio.wait_for(late, 1)
    queue.release["holder"].set()
    await holder


async def test_a_waiter_who_leaves_with_the_slot_already_handed_over_gives_it_to_the_next():
    queue = Queue()
    with ExitStack() as held:
        held.enter_context(await queue.one(object()))
        leaver, stayer = queue.enter("leaver", "stayer")
        await settle()
        held.close()  # the leaver is about to wake up with the slot
        leaver.cancel()
    await settle()
    assert queue.served == ["stayer"]
    assert queue.observer.waiting == 0
    await serve_out(queue, [stayer], ["stayer"])


async def test_a_stop_releases_who_waits_and_lets_finish_who_was_sent():
    queue = Queue()
    holder, *waiters = queue.enter("holder", "b", "c")
    await settle()
    waiters[1].cancel()
    queue.slots.close()
    with pytest.raises(errors.ShuttingDown, match="Nothing was sent"):
        await waiters[0]
    assert queue.observer.waiting == 0
    await serve_out(queue, [holder], ["holder"])
    with pytest.raises(errors.ShuttingDown):
        await queue.hold("late")
    assert queue.served == ["holder"]


async def test_a_stop_tries_nothing_again():
    shop = Workshop(*[failed(Fault.RATE, "1302", 429)] * 5)
    shop.upstream.gate.clear()
    task = asyncio.create_task(shop.make())
    await settle()
    shop.slots.close()
    shop.upstream.gate.set()
    with pytest.raises(errors.ShuttingDown):
        await task
    assert len(shop.upstream.calls) == 1


@given(
    concurrency=st.integers(1, 3),
    steps=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4), st.booleans()), max_size=30),
)
def test_no_interleaving_loses_or_doubles_a_slot(concurrency, steps):
    """Each step: ticks that pass, ticks for which a newcomer holds its slot, and whether one of them all leaves."""
    queue, holding = Queue(concurrency), []

    async def hold(ticks):
        with await queue.one(object()):
            holding.append(ticks)
            assert len(holding) <= concurrency
            try:
                await settle(ticks)
            finally:
                holding.remove(ticks)

    async def run():
        tasks = []
        for passing, ticks, leaves in steps:
            tasks.append(asyncio.create_task(hold(ticks)))
            await settle(passing)
            if leaves:
                tasks[len(tasks) // 2].cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [end for end in ends if isinstance(end, Exception)]
        assert queue.observer.waiting == 0
        last = queue.enter(*range(concurrency))
        await settle()
        await serve_out(queue, last, range(concurrency))
        assert len(queue.served) == concurrency

    asyncio.run(run())


async def test_a_wait_for_a_slot_is_told_also_when_none_came_free():
    shop = Workshop(max_wait=0.05)
    shop.upstream.gate.clear()
    first = asyncio.create_task(shop.make())
    await settle()
    second = asyncio.create_task(shop.make())
    await settle()
    shop.clock.seconds += 7
    with pytest.raises(errors.QueueTimedOut):
        await second
    shop.upstream.gate.set()
    await first
    assert shop.progress.waits == [0, 7]


def put(shop, *accounts, **offer):
    """Put other accounts in place, as a reload does."""
    shop.offers.now = an_offer(*accounts, **offer)
    shop.slots.offered_anew()


async def test_who_waits_goes_to_the_accounts_of_a_reload_and_who_runs_ends_where_it_began():
    shop = Workshop(accounts=[an_account("old")])
    shop.upstream.gate.clear()
    tasks = [asyncio.create_task(shop.make()) for _ in range(3)]
    await settle()
    put(shop, an_account("new", 2))
    await settle()
    assert [account.name for account, _ in shop.upstream.calls] == ["old", "new", "new"]
    shop.upstream.gate.set()
    assert sorted(picture.account for picture in await asyncio.gather(*tasks)) == ["new", "new", "old"]
    assert shop.progress.senders == ["old", "new", "new"]


async def test_a_higher_limit_is_felt_at_once():
    shop = Workshop()
    shop.upstream.gate.clear()
    tasks = [asyncio.create_task(shop.make()) for _ in range(3)]
    await settle()
    put(shop, an_account(concurrency=3))
    await settle()
    assert len(shop.upstream.calls) == 3
    shop.upstream.gate.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(("limit", "running"), [(4, 4), (3, 1), (2, 1)])
async def test_a_limit_that_was_raised_is_believed_whatever_calls_taught_before(limit, running):
    shop = Workshop(accounts=[an_account(concurrency=3)])
    shop.upstream.gate.clear()
    shop.slot_store.memory.line("glm-image").learned["main"] = (1, shop.clock.now().timestamp())
    tasks = [asyncio.create_task(shop.make()) for _ in range(5)]
    await settle()
    assert shop.upstream.in_flight == 1
    put(shop, an_account(concurrency=limit))
    await settle()
    assert shop.upstream.in_flight == running
    shop.upstream.gate.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("now", [an_account("other"), an_account("main", fingerprint="another key")])
async def test_what_is_to_be_tried_again_on_what_a_reload_took_away_goes_elsewhere(now):
    shop = Workshop(failed(Fault.INTERNAL))
    sleep = shop.clock.sleep

    async def reload_then_sleep(seconds):
        put(shop, now)
        await sleep(seconds)

    shop.clock.sleep = reload_then_sleep
    assert (await shop.make()).account == now.name
    assert [account for account, _ in shop.upstream.calls] == [an_account(), now]
    assert shop.progress.times_sent == 1


async def test_a_slot_that_was_given_just_before_a_reload_is_not_used():
    shop = Workshop(accounts=[an_account("old")])
    granted = shop.slot_store.enter

    async def enter(*words):
        standing = await granted(*words)
        asyncio.get_running_loop().call_soon(put, shop, an_account("new"))  # after the slot is given, before it is used
        shop.slot_store.enter = granted
        return standing

    shop.slot_store.enter = enter
    assert (await shop.make()).account == "new"
    assert [account.name for account, _ in shop.upstream.calls] == ["new"]


async def test_who_waits_for_a_model_that_a_reload_takes_away_hears_it_and_its_queue_is_forgotten():
    shop = Workshop()
    shop.upstream.gate.clear()
    runs, waits = (asyncio.create_task(shop.make()) for _ in range(2))
    await settle()
    put(shop, an_account(models=frozenset({"cogview-4"})))
    await settle()
    with pytest.raises(errors.AccountUnusable):
        await waits
    shop.upstream.gate.set()
    assert (await runs).account == "main"
    await settle()
    await shop.slots.tend()
    assert shop.slots.standings.keys() == {"cogview-4"}
