"""The form of a bill's file. Pure."""

import csv
import io
import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal

from gateway.domain.bill import Amounts, BillRow
from gateway.domain.errors import InvalidValue

COLUMNS = ("date", "account", "model", "images", "amount")
CURRENCY = "currency"  # a column that may be missing
_YEARS = range(2000, 3000)  # others are slips of the pen, and no calendar goes far beyond
_FORMS = {
    "date": (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "a date like 2026-11-23"),
    "account": (re.compile(r".+"), "the name of an account"),
    "model": (re.compile(r".+"), "the name of a model"),
    "images": (re.compile(r"[0-9]{1,12}"), "a whole number"),
    "amount": (re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?"), "an amount like 12.50"),
    CURRENCY: (re.compile(r"([A-Z]{3})?"), "a currency like CNY"),
}


def parse_bill(text: str) -> list[BillRow]:
    """Read a CSV file with the columns date, account, model, images and amount, in any order, and maybe currency.

    Raises:
        InvalidValue: names the line and the column.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)  # which keeps line breaks within quotes
    try:
        heading = [name.strip() for name in next(reader, [])]
        for name in COLUMNS:
            if heading.count(name) != 1:
                raise _wrong(1, name, "the heading has to name it once")
        if heading.count(CURRENCY) > 1:
            raise _wrong(1, CURRENCY, "the heading may name it once")
        rows = [_row(dict(zip(heading, words, strict=False)), reader.line_num) for words in reader if words]
    except csv.Error as failure:
        raise _wrong(reader.line_num, COLUMNS[0], str(failure)) from None
    if not rows:
        raise InvalidValue("The bill has no rows, so that there is nothing to compare.", param="bill")
    return rows


def _row(words: Mapping[str, str], line: int) -> BillRow:
    cells = {name: words.get(name, "").strip() for name in _FORMS}
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
    return BillRow(day=day, account=cells["account"], model=cells["model"], amounts=amounts, currency=cells[CURRENCY])


def _wrong(line: int, column: str, why: str) -> InvalidValue:
    return InvalidValue(f"The bill's line {line}, column {column!r}: {why}.", param="bill")
