"""What becomes of an event: taken, tried again, given up, or the end of its webhook."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from gateway.domain.errors import DatabaseUnavailable
from gateway.domain.webhooks import KEPT, TRIES
from gateway.service import alert_deliveries
from gateway.service.alert_deliveries import LEASE, DeliverAlerts, Way
from gateway.service.ports_alerts import Sent
from tests.fakes_administration import NOW, Clock, FakeProjects
from tests.fakes_alerts import URL, FakeAlertObserver, FakeReceivers, FakeWebhooks, a_delivery, a_webhook

pytestmark = pytest.mark.anyio


class Office:
    def __init__(self, *answers, **webhook):
        self.stores = FakeWebhooks(FakeProjects())
        self.stores.webhooks["proj_design"] = a_webhook(**webhook)
        self.rows = self.stores.outbox.rows
        self.receivers, self.clock, self.observer = FakeReceivers(*answers), Clock(), FakeAlertObserver()
        way = {"webhooks": self.stores, "outbox": self.stores.outbox, "sender": self.receivers}
        way |= {"secrets_of": lambda project, name: [f"whsec_{project}.{name}"], "chance": lambda: 0.5}
        self.deliver = DeliverAlerts(Way(**way), self.clock, self.observer)

    async def add(self, *deliveries):
        await self.stores.outbox.add(deliveries or [a_delivery()])

    async def run(self, seconds=0.0):
        self.clock.seconds += seconds
        await self.deliver.deliver_due()
        return self.rows["msg_1"]


async def test_what_is_taken_is_done():
    office = Office(204)
    await office.add()
    row = await office.run()
    assert (row.state, row.tries, row.last_status, row.delivered_at, row.next_try_at) == (
        "delivered",
        1,
        204,
        NOW,
        None,
    )
    [post] = office.receivers.posts
    assert (post.id, post.body, post.url, post.at) == ("msg_1", "{}", a_webhook().url, NOW)
    await office.run(86_400)
    assert len(office.receivers.posts) == 1
    assert office.observer.tried == [row]


async def test_what_fails_is_tried_eight_times_and_given_up():
    office = Office(*[500, 302, "no answer within 15 s"] * 10)
    await office.add()
    row = await office.run()
    assert (row.state, row.last_status, row.next_try_at) == ("pending", 500, NOW + timedelta(seconds=5))
    waits = []
    while row.state == "pending":
        waits.append((row.next_try_at - office.clock.now()).total_seconds())
        await office.run(waits[-1] - 1)
        assert office.rows["msg_1"].tries == row.tries
        row = await office.run(1)
    assert waits == [5, 25, 125, 625, 3125, 15625, 78125]
    assert (row.state, row.tries, row.next_try_at, row.last_status) == ("failed", TRIES, None, 302)
    assert len({post.body for post in office.receivers.posts}) == 1


async def test_a_receiver_without_an_answer_is_told_so():
    office = Office("no answer within 15 s")
    await office.add()
    row = await office.run()
    assert (row.last_status, row.last_error) == (None, "no answer within 15 s")
    row = await office.run(5)
    assert (row.state, row.last_error) == ("delivered", None)


async def test_410_ends_the_webhook():
    office = Office(410)
    await office.add(a_delivery(), a_delivery("msg_2"))
    row = await office.run()
    assert (row.state, row.last_status) == ("failed", 410)
    assert (await office.stores.get("proj_design")).disabled_at == NOW
    await office.run(86_400)
    assert (len(office.receivers.posts), office.rows["msg_2"].state) == (1, "pending")


async def test_a_secret_that_was_replaced_signs_for_a_while():
    until = NOW + timedelta(seconds=60)
    office = Office(500, 200, previous_secret_id="old", previous_until=until)
    await office.add()
    await office.run()
    await office.run(60)
    assert [len(post.secrets) for post in office.receivers.posts] == [2, 1]
    assert office.receivers.posts[0].secrets == ["whsec_proj_design.first", "whsec_proj_design.old"]


async def test_a_try_whose_process_died_comes_again_with_the_same_id():
    office = Office()
    await office.add()
    await office.stores.outbox.claim(NOW, NOW + LEASE, 1, ())
    assert (await office.run(LEASE.total_seconds() - 1)).tries == 1
    assert ((await office.run(1)).state, [post.id for post in office.receivers.posts]) == ("delivered", ["msg_1"])


async def test_one_that_cannot_be_noted_holds_up_no_other():
    office = Office()
    office.stores.webhooks["proj_sales"] = a_webhook("proj_sales")
    await office.add(a_delivery(), a_delivery("msg_2", "proj_sales"))
    real = office.stores.outbox.record

    async def record(delivery):
        if delivery.id == "msg_1":
            raise DatabaseUnavailable("down")
        await asyncio.sleep(0.01)
        await real(delivery)

    office.stores.outbox.record = record
    with pytest.raises(DatabaseUnavailable):
        await office.run()
    assert (office.rows["msg_1"].state, office.rows["msg_2"].state) == ("pending", "delivered")


async def test_the_history_is_forgotten_in_the_end():
    office = Office()
    await office.add()
    await office.run()
    office.clock.seconds = KEPT.total_seconds()
    await office.deliver.prune()
    assert office.rows
    office.clock.seconds += 1
    await office.deliver.prune()
    assert not office.rows


class HangingReceiver(FakeReceivers):
    """Answers for one project only when it is let."""

    def __init__(self, url):
        super().__init__()
        self.url, self.answering = url, asyncio.Event()

    async def send(self, post):
        if post.url == self.url:
            self.posts.append(post)
            await self.answering.wait()
            return Sent(200)
        return await super().send(post)


async def test_a_receiver_that_hangs_holds_up_its_own_events_alone(monkeypatch):
    monkeypatch.setattr(alert_deliveries, "ROUND_SECONDS", 0.01)
    office = Office()
    office.stores.webhooks["proj_slow"] = a_webhook(project_id="proj_slow", url="https://slow.example.com/")
    office.receivers = HangingReceiver("https://slow.example.com/")
    office.deliver._way = replace(office.deliver._way, sender=office.receivers)
    await office.add(a_delivery(), *(a_delivery(f"slow_{number}", project_id="proj_slow") for number in range(2)))
    assert (await office.run()).state == "delivered"
    await office.add(a_delivery("msg_2"))
    await office.run()
    assert [post.id for post in office.receivers.posts] == ["msg_1", "slow_0", "msg_2"]
    assert office.rows["msg_2"].state == "delivered"
    office.receivers.answering.set()
    await office.run()
    await office.run()
    assert {row.state for row in office.rows.values()} == {"delivered"}


async def test_what_hangs_is_let_go_of_at_the_end(monkeypatch):
    monkeypatch.setattr(alert_deliveries, "ROUND_SECONDS", 0.01)
    office = Office()
    office.deliver._way = replace(office.deliver._way, sender=HangingReceiver(URL))
    await office.add()
    assert (await office.run()).state == "pending"
    async with asyncio.timeout(5):
        await office.deliver.close()
