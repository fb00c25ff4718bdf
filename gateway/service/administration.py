"""All use cases of administration together."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.domain.audit import Actor
from gateway.service.admin_keys import AdministerAdminKeys, AuthenticateAdmin
from gateway.service.administer import AdministerKeys
from gateway.service.administer_projects import AdministerProjects
from gateway.service.audit import Audit
from gateway.service.report import PageUsage
from gateway.service.webhooks import AdministerWebhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    """All that the operator's commands and the administration API need.

    What is changed with it, the audit log tells of one actor; `by` gives the same in the hands of another.
    `accounts` are the keys, spoken of as service accounts.
    """

    projects: AdministerProjects
    keys: AdministerKeys
    accounts: AdministerKeys
    admin_keys: AdministerAdminKeys
    authenticate: AuthenticateAdmin
    usage: PageUsage
    webhooks: AdministerWebhooks
    audit: Audit
    by: "Callable[[Actor], Administration]"
