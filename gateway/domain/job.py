"""A request after planning: everything that its pictures and its line in the ledger need. Pure."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from gateway.domain.asked import Asked
from gateway.domain.billing import Tariff
from gateway.domain.caching import URL_FRESH, Scope, Sought, plan_name
from gateway.domain.flights import Replay
from gateway.domain.image import ImageOrder
from gateway.domain.keys import Caller
from gateway.domain.quota import Claim, Subject, subject_names
from gateway.domain.records import record
from gateway.domain.upstream import Account
from gateway.domain.usage import UsageEvent


@record(frozen=True, slots=True, kw_only=True)
class CacheRules:
    """What the operator decides about remembered results; `lifetime` in seconds, `max_entries` in plans.

    Clients whose User-Agent contains one of `distinct_user_agents` turn n=k into k equal requests at once, and mean k
    pictures (openai-images-api.md section 7).
    """

    scope: Scope = "project"
    lifetime: float = 86_400.0
    max_entries: int = 200_000
    distinct_user_agents: tuple[str, ...] = ("ai-sdk/",)


@record(frozen=True, slots=True, kw_only=True)
class Job:
    """A request after planning. `line` is what the ledger says if the job's owner dies; `came` when its client came."""

    caller: Caller
    order: ImageOrder
    tariff: Tariff
    sought: Sought
    line: UsageEvent
    came: datetime

    def claim(self, *, lead: bool) -> Claim:
        """Say what the job takes from the limits of its key and project; without `lead` it only attaches."""
        key, project = subject_names(self.caller.key_id, self.caller.project_id)
        return Claim(
            project_id=self.caller.project_id,
            subjects=(
                Subject(name=key, limits=self.caller.key_limits),
                Subject(name=project, limits=self.caller.project_limits),
            ),
            pictures=self.order.n,
            price=self.tariff.price,
            abandoned=self.line,
            sought=self.sought if lead else replace(self.sought, lead=False),
        )

    def anew(self, position: int, now: datetime, exclude: Iterable[str], replay: Replay | None) -> "Job":
        """Give the job for one picture of this one, which others were to give and did not; `exclude`: see Sought.

        All who want that picture of the job that they repeat, `replay`, are to get the same one.
        """
        line = replace(
            self.line,
            event_id=f"{self.line.event_id}~{position}",
            time=now,
            pictures_requested=1,
            cost=self.line.cost // self.line.pictures_requested,
        )
        sought = replace(self.sought, again=True, retry=False, idempotency_key="", body="", exclude=tuple(exclude))
        if not (sought.lasts if replay else sought.joins):
            sought = sought.of_one(replay.origin if replay else self.line.event_id, position)
        return replace(self, order=replace(self.order, n=1), line=line, sought=sought)

    def paying(self, account: Account) -> "Job":
        """Give the job with what an account takes that came on offer after it was planned."""
        tariff = self.tariff.at((account,), self.order.plan.model)
        return self if tariff is self.tariff else replace(self, tariff=tariff)

    @property
    def cached(self) -> bool:
        """Tell whether its pictures are looked up and remembered."""
        return bool(self.sought.plan) and self.sought.remember


def sought_by(caller: Caller, order: ImageOrder, asked: Asked, rules: CacheRules) -> Sought:
    """Say what a request looks for before anything is made: the scope is the key's, else the installation's."""
    scope = caller.cache_scope or rules.scope
    return Sought(
        plan="" if scope == "off" else plan_name(order.plan),
        scope=scope,
        read=not (asked.no_cache or asked.no_store),
        join=not asked.no_cache,
        remember=not asked.no_store,
        max_age=asked.max_age,
        lifetime=rules.lifetime,
        fresh=min(rules.lifetime, URL_FRESH) if order.linked else rules.lifetime,
        max_entries=rules.max_entries,
        distinct=any(word in asked.user_agent for word in rules.distinct_user_agents),
        body=asked.body,
        retry=asked.retry,
        idempotency_key=asked.idempotency_key,
    )
