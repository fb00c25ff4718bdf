"""Webhooks as the operator handles them: set, show, remove, test, history, redeliver."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway.domain.alerts import event
from gateway.domain.audit import webhook_event
from gateway.domain.errors import InvalidValue, MissingParameter, NotFound
from gateway.domain.projects import Project
from gateway.domain.webhooks import ORDINARY_THRESHOLDS, OVERLAP, TRIES, Delivery, Webhook, parse_url
from gateway.service.administer_projects import AdministerProjects
from gateway.service.alerts import new_delivery
from gateway.service.audit import Audit
from gateway.service.ports import Clock
from gateway.service.ports_alerts import AlertOutbox, SecretsOf, WebhookStore

ID_LENGTH = 16
TEST = "webhook.test"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookStores:
    """Where webhooks and their events are."""

    webhooks: WebhookStore
    outbox: AlertOutbox


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRules:
    """How secrets come about, and whether events may go to hosts that are not public, or over http."""

    secrets_of: SecretsOf
    allow_private: bool


class AdministerWebhooks:
    """The operator's use cases of webhooks; projects are named by id or name, NotFound when there is none."""

    def __init__(
        self,
        stores: WebhookStores,
        projects: AdministerProjects,
        rules: WebhookRules,
        clock: Clock,
        random_text: Callable[[int], str],
        audit: Audit,
    ) -> None:
        self._audit = audit
        self._stores = stores
        self._projects = projects
        self._rules = rules
        self._clock = clock
        self._random_text = random_text

    async def set(
        self, project: str, url: str | None, thresholds: Sequence[int] | None, *, new_secret: bool = False
    ) -> tuple[Webhook, str | None]:
        """Make or change a project's webhook, and let one go on that was disabled; what is None stays.

        Gives the secret when it is new; one that it replaces signs for a day as well.

        Raises:
            InvalidValue: the URL cannot be used; MissingParameter: there is none.
        """
        found = await self._projects.find(project)
        async with self._audit.changing() as note:
            known = await self._stores.webhooks.get(found.id)
            webhook = self._changed(known, url) if known else self._new(found, url)
            if known and new_secret:
                webhook = self._with_new_secret(webhook)
            webhook = replace(webhook, thresholds=tuple(thresholds) if thresholds else webhook.thresholds)
            await self._stores.webhooks.put(webhook)
            await note(webhook_event(found, known, webhook))
        fresh = new_secret or known is None
        return webhook, self._rules.secrets_of(found.id, webhook.secret_id)[0] if fresh else None

    async def find(self, project: str) -> Webhook:
        """Give a project's webhook; NotFound when it has none."""
        found = await self._projects.find(project)
        webhook = await self._stores.webhooks.get(found.id)
        if webhook is None:
            raise _none_of(found)
        return webhook

    async def remove(self, project: str) -> None:
        """Forget a project's webhook; what waits for it is given up. NotFound when it has none."""
        found = await self._projects.find(project)
        async with self._audit.changing() as note:
            known = await self._stores.webhooks.get(found.id)
            if known is None or not await self._stores.webhooks.remove(found.id):
                raise _none_of(found)
            await note(webhook_event(found, known, None))

    async def test(self, project: str) -> Delivery:
        """Let a running gateway post an event that tells of nothing; InvalidValue when the webhook is disabled."""
        webhook, found = await self._usable(project), await self._projects.find(project)
        now, data = self._clock.now(), {"project_id": found.id, "project": found.name}
        delivery = new_delivery(webhook.project_id, TEST, event(TEST, data, now), now, self._random_text)
        await self._stores.outbox.add([delivery])
        return delivery

    async def history(self, project: str) -> list[Delivery]:
        """Give what a project's webhook was told and is to be told, oldest first, also of one that was removed."""
        found = await self._projects.find(project)
        return await self._stores.outbox.of_project(found.id)

    async def redeliver(self, project: str, delivery_id: str) -> Delivery:
        """Let an event be posted anew, at once and with all its tries; its id stays.

        Raises:
            NotFound: there is none of this id, or no webhook; InvalidValue: the webhook is disabled.
        """
        webhook = await self._usable(project)
        found = await self._stores.outbox.find(webhook.project_id, delivery_id)
        if found is None:
            raise NotFound(f"The project's webhook has no delivery with the id {delivery_id[:100]!r}.", param="id")
        again = replace(found, state="pending", tries_left=TRIES, next_try_at=self._clock.now(), delivered_at=None)
        await self._stores.outbox.record(again)
        return again

    async def _usable(self, project: str) -> Webhook:
        webhook = await self.find(project)
        if webhook.disabled_at is not None:
            raise InvalidValue(
                "The webhook is disabled: its receiver answered 410. Set its URL again to enable it.", param="project"
            )
        return webhook

    def _new(self, project: Project, url: str | None) -> Webhook:
        if url is None:
            raise MissingParameter(f"The project {project.name!r} has no webhook yet: give its URL.", param="url")
        return Webhook(
            project_id=project.id,
            url=parse_url(url, allow_private=self._rules.allow_private),
            thresholds=ORDINARY_THRESHOLDS,
            secret_id=self._random_text(ID_LENGTH),
            created_at=self._clock.now(),
        )

    def _changed(self, webhook: Webhook, url: str | None) -> Webhook:
        enabled = replace(webhook, disabled_at=None)
        return replace(enabled, url=parse_url(url, allow_private=self._rules.allow_private)) if url else enabled

    def _with_new_secret(self, webhook: Webhook) -> Webhook:
        return replace(
            webhook,
            secret_id=self._random_text(ID_LENGTH),
            previous_secret_id=webhook.secret_id,
            previous_until=self._clock.now() + OVERLAP,
        )


def _none_of(project: Project) -> NotFound:
    return NotFound(f"The project {project.name!r} has no webhook.", param="project")
