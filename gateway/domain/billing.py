"""What a generation costs, and its line in the ledger. Pure."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import NamedTuple

from gateway.domain.errors import GatewayError, ImageDownloadFailed, OutcomeUnknown
from gateway.domain.image import ImageOrder, Picture
from gateway.domain.keys import Caller
from gateway.domain.projects import NO_MARKUP
from gateway.domain.quota import MICROS
from gateway.domain.upstream import Account
from gateway.domain.usage import Answer, Outcome, UsageEvent

End = Picture | GatewayError


def micros(price: Decimal) -> int:
    """Give a price in millionths."""
    return int((price * MICROS).to_integral_value(ROUND_HALF_UP))


REMEMBERED_TARIFFS = 1024  # of prices with markups


class Money(NamedTuple):
    """An amount in millionths."""

    amount: int
    currency: str


class AccountCost(NamedTuple):
    """What an account took for some pictures: an amount in millionths."""

    account: str
    pictures: int
    amount: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """What one picture is charged, in millionths of a currency, and what it costs by the name of the account."""

    price: int
    currency: str
    costs: Mapping[str, Money] = field(default_factory=dict, hash=False)

    @classmethod
    @lru_cache(REMEMBERED_TARIFFS)
    def of(cls, price: Decimal, currency: str, markup: Decimal = NO_MARKUP) -> "Tariff":
        """Round a catalog's price with a project's markup, once (design.md section 6, "Money")."""
        return cls(price=micros(price * markup), currency=currency)

    def at(self, accounts: Iterable[Account], model: str) -> "Tariff":
        """Give the same with what the accounts take for a model; what is known of one already stays."""
        costs = {
            account.name: Money(account.costs[model], account.currency or self.currency)
            for account in accounts
            if account.name not in self.costs and account.serves(model) and model in account.costs
        }
        return replace(self, costs={**self.costs, **costs}) if costs else self

    def cost(self, account: str) -> Money | None:
        """Give what a picture costs at an account; None when that is not known and the accounts differ."""
        only = set(self.costs.values()) or {Money(self.price, self.currency)}
        return self.costs.get(account) or (only.pop() if len(only) == 1 else None)

    def most(self, currency: str = "") -> Money:
        """Give the most that a picture may cost in a currency, by itself that of the price if any account has it."""
        costs = tuple(self.costs.values()) or (Money(self.price, self.currency),)
        return _most(costs, Money(self.price, self.currency), currency)


@lru_cache(REMEMBERED_TARIFFS)
def _most(costs: tuple[Money, ...], price: Money, currency: str) -> Money:
    currencies = [cost.currency for cost in costs]
    chosen = currency or (price.currency if price.currency in currencies else currencies[0])
    return Money(max((cost.amount for cost in costs if cost.currency == chosen), default=price.amount), chosen)


def opened(
    caller: Caller, order: ImageOrder, tariff: Tariff, *, request_id: str, now: datetime, prompt_hash: str
) -> UsageEvent:
    """Write the line that stands if the job's owner dies: nothing charged, and the most that it may have cost."""
    most = tariff.most()
    return UsageEvent(
        event_id=request_id,
        request_id=request_id,
        outcome=Outcome.ABANDONED,
        time=now,
        project_id=caller.project_id,
        key_id=caller.key_id,
        requested_model=order.requested_model,
        upstream_model=order.plan.model,
        size=order.plan.size,
        pictures_requested=order.n,
        cost=order.n * most.amount,
        cost_currency=most.currency,
        cost_uncertain=True,
        currency=tariff.currency,
        end_user_hash=order.plan.user_id or "",
        prompt_hash=prompt_hash,
    )


def closed(
    line: UsageEvent, ends: Sequence[End], tariff: Tariff, *, latency_ms: int, queue_ms: int, answer: Answer
) -> UsageEvent:
    """Write the line of a job that has ended: what was delivered is charged, what was paid or may be is cost.

    `ends` are those of the pictures that the job made itself; without any, others made all that it gave.
    """
    pictures = [end for end in ends if isinstance(end, Picture)]
    payers = [end.account for end in ends if isinstance(end, Picture | ImageDownloadFailed)]
    unknown = sum(isinstance(end, OutcomeUnknown) for end in ends)
    cost, certain = _cost(payers, unknown, tariff)
    return replace(
        line,
        outcome=_outcome(len(pictures), unknown, len(ends)),
        size=(pictures[0].size if pictures else "") or line.size,
        upstream_account=",".join(dict.fromkeys(filter(None, payers))),
        pictures_delivered=len(pictures),
        pictures_paid=len(payers),
        cost=cost.amount,
        cost_currency=cost.currency,
        cost_uncertain=not certain,
        price=len(pictures) * tariff.price,
        latency_ms=latency_ms,
        queue_ms=queue_ms,
        status=answer.status,
        error_code=answer.code,
        account_costs=encode_costs(payers, tariff) if len(set(payers)) > 1 or not certain else "",
    )


def encode_costs(payers: Sequence[str], tariff: Tariff) -> str:
    """Write which accounts took how much, where a line's own cost does not tell: JSON, a list of AccountCost."""
    counts = Counter(payers)
    known = [(name, count, cost) for name, count in counts.items() if (cost := tariff.cost(name)) is not None]
    costs = [AccountCost(name, count, count * cost.amount, cost.currency) for name, count, cost in known]
    return json.dumps(costs, ensure_ascii=False) if costs else ""


def decode_costs(text: str) -> list[AccountCost]:
    """Read what encode_costs has written."""
    return [AccountCost(*words) for words in json.loads(text)] if text else []


def _cost(payers: Sequence[str], unknown: int, tariff: Tariff) -> tuple[Money, bool]:
    """Add up what pictures cost, in the currency of the first one; tell whether that is certain.

    A line has one currency. Whatever was paid in another one, or by nobody knows whom, counts as the most that it may
    cost in this one.
    """
    costs = [tariff.cost(account) for account in payers]
    most = tariff.most(next((cost.currency for cost in costs if cost is not None), ""))
    same = [cost.amount for cost in costs if cost is not None and cost.currency == most.currency]
    guessed = len(costs) - len(same) + unknown
    return Money(sum(same) + guessed * most.amount, most.currency), guessed == 0


def _outcome(delivered: int, unknown: int, asked: int) -> Outcome:
    if not asked:
        return Outcome.JOINED
    if delivered:
        return Outcome.DELIVERED if delivered == asked else Outcome.PARTIAL
    return Outcome.UNKNOWN if unknown else Outcome.FAILED
