"""All use cases of administration together."""

from dataclasses import dataclass

from gateway.service.admin_keys import AdministerAdminKeys, AuthenticateAdmin
from gateway.service.administer import AdministerKeys
from gateway.service.administer_projects import AdministerProjects
from gateway.service.report import PageUsage
from gateway.service.webhooks import AdministerWebhooks


@dataclass(frozen=True, slots=True, kw_only=True)
class Administration:
    """All that the operator's commands and the administration API need."""

    projects: AdministerProjects
    keys: AdministerKeys
    admin_keys: AdministerAdminKeys
    authenticate: AuthenticateAdmin
    usage: PageUsage
    webhooks: AdministerWebhooks
