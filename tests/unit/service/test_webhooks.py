"""Webhooks as the operator handles them."""

from datetime import timedelta

import pytest

from gateway.domain.errors import InvalidValue, MissingParameter, NotFound
from gateway.domain.webhooks import OVERLAP
from gateway.service.administer_projects import AdministerProjects
from gateway.service.audit import Audit
from gateway.service.webhooks import AdministerWebhooks, WebhookRules, WebhookStores
from tests.fakes_administration import NOW, OPERATOR, Clock, FakeAnnouncer, FakeAuditLog, FakeProjects, a_project
from tests.fakes_alerts import URL, FakeWebhooks, a_delivery

pytestmark = pytest.mark.anyio

OTHER = "https://other.example.com/"


class Office:
    def __init__(self):
        self.stores, self.clock, self.drawn = FakeWebhooks(FakeProjects(a_project())), Clock(), 0
        self.log = FakeAuditLog()
        audit = Audit(self.log, self.clock, OPERATOR)
        projects = AdministerProjects(self.stores.projects, FakeAnnouncer(), self.clock, self.draw, audit)
        rules = WebhookRules(secrets_of=lambda *words: ["whsec_" + ".".join(words), "whsec_older"], allow_private=False)
        stores = WebhookStores(webhooks=self.stores, outbox=self.stores.outbox)
        self.webhooks = AdministerWebhooks(stores, projects, rules, self.clock, self.draw, audit)

    def draw(self, _):
        self.drawn += 1
        return f"{self.drawn}"


@pytest.fixture
def office():
    return Office()


async def test_every_change_is_in_the_audit_log_without_secrets(office):
    await office.webhooks.set("design", URL, None)
    await office.webhooks.set("design", OTHER, (90,))
    await office.webhooks.set("design", None, None, new_secret=True)
    await office.webhooks.set("design", None, None)
    await office.webhooks.remove("design")
    told = [(entry.event.type, dict(entry.event.before), dict(entry.event.after)) for entry in office.log.entries]
    assert told == [
        ("webhook.created", {}, {"url": URL, "thresholds": [50, 80, 100]}),
        ("webhook.updated", {"url": URL, "thresholds": [50, 80, 100]}, {"url": OTHER, "thresholds": [90]}),
        ("webhook.updated", {}, {"secret": "replaced"}),
        ("webhook.deleted", {"url": OTHER, "thresholds": [90]}, {}),
    ]
    assert {entry.event.project_name for entry in office.log.entries} == {"design"}


async def test_the_secret_is_given_once(office):
    webhook, secret = await office.webhooks.set("design", URL, None)
    assert (webhook.thresholds, webhook.url, secret) == ((50, 80, 100), URL, "whsec_proj_design.1")
    assert await office.webhooks.set("design", None, (90,)) == (await office.webhooks.find("design"), None)
    assert (await office.webhooks.find("proj_design")).thresholds == (90,)
    webhook, secret = await office.webhooks.set("design", OTHER, None)
    assert (webhook.url, webhook.thresholds, secret) == (OTHER, (90,), None)


async def test_a_new_secret_lets_the_old_one_sign_for_a_day(office):
    await office.webhooks.set("design", URL, None)
    webhook, secret = await office.webhooks.set("design", None, None, new_secret=True)
    assert secret == "whsec_proj_design.2"
    assert webhook.secret_ids(NOW + OVERLAP - timedelta(seconds=1)) == ("2", "1")
    assert webhook.secret_ids(NOW + OVERLAP) == ("2",)


async def test_one_that_is_made_anew_has_another_secret(office):
    _, first = await office.webhooks.set("design", URL, None)
    await office.webhooks.remove("design")
    _, second = await office.webhooks.set("design", URL, None)
    assert first != second


async def test_setting_enables_again(office):
    await office.webhooks.set("design", URL, None)
    await office.stores.disable("proj_design", URL, NOW)
    with pytest.raises(InvalidValue, match="disabled"):
        await office.webhooks.test("design")
    await office.webhooks.set("design", None, None)
    assert (await office.webhooks.find("design")).disabled_at is None


async def test_what_is_not_there(office):
    with pytest.raises(MissingParameter):
        await office.webhooks.set("design", None, None)
    for work in (office.webhooks.find, office.webhooks.remove, office.webhooks.test):
        with pytest.raises(NotFound):
            await work("design")
        with pytest.raises(NotFound):
            await work("nobody")
    with pytest.raises(InvalidValue):
        await office.webhooks.set("design", "https://127.0.0.1/", None)
    assert await office.webhooks.history("design") == []


async def test_a_test_is_due_at_once(office):
    await office.webhooks.set("design", URL, None)
    test = await office.webhooks.test("design")
    assert (test.type, test.next_try_at, test.threshold) == ("webhook.test", NOW, None)
    assert await office.webhooks.history("design") == [test]


async def test_an_event_is_sent_anew_with_all_its_tries(office):
    await office.webhooks.set("design", URL, None)
    await office.stores.outbox.add([a_delivery(state="failed", tries=8, tries_left=0, next_try_at=None)])
    again = await office.webhooks.redeliver("design", "msg_1")
    assert (again.state, again.tries, again.tries_left, again.next_try_at) == ("pending", 8, 8, NOW)
    assert await office.webhooks.history("design") == [again]
    with pytest.raises(NotFound):
        await office.webhooks.redeliver("design", "msg_2")
