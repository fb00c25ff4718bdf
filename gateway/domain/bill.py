"""The upstream's bill against the ledger: which pictures each account took how much for, by days of China. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import NamedTuple

from gateway.domain.billing import AccountCost, decode_costs
from gateway.domain.upstream import Account

_DAY = timedelta(days=1)
_MICROS = 6  # decimals of the ledger's amounts


@dataclass(frozen=True, slots=True)
class Amounts:
    """Pictures, and money in one currency."""

    images: int = 0
    money: Decimal = Decimal(0)

    def __add__(self, other: "Amounts") -> "Amounts":
        return Amounts(self.images + other.images, self.money + other.money)

    def __sub__(self, other: "Amounts") -> "Amounts":
        return Amounts(self.images - other.images, self.money - other.money)

    @property
    def is_something(self) -> bool:
        """Tell whether one of them is not 0."""
        return self != Amounts()


@dataclass(frozen=True, slots=True, kw_only=True)
class BillRow:
    """What the upstream bills for a day of China; without a `currency` it is in the account's."""

    day: date
    account: str
    model: str
    amounts: Amounts
    currency: str = ""


@dataclass(frozen=True, slots=True)
class BillTerms:
    """What is known of accounts: in what they bill, the installation's `currency` where that is not known."""

    currency: str
    accounts: Sequence[Account] = ()

    def currency_of(self, name: str) -> str:
        """Give the currency in which an account bills."""
        return next((account.currency for account in self.accounts if account.name == name), self.currency)

    def most(self, model: str, currency: str) -> Decimal:
        """Give the most that an account of a currency takes for a picture."""
        costs = (account.costs.get(model, 0) for account in self.accounts if account.currency == currency)
        return _money(max(costs, default=0))


@dataclass(frozen=True, slots=True, kw_only=True)
class PaidSum:
    """Lines of the ledger that differ in their amounts only; `day` is that of China on which they began.

    `crosses`: they ended on a later day, on which the upstream may have counted them. Pictures and `cost` (millionths)
    are sums over all, `account_costs` is that of each of the `lines`.
    """

    day: date
    crosses: bool
    model: str
    account: str
    account_costs: str
    uncertain: bool
    lines: int
    requested: int
    paid: int
    cost: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BillDifference:
    """What is billed in a currency, and what of that the ledger has or lacks.

    `billed_in`: the currencies in which the bill has this account, model and day, where it has nothing in this one.
    """

    day: date
    account: str
    model: str
    currency: str
    billed: Amounts
    ledger: Amounts
    billed_in: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """What lines say that do not know whether their pictures were paid, at most, if all were paid in one currency.

    And what is billed of that in this currency.
    """

    day: date
    model: str
    currency: str
    most: Amounts
    billed: Amounts


@dataclass(frozen=True, slots=True, kw_only=True)
class BillComparison:
    """What does not agree, and what nobody here can know."""

    differences: Sequence[BillDifference]
    uncertain: Sequence[Uncertainty]


class _Place(NamedTuple):
    """Of what there is a row for each day."""

    account: str
    model: str
    currency: str


_ByDay = defaultdict[date, Amounts]


def compare_bill(rows: Sequence[BillRow], sums: Iterable[PaidSum], terms: BillTerms) -> BillComparison:
    """Compare all days from the bill's first to its last one, for accounts, models and currencies of either side.

    Money of different currencies is never added up. A bill that is higher by what uncertain lines may have cost is no
    difference.
    """
    first, last = min(row.day for row in rows), max(row.day for row in rows)
    days = [first + number * _DAY for number in range((last - first).days + 1)]
    billed, books = _told(rows, terms), _Books(sums, first, terms)
    over: dict[tuple[date, str], dict[_Place, Amounts]] = defaultdict(dict)
    for place in sorted({*billed, *books.sure, *books.crossing}):
        unexplained = _unexplained(days, billed[place], books.sure[place], books.crossing[place])
        for day, amounts in unexplained.items():
            over[day, place.model][place] = amounts
    differences = [
        _difference(day, place, places[place], billed)
        for (day, model), places in over.items()
        for place in places
        if _is_wrong(place, places, books.most(day, model, place.currency))
    ]
    uncertain = [_uncertainties(*at, over[at], books) for at in sorted(books.doubtful) if at[0] >= first]
    return BillComparison(
        differences=sorted(differences, key=lambda one: (one.day, one.account, one.model, one.currency)),
        uncertain=[one for some in uncertain for one in some],
    )


def _told(rows: Iterable[BillRow], terms: BillTerms) -> dict[_Place, _ByDay]:
    billed: dict[_Place, _ByDay] = defaultdict(lambda: defaultdict(Amounts))
    for row in rows:
        place = _Place(row.account, row.model, row.currency or terms.currency_of(row.account))
        billed[place][row.day] += row.amounts
    return billed


class _Books:
    """The ledger by place and day: what is `sure`, what may be of the next day; and by currency what is `doubtful`."""

    def __init__(self, sums: Iterable[PaidSum], first: date, terms: BillTerms) -> None:
        self.sure: dict[_Place, _ByDay] = defaultdict(lambda: defaultdict(Amounts))
        self.crossing: dict[_Place, _ByDay] = defaultdict(lambda: defaultdict(Amounts))
        self.doubtful: dict[tuple[date, str], dict[str, Amounts]] = {}
        self._terms = terms
        for one in sums:
            if one.day >= first or one.crosses:
                self._enter(one)

    def most(self, day: date, model: str, currency: str) -> Amounts:
        """Say what doubtful pictures cost if all were paid in a currency, whatever currency their lines have."""
        most = Amounts()
        for other, doubt in self.doubtful.get((day, model), {}).items():
            money = doubt.images * self._terms.most(model, currency)
            most += doubt if other == currency else Amounts(doubt.images, money)
        return most

    def _enter(self, one: PaidSum) -> None:
        costs = decode_costs(one.account_costs)
        if not one.uncertain and not costs and "," not in one.account:
            costs = [AccountCost(one.account, one.paid, one.cost, one.currency)] if one.paid or one.cost else []
            lines = 1
        else:
            lines = one.lines
            self._doubt(one, costs)
        book = self.crossing if one.crosses else self.sure
        for cost in costs:
            amounts = Amounts(cost.pictures * lines, _money(cost.amount * lines))
            book[_Place(cost.account, one.model, cost.currency)][one.day] += amounts

    def _doubt(self, one: PaidSum, costs: Sequence[AccountCost]) -> None:
        doubt = _doubt_of(one, costs)
        if doubt.is_something:
            doubts = self.doubtful.setdefault((one.day, one.model), {})
            doubts[one.currency] = doubts.get(one.currency, Amounts()) + doubt


def _doubt_of(one: PaidSum, costs: Sequence[AccountCost]) -> Amounts:
    """Say what may have been paid besides: of lines that are certain nothing, unless nobody noted who took what.

    A line counts what was paid in other currencies than its own as it counts what is doubtful.
    """
    if not one.uncertain and costs:
        return Amounts()
    same, other = ([cost for cost in costs if (cost.currency == one.currency) is ours] for ours in (True, False))
    elsewhere = one.lines * sum(cost.pictures for cost in other)
    asked = one.requested if one.uncertain else one.paid
    images = max(0, asked - one.lines * sum(cost.pictures for cost in same) - elsewhere)
    guessed = max(0, one.cost - one.lines * sum(cost.amount for cost in same))
    if elsewhere:
        guessed = -(-guessed * images // (images + elsewhere))  # rounded up
    return Amounts(images, _money(guessed))


def _unexplained(
    days: Sequence[date], billed: Mapping[date, Amounts], sure: Mapping[date, Amounts], crossing: Mapping[date, Amounts]
) -> dict[date, Amounts]:
    """Say by how much each day's bill is above the ledger, or below."""
    told, before = [(billed[day], sure[day], crossing[day]) for day in days], crossing[days[0] - _DAY]
    images = _left([[Decimal(one.images) for one in three] for three in told], Decimal(before.images))
    money = _left([[one.money for one in three] for three in told], before.money)
    return {day: Amounts(int(count), amount) for day, count, amount in zip(days, images, money, strict=True)}


def _left(days: Iterable[Sequence[Decimal]], before: Decimal) -> list[Decimal]:
    """Take from each day's bill what is sure, what crossed from the day before, and what is to cross if it is needed.

    What crossed into the first day may have been billed `before` it.
    """
    nothing, left = Decimal(0), []
    owed, may = nothing, before
    for billed, sure, crossing in days:
        rest = billed - sure - owed
        rest -= max(nothing, min(rest, may))
        taken = max(nothing, min(rest, crossing))
        left.append(rest - taken)
        owed, may = crossing - taken, nothing
    return left


def _is_wrong(place: _Place, over: Mapping[_Place, Amounts], most: Amounts) -> bool:
    """Tell whether a bill is below the ledger, or all bills together above what is doubtful.

    A doubtful picture was paid once, in whichever currency.
    """
    ours = over[place]
    if ours.images < 0 or ours.money < 0:
        return True
    images = sum(max(0, one.images) for one in over.values())
    return ours.is_something and (images > most.images or _excess(over, place.currency).money > most.money)


def _excess(over: Mapping[_Place, Amounts], currency: str) -> Amounts:
    some = (one for place, one in over.items() if place.currency == currency)
    return sum((Amounts(max(0, one.images), max(Decimal(0), one.money)) for one in some), Amounts())


def _difference(day: date, place: _Place, amounts: Amounts, billed: Mapping[_Place, _ByDay]) -> BillDifference:
    told = billed[place][day]
    alike = [other for other in billed if other[:2] == place[:2] and billed[other][day].is_something]
    return BillDifference(
        day=day,
        account=place.account,
        model=place.model,
        currency=place.currency,
        billed=told,
        ledger=told - amounts,
        billed_in=() if told.is_something else sorted(other.currency for other in alike),
    )


def _uncertainties(day: date, model: str, over: Mapping[_Place, Amounts], books: _Books) -> list[Uncertainty]:
    """Say it in the currencies of the lines, and in those in which more is billed than is known."""
    above = {place.currency for place in over if _excess(over, place.currency).is_something}
    return [
        Uncertainty(
            day=day,
            model=model,
            currency=currency,
            most=books.most(day, model, currency),
            billed=_excess(over, currency),
        )
        for currency in sorted(above | books.doubtful[day, model].keys())
    ]


def _money(millionths: int) -> Decimal:
    return Decimal(millionths).scaleb(-_MICROS)
