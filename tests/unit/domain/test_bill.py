"""Bills against the ledger: what is certain has to agree to the last decimal, what is uncertain gives a range."""

import json
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.bill import Amounts, BillRow, BillTerms, PaidSum, compare_bill
from gateway.domain.bill_file import parse_bill
from gateway.domain.billing import Tariff, closed, opened
from gateway.domain.errors import InvalidValue, OutcomeUnknown
from gateway.domain.usage import Answer
from tests.builders import NOW, a_caller, a_picture, an_account, an_order

MONDAY = date(2026, 11, 23)
HEADING = "date,account,model,images,amount"
ACCOUNTS = [
    an_account("main", costs={"glm-image": 100_000}, currency="CNY"),
    an_account("abroad", costs={"glm-image": 15_000}, currency="USD"),
]
TERMS = BillTerms("CNY", ACCOUNTS)


def row(day=0, account="main", images=1, amount="0.1", currency=""):
    amounts = Amounts(images, Decimal(amount))
    at = MONDAY + timedelta(day)
    return BillRow(day=at, account=account, model="glm-image", amounts=amounts, currency=currency)


def paid(day=0, account="main", pictures=1, cost=100_000, **more):
    ordinary = {
        "day": MONDAY + timedelta(day), "crosses": False, "model": "glm-image", "account": account, "account_costs": "",
        "uncertain": False, "lines": 1, "requested": pictures, "paid": pictures, "cost": cost, "currency": "CNY",
    }  # fmt: skip
    return PaidSum(**{**ordinary, **more})


def uncertain(pictures=2, cost=200_000, day=0):
    """Lines of which only is known what was asked for."""
    return paid(day, "", 0, cost, uncertain=True, requested=pictures)


def said(rows, sums):
    """The differences: day, account, images and amount of the bill, and of the ledger."""
    return [
        ((one.day - MONDAY).days, one.account, one.billed.images, one.billed.money, one.ledger.images, one.ledger.money)
        for one in compare_bill(rows, sums, TERMS).differences
    ]


def said_in_currencies(rows, sums):
    """The differences: currency, images and amount of the bill, and of the ledger, and in what else it is billed."""
    return [
        (one.currency, one.billed.images, one.billed.money, one.ledger.images, one.ledger.money, one.billed_in)
        for one in compare_bill(rows, sums, TERMS).differences
    ]


def test_equal_sides_have_no_difference():
    rows = [row(images=2, amount="0.20"), row(1, "other", 1, "0.015"), row(images=1)]
    assert said(rows, [paid(pictures=3, cost=300_000), paid(1, "other", 1, 15_000)]) == []


ONE = Decimal("0.1")


@pytest.mark.parametrize(
    ("rows", "sums", "found"),
    [
        ([row(), row(2)], [paid(), paid(1, pictures=2, cost=200_000), paid(2)], (1, "main", 0, 0, 2, 2 * ONE)),
        ([row(amount="0.100001")], [paid()], (0, "main", 1, Decimal("0.100001"), 1, ONE)),
        ([row(images=2)], [paid()], (0, "main", 2, ONE, 1, ONE)),
        ([row(), row(account="stranger")], [paid()], (0, "stranger", 1, ONE, 0, 0)),
        ([row()], [paid(), paid(account="other")], (0, "other", 0, 0, 1, ONE)),
        ([row()], [paid(), paid(model="cogview-4")], (0, "main", 0, 0, 1, ONE)),
    ],
    ids=["a missing row", "an amount", "images", "an unknown account", "a missing account", "a missing model"],
)
def test_what_does_not_agree_is_a_difference(rows, sums, found):
    assert said(rows, sums) == [found]


@pytest.mark.parametrize(
    ("images", "amount", "agrees"),
    [(1, "0.1", True), (2, "0.2", True), (3, "0.3", True), (0, "0", False), (4, "0.4", False), (3, "0.31", False)],
)
def test_a_bill_between_what_is_paid_and_what_may_be_is_no_difference_and_is_said(images, amount, agrees):
    compared = compare_bill([row(images=images, amount=amount)], [paid(), uncertain()], TERMS)
    assert (not compared.differences) is agrees
    [doubt] = compared.uncertain
    assert (doubt.most, doubt.day) == (Amounts(2, Decimal("0.2")), MONDAY)
    if agrees:
        assert doubt.billed == Amounts(images - 1, Decimal(amount) - ONE)


def test_what_is_uncertain_is_there_once_for_all_accounts():
    rows = [row(account=name, images=2, amount="0.2") for name in ("a", "b")]
    sums = [paid(account="a"), paid(account="b")]
    assert said(rows, [*sums, uncertain()]) == []
    assert [found[1] for found in said(rows, [*sums, uncertain(1, 100_000)])] == ["a", "b"]


def test_a_job_that_several_accounts_paid_is_divided_as_they_took():
    costs = json.dumps([("a", 2, 160_000, "CNY"), ("b", 1, 15_000, "CNY")])
    both = paid(account="a,b", pictures=6, cost=480_000, lines=2, account_costs=costs)
    rows = [row(account="a", images=4, amount="0.32"), row(account="b", images=2, amount="0.03")]
    assert said(rows, [both]) == []
    rows[1] = row(account="b", images=2, amount="0.04")
    assert said(rows, [both]) == [(0, "b", 2, Decimal("0.04"), 2, Decimal("0.03"))]


def test_a_job_over_midnight_belongs_to_either_day_and_to_one_of_them():
    sums = [paid(-1), paid(crosses=True), paid(2)]
    for days in ((0,), (1,)):
        assert said([row(-1), *map(row, days), row(2)], sums) == []
    assert said([row(-1), row(0), row(1), row(2)], sums) == [(1, "main", 1, ONE, 0, 0)]
    assert said([row(-1), row(2)], sums) == [(1, "main", 0, 0, 1, ONE)]


@pytest.mark.parametrize("days", [(0, 1), (1,), (0,), ()])
def test_jobs_over_the_ends_of_the_bill_may_be_on_it(days):
    sums = [paid(-1, crosses=True), paid(1, crosses=True)]
    rows = [row(day) for day in days] + [row(day, "other") for day in (0, 1)]
    assert said(rows, [*sums, paid(0, "other"), paid(1, "other"), paid(-1, "other")]) == []


USD = Decimal("0.015")


def test_a_bill_is_in_the_currency_of_its_account():
    abroad = paid(account="abroad", cost=15_000, currency="USD")
    assert said([row(account="abroad", amount="0.015")], [abroad]) == []
    in_yuan = row(account="abroad", amount="0.015", currency="CNY")
    assert said_in_currencies([in_yuan], [abroad]) == [
        ("CNY", 1, USD, 0, 0, ()),
        ("USD", 0, 0, 1, USD, ["CNY"]),
    ]


def test_an_account_that_is_gone_bills_in_the_installations_currency_unless_the_bill_says_another():
    gone = paid(account="gone", cost=15_000, currency="USD")
    assert said([row(account="gone", amount="0.1")], [paid(account="gone")]) == []
    assert [one[0] for one in said_in_currencies([row(account="gone", amount="0.015")], [gone])] == ["CNY", "USD"]
    assert said([row(account="gone", amount="0.015", currency="USD")], [gone]) == []


def test_money_of_two_currencies_is_never_added_up():
    """The account's currency was changed on that day."""
    both = [paid(), paid(cost=100_000, currency="USD")]
    assert said_in_currencies([row(images=2, amount="0.2")], both) == [
        ("CNY", 2, 2 * ONE, 1, ONE, ()),
        ("USD", 0, 0, 1, ONE, ["CNY"]),
    ]
    assert said([row(), row(currency="USD")], both) == []
    assert said_in_currencies([row(), row(currency="USD", amount="0.2")], both) == [("USD", 1, 2 * ONE, 1, ONE, ())]


@pytest.mark.parametrize(
    ("abroad", "amount", "agrees"),
    [(1, "0.015", True), (2, "0.03", True), (3, "0.045", True), (4, "0.06", False), (3, "0.046", False)],
)
def test_what_is_uncertain_may_have_been_paid_in_another_currency_at_most_at_what_is_taken_there(
    abroad, amount, agrees
):
    sums = [paid(), paid(account="abroad", cost=15_000, currency="USD"), uncertain()]
    compared = compare_bill([row(), row(account="abroad", images=abroad, amount=amount)], sums, TERMS)
    assert (not compared.differences) is agrees
    doubts = {one.currency: (one.most, one.billed) for one in compared.uncertain}
    assert doubts.pop("CNY") == (Amounts(2, 2 * ONE), Amounts())
    billed = Amounts(abroad - 1, Decimal(amount) - USD)
    assert doubts == ({"USD": (Amounts(2, 2 * USD), billed)} if billed.is_something else {})


def test_a_picture_is_uncertain_once_whatever_the_currency():
    sums = [uncertain(1, 100_000)]
    assert said([row()], sums) == said([row(account="abroad", amount="0.015")], sums) == []
    both = [row(), row(account="abroad", amount="0.015")]
    assert [found[0] for found in said_in_currencies(both, sums)] == ["USD", "CNY"]


def lines_sum(*ends, n):
    """The sum of one line whose pictures ended so, as the gateway writes it."""
    tariff = Tariff.of(ONE, "CNY").at(ACCOUNTS, "glm-image")
    order = an_order(n=n)
    line = opened(a_caller(), order, tariff, request_id="r", now=NOW, prompt_hash="")
    line = closed(line, ends, tariff, latency_ms=1, queue_ms=0, answer=Answer())
    return paid(
        account=line.upstream_account, pictures=line.pictures_paid, cost=line.cost, account_costs=line.account_costs,
        uncertain=line.cost_uncertain, requested=n, currency=line.cost_currency,
    )  # fmt: skip


def test_a_picture_that_another_account_took_its_own_currency_for_leaves_no_doubt():
    """The line counts it as what it would have cost in the line's own currency."""
    both = lines_sum(a_picture(account="main"), a_picture(account="abroad"), n=2)
    rows = [row(), row(account="abroad", amount="0.015")]
    compared = compare_bill(rows, [both], TERMS)
    assert (compared.differences, compared.uncertain) == ([], [])
    assert said([row(amount="0.17"), rows[1]], [both]) == [(0, "main", 1, Decimal("0.17"), 1, ONE)]


def test_one_of_its_pictures_that_nobody_saw_is_as_much_as_one_picture():
    three = lines_sum(a_picture(account="main"), a_picture(account="abroad"), OutcomeUnknown("cut"), n=3)
    [doubt] = compare_bill([row(), row(account="abroad", amount="0.015")], [three], TERMS).uncertain
    assert (doubt.currency, doubt.most, doubt.billed) == ("CNY", Amounts(1, ONE), Amounts())


places = st.tuples(st.integers(0, 4), st.sampled_from(["a", "b", "abroad"]))
amounts = st.dictionaries(places, st.tuples(st.integers(0, 9), st.integers(0, 10**7)))


@given(certain=amounts.filter(bool), doubt=amounts, drawn=st.data())
def test_any_bill_that_the_ledger_allows_agrees_and_one_that_lacks_a_row_does_not(certain, doubt, drawn):
    sums = [paid(day, name, *amount, currency=TERMS.currency_of(name)) for (day, name), amount in certain.items()]
    sums += [uncertain(*amount, day) for (day, _), amount in doubt.items()]
    rows = [row(day, name, count, Decimal(cost).scaleb(-6)) for (day, name), (count, cost) in certain.items()]
    for (day, name), (count, cost) in doubt.items():
        images = drawn.draw(st.integers(0, count))
        money = drawn.draw(st.integers(0, count * 15_000 if name == "abroad" else cost))
        rows.append(row(day, name, images, Decimal(money).scaleb(-6)))
    assert said(rows, sums) == []
    (day, name), amount = next(iter(certain.items()))
    ends = [row(at, "end", 0, 0) for at in (0, 4)]
    less = [one for one in rows if (one.day, one.account) != (MONDAY + timedelta(day), name)]
    assert ((day, name) in {found[:2] for found in said(less + ends, sums)}) is (amount != (0, 0))


def test_a_file_is_read_in_any_order_of_columns():
    [read] = parse_bill('amount,model,date,images,note,account\r\n0.10,glm-image,2026-11-23,1,x,"a, b"\r\n')
    assert read == row(account="a, b", amount="0.10")


def test_a_file_may_name_currencies():
    text = f"{HEADING},currency\n" + "".join(f"2026-11-23,main,glm-image,1,0.1{end}\n" for end in (",USD", ", ", ""))
    assert [one.currency for one in parse_bill(text)] == ["USD", "", ""]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_any_way_and_names_have_any_character(end):
    name = "a\u2028b\x0bc"
    text = end.join([HEADING, f"2026-11-23,{name},glm-image,1,0.10", "", ""])
    assert parse_bill(text) == [row(account=name, amount="0.10")]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("date,account,model,images\n", "line 1, column 'amount'"),
        (f"{HEADING},date\n", "line 1, column 'date'"),
        (f"{HEADING},currency,currency\n", "line 1, column 'currency'"),
        (f"{HEADING},currency\n2026-11-23,main,glm-image,1,0.1,RMB¥\n", "line 2, column 'currency'"),
        ("", "line 1, column 'date'"),
        (f"{HEADING}\n", "no rows"),
        (f"{HEADING}\n2026-11-23,main,glm-image,1,0.1\n23.11.2026,main,glm-image,1,0.1\n", "line 3, column 'date'"),
        (f"{HEADING}\n2026-02-30,main,glm-image,1,0.1\n", "line 2, column 'date': there is no day"),
        (f"{HEADING}\n0001-01-01,main,glm-image,1,0.1\n", "line 2, column 'date': no bill is of 0001-01-01"),
        (f"{HEADING}\n9999-12-31,main,glm-image,1,0.1\n", "line 2, column 'date': no bill is of 9999-12-31"),
        (f"{HEADING}\n2026-11-23,,glm-image,1,0.1\n", "line 2, column 'account'"),
        (f'{HEADING}\n2026-11-23,"ma\nin",glm-image,1,0.1\n', "column 'account': 'ma\nin' is not"),
        (f"{HEADING}\n2026-11-23,main,,1,0.1\n", "line 2, column 'model'"),
        (f"{HEADING}\n2026-11-23,main,glm-image,1.5,0.1\n", "line 2, column 'images'"),
        (f"{HEADING}\n2026-11-23,main,glm-image,1,1e3\n", "line 2, column 'amount'"),
        (f"{HEADING}\n2026-11-23,main,glm-image,1\n", "line 2, column 'amount': '' is not"),
        (f'{HEADING}\n2026-11-23,"main,glm-image,1,0.1\n', "line 2"),
    ],
)
def test_what_is_wrong_with_a_bill_names_line_and_column(text, says):
    with pytest.raises(InvalidValue) as failure:
        parse_bill(text)
    assert says in failure.value.message
