"""The upstream's bill against the ledger: which pictures each account took how much for, by days of China. Pure."""

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal

from gateway.domain.billing import AccountCost, decode_costs
from gateway.domain.errors import InvalidValue

COLUMNS = ("date", "account", "model", "images", "amount")
_DAY = timedelta(days=1)
_MICROS = 6  # decimals of the ledger's amounts
_YEARS = range(2000, 3000)  # others are slips of the pen, and no calendar goes far beyond
_FORMS = {
    "date": (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "a date like 2026-11-23"),
    "account": (re.compile(r".+"), "the name of an account"),
    "model": (re.compile(r".+"), "the name of a model"),
    "images": (re.compile(r"[0-9]{1,12}"), "a whole number"),
    "amount": (re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?"), "an amount like 12.50"),
}


@dataclass(frozen=True, slots=True)
class Amounts:
    """Pictures, and money in the account's currency."""

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
    """What the upstream bills for a day of China."""

    day: date
    account: str
    model: str
    amounts: Amounts


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
    """What is billed, and what of that the ledger has or lacks."""

    day: date
    account: str
    model: str
    billed: Amounts
    ledger: Amounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncertainty:
    """What lines say that do not know whether their pictures were paid, at most; and what is billed of that."""

    day: date
    model: str
    most: Amounts
    billed: Amounts


@dataclass(frozen=True, slots=True, kw_only=True)
class BillComparison:
    """What does not agree, and what nobody here can know."""

    differences: Sequence[BillDifference]
    uncertain: Sequence[Uncertainty]


def parse_bill(text: str) -> list[BillRow]:
    """Read a CSV file with the columns date, account, model, images and amount, in any order.

    Raises:
        InvalidValue: names the line and the column.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)  # which keeps line breaks within quotes
    try:
        heading = [name.strip() for name in next(reader, [])]
        for name in COLUMNS:
            if heading.count(name) != 1:
                raise _wrong(1, name, "the heading has to name it once")
        rows = [_row(dict(zip(heading, words, strict=False)), reader.line_num) for words in reader if words]
    except csv.Error as failure:
        raise _wrong(reader.line_num, COLUMNS[0], str(failure)) from None
    if not rows:
        raise InvalidValue("The bill has no rows, so that there is nothing to compare.", param="bill")
    return rows


def compare_bill(rows: Sequence[BillRow], sums: Iterable[PaidSum]) -> BillComparison:
    """Compare all days from the bill's first to its last one, for accounts and models that either side names.

    A bill that is higher by what uncertain lines may have cost is no difference.
    """
    first, last = min(row.day for row in rows), max(row.day for row in rows)
    days = [first + number * _DAY for number in range((last - first).days + 1)]
    billed: dict[tuple[str, str], dict[date, Amounts]] = defaultdict(lambda: defaultdict(Amounts))
    for row in rows:
        billed[row.account, row.model][row.day] += row.amounts
    books = _Books(sums, first)
    over: dict[tuple[date, str], dict[str, Amounts]] = defaultdict(dict)
    for account, model in sorted({*billed, *books.sure, *books.crossing}):
        told = billed[account, model]
        unexplained = _unexplained(days, told, books.sure[account, model], books.crossing[account, model])
        for day, amounts in unexplained.items():
            over[day, model][account] = amounts
    differences = [
        BillDifference(day=day, account=account, model=model, billed=told, ledger=told - amounts)
        for (day, model), accounts in over.items()
        for account, amounts in accounts.items()
        if _is_wrong(amounts, accounts, books.doubtful[day, model])
        for told in [billed[account, model][day]]
    ]
    places = sorted(place for place, most in books.doubtful.items() if place[0] >= first and most.is_something)
    return BillComparison(
        differences=sorted(differences, key=lambda one: (one.day, one.account, one.model)),
        uncertain=[_uncertainty(*place, books.doubtful[place], over[place]) for place in places],
    )


class _Books:
    """The ledger by account and model and day: what is `sure`, what may be of the next day; and what is `doubtful`."""

    def __init__(self, sums: Iterable[PaidSum], first: date) -> None:
        self.sure: dict[tuple[str, str], dict[date, Amounts]] = defaultdict(lambda: defaultdict(Amounts))
        self.crossing: dict[tuple[str, str], dict[date, Amounts]] = defaultdict(lambda: defaultdict(Amounts))
        self.doubtful: dict[tuple[date, str], Amounts] = defaultdict(Amounts)
        for one in sums:
            if one.day >= first or one.crosses:
                self._enter(one)

    def _enter(self, one: PaidSum) -> None:
        costs = decode_costs(one.account_costs)
        if not one.uncertain and not costs and "," not in one.account:
            costs = [AccountCost(one.account, one.paid, one.cost, one.currency)] if one.paid or one.cost else []
            lines = 1
        else:
            lines = one.lines
            self.doubtful[one.day, one.model] += _doubt(one, costs)
        book = self.crossing if one.crosses else self.sure
        for cost in costs:
            book[cost.account, one.model][one.day] += Amounts(cost.pictures * lines, _money(cost.amount * lines))


def _doubt(one: PaidSum, costs: Sequence[AccountCost]) -> Amounts:
    """Say what may have been paid besides: of lines that are certain nothing, unless nobody noted who took what."""
    if not one.uncertain and costs:
        return Amounts()
    pictures = one.lines * sum(cost.pictures for cost in costs)
    known = one.lines * sum(cost.amount for cost in costs if cost.currency == one.currency)
    asked = one.requested if one.uncertain else one.paid
    return Amounts(max(0, asked - pictures), _money(max(0, one.cost - known)))


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


def _is_wrong(amounts: Amounts, all_over: Mapping[str, Amounts], doubtful: Amounts) -> bool:
    """Tell whether an account's bill is below the ledger, or all bills together above what is doubtful."""
    if amounts.images < 0 or amounts.money < 0:
        return True
    excess = _excess(all_over)
    return amounts.is_something and (excess.images > doubtful.images or excess.money > doubtful.money)


def _excess(over: Mapping[str, Amounts]) -> Amounts:
    return sum((Amounts(max(0, one.images), max(Decimal(0), one.money)) for one in over.values()), Amounts())


def _uncertainty(day: date, model: str, most: Amounts, over: Mapping[str, Amounts]) -> Uncertainty:
    return Uncertainty(day=day, model=model, most=most, billed=_excess(over))


def _row(words: Mapping[str, str], line: int) -> BillRow:
    cells = {name: words.get(name, "").strip() for name in COLUMNS}
    for name, (form, said) in _FORMS.items():
        if form.fullmatch(cells[name]) is None:
            raise _wrong(line, name, f"'{cells[name][:100]}' is not {said}")
    try:
        day = date.fromisoformat(cells["date"])
    except ValueError:
        raise _wrong(line, "date", f"there is no day {cells['date']}") from None
    if day.year not in _YEARS:
        raise _wrong(line, "date", f"no bill is of {day}")
    amounts = Amounts(int(cells["images"]), Decimal(cells["amount"]))
    return BillRow(day=day, account=cells["account"], model=cells["model"], amounts=amounts)


def _wrong(line: int, column: str, why: str) -> InvalidValue:
    return InvalidValue(f"The bill's line {line}, column {column!r}: {why}.", param="bill")


def _money(millionths: int) -> Decimal:
    return Decimal(millionths).scaleb(-_MICROS)
