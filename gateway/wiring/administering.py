"""The use cases of administration, for commands and for the running gateway."""

from collections.abc import Sequence
from functools import partial

from sqlalchemy.ext.asyncio import AsyncEngine

from gateway.adapters.sql.admin_keys import SqlAdminKeys
from gateway.adapters.sql.alert_outbox import SqlAlertOutbox
from gateway.adapters.sql.audit_log import SqlAuditLog
from gateway.adapters.sql.keys import SqlKeys
from gateway.adapters.sql.projects import SqlProjects
from gateway.adapters.sql.reports import SqlReports
from gateway.adapters.sql.webhooks import SqlWebhooks
from gateway.adapters.system import SystemClock, random_text
from gateway.domain.audit import SYSTEM, Actor
from gateway.service.admin_keys import AdministerAdminKeys, AuthenticateAdmin
from gateway.service.administer import AdministerKeys, KeyForge
from gateway.service.administer_projects import AdministerProjects
from gateway.service.administration import Administration
from gateway.service.audit import Audit
from gateway.service.ports_keys import Announcer
from gateway.service.report import PageUsage
from gateway.service.webhooks import AdministerWebhooks, WebhookRules, WebhookStores


def administration_on(
    engine: AsyncEngine,
    announcer: Announcer,
    peppers: Sequence[bytes],
    rules: WebhookRules,
    actor: Actor = SYSTEM,
) -> Administration:
    """Build the use cases on an open database for one actor; `peppers` are for digests of keys, the newest first."""
    clock, forge = SystemClock(), KeyForge(peppers[0], random_text)
    audit = Audit(SqlAuditLog(engine), clock, actor)
    projects = AdministerProjects(SqlProjects(engine), announcer, clock, random_text, audit)
    keys = AdministerKeys(SqlKeys(engine), projects, announcer, forge, clock, audit)
    admin_keys = SqlAdminKeys(engine)
    stores = WebhookStores(webhooks=SqlWebhooks(engine), outbox=SqlAlertOutbox(engine))
    return Administration(
        projects=projects,
        keys=keys,
        accounts=keys.as_accounts(),
        admin_keys=AdministerAdminKeys(admin_keys, forge, peppers, clock, audit),
        authenticate=AuthenticateAdmin(admin_keys, peppers, clock),
        usage=PageUsage(SqlReports(engine), clock),
        webhooks=AdministerWebhooks(stores, projects, rules, clock, random_text, audit),
        audit=audit,
        by=partial(administration_on, engine, announcer, peppers, rules),
    )
