"""What alerts need of the database and of the way to their receivers."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from gateway.domain.limits import Limit
from gateway.domain.projects import Project
from gateway.domain.webhooks import Delivery, Webhook

# A project's id and that of one of its secrets -> the secret, `whsec_...`: one of each of the installation's secrets,
# the newest first.
SecretsOf = Callable[[str, str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Told:
    """What was used when a threshold was told; one that was told twice comes twice."""

    project_id: str
    limit: Limit
    period: str
    threshold: int
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """What is sent to a receiver: signed with each of the secrets, `whsec_...`."""

    url: str
    id: str
    at: datetime
    body: str
    secrets: Sequence[str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of it: the receiver's status, or None and why there was none."""

    status: int | None
    error: str | None = None


class WebhookStore(Protocol):
    """The durable list of webhooks, one a project. Raises DatabaseUnavailable when it cannot be reached."""

    async def get(self, project_id: str) -> Webhook | None:
        """Find a project's webhook."""

    async def put(self, webhook: Webhook) -> None:
        """Store a webhook in place of the project's former one."""

    async def remove(self, project_id: str) -> bool:
        """Forget a project's webhook, and give up what is pending; False when there is none."""

    async def disable(self, project_id: str, url: str, at: datetime) -> None:
        """Post nothing more to a project's webhook, if that still has the URL."""

    async def watched(self) -> list[tuple[Webhook, Project]]:
        """Give the webhooks that are not disabled, of projects that are not archived."""


class AlertOutbox(Protocol):
    """The durable list of events: what waits, and what became of the others. Raises as WebhookStore does."""

    async def add(self, deliveries: Sequence[Delivery]) -> None:
        """Store new events, all or none; of those that tell of the same amount of a limit and period one is kept."""

    async def told(self, project_ids: Sequence[str], periods: Sequence[str]) -> list[Told]:
        """Say which thresholds were told in some periods."""

    async def claim(
        self, now: datetime, until: datetime, most: int, busy: Collection[str]
    ) -> list[tuple[Delivery, Webhook]]:
        """Begin a try of the pending events that are due, each for one of all callers; of each project the first.

        Projects that are `busy` have to wait.

        If nobody says what became of it, an event is due again at `until`. The try is counted. Webhooks that are
        disabled are left alone.
        """

    async def record(self, delivery: Delivery) -> None:
        """Note what became of a try."""

    async def find(self, project_id: str, delivery_id: str) -> Delivery | None:
        """Find a project's event."""

    async def of_project(self, project_id: str) -> list[Delivery]:
        """Give a project's events, oldest first."""

    async def prune(self, before: datetime, now: datetime) -> None:
        """Forget events that were made before a moment, except those of periods that are not over: they were told."""


class WebhookSender(Protocol):
    """The way to receivers."""

    async def send(self, post: Post) -> Sent:
        """Post an event. Never fails: what went wrong is said."""


class AlertObserver(Protocol):
    """What the operator is told of deliveries. Nothing here may fail or wait."""

    def alert_tried(self, delivery: Delivery) -> None:
        """A try has ended; `state`, `last_status` and `last_error` say how."""
