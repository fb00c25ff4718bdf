"""glm-gateway reconcile."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rich_click as click

from gateway.cli.options import config_option, read_settings
from gateway.cli.presenting import print_json, print_table
from gateway.cli.running import run
from gateway.domain.bill import Amounts, BillComparison, BillDifference, BillRow
from gateway.domain.bill_file import parse_bill
from gateway.domain.errors import GatewayError, InvalidValue
from gateway.domain.reconciliation import CountDifference, Window
from gateway.domain.terms import money_text
from gateway.service.ports import LedgerUnavailable, QuotaUnavailable
from gateway.service.reconcile import CountReport
from gateway.settings import Settings
from gateway.wiring import prepared
from gateway.wiring.reconciliation import open_reconciliation

DIFFERENT, NOT_COMPARED = 1, 2  # exit codes
Row = dict[str, Any]


@click.command()
@config_option
@click.option(
    "--bill",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Compare the upstream's bill too: a CSV file with date (in China), account, model, images, amount, and "
    "maybe currency.",
)
@click.option("--repair", is_flag=True, help="Set what Redis counts to what the ledger says.")
@click.option("--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True)
def reconcile(config: Path | None, bill: Path | None, form: str, *, repair: bool) -> None:
    """Compare what Redis counts of this day and month, and the upstream's bill, with the ledger.

    What runs and what waits for the ledger is accounted for, so that gateways may go on serving. Exit code 0: all agree
    (or do after --repair), 1: there are differences, 2: it could not be compared.
    """
    differences = False

    async def compare(settings: Settings, rows: Sequence[BillRow]) -> None:
        nonlocal differences
        async with open_reconciliation(settings) as work:
            counts = await work.counts(repair=repair)
            billed = await work.bill(rows) if rows else None
        (_print_json if form == "json" else _print_tables)(counts, billed)
        differences = bool(counts.left or (billed and billed.differences))

    with _clear_failures():
        rows = _read(bill) if bill else []
        with prepared(read_settings(config)) as settings:
            run(compare(settings, rows))
    if differences:
        raise SystemExit(DIFFERENT)


@contextmanager
def _clear_failures() -> Iterator[None]:
    """End with one sentence and the exit code that says that nothing was compared."""
    try:
        yield
    except GatewayError as failure:
        said = failure.message
    except QuotaUnavailable as failure:
        said = f"Redis does not answer: {failure}."
    except LedgerUnavailable as failure:
        said = f"The database does not answer: {failure}."
    except OSError as failure:
        said = f"{failure.strerror or failure}: {failure.filename or 'no file named'}."
    else:
        return
    click.echo(f"Error: {said}", err=True)
    raise SystemExit(NOT_COMPARED)


def _read(path: Path) -> list[BillRow]:
    try:
        return parse_bill(path.read_text("utf-8-sig"))
    except UnicodeDecodeError:
        raise InvalidValue(f"{path} is no text in UTF-8.", param="bill") from None


def _print_json(counts: CountReport, billed: BillComparison | None) -> None:
    facts: Row = {
        "redis": {
            "compared": len(counts.names),
            "running_images": counts.running,
            "emptied": counts.emptied,
            "differences": [_count_row(one, counts) for one in counts.differences],
            "left": [_count_row(one, counts) for one in counts.left],
        }
    }
    if billed is not None:
        told = [{**_difference_row(one), "billed_in": list(one.billed_in)} for one in billed.differences]
        facts["bill"] = {"differences": told, "uncertain": _uncertain_rows(billed)}
    print_json(facts)


def _print_tables(counts: CountReport, billed: BillComparison | None) -> None:
    if counts.emptied:
        click.echo("Redis has lost counts: gateways refill it by themselves, and so does --repair.")
    if counts.differences:
        _print_rows([_count_row(one, counts) for one in counts.differences])
        repaired = len(counts.differences) - len(counts.left)
        click.echo(f"Redis: {len(counts.differences)} differences, {repaired} repaired.")
    else:
        click.echo(f"Redis counts what the ledger says, for {len(counts.names)} projects and keys.")
    if billed is None:
        return
    if billed.uncertain:
        _print_rows(_uncertain_rows(billed))
        click.echo("The ledger does not know whether these images were paid. Bills that are higher by them agree.")
    if billed.differences:
        _print_rows([_difference_row(one) for one in billed.differences])
    for one in billed.differences:
        if one.billed_in:
            click.echo(_in_other_currencies(one))
    click.echo(f"Bill: {len(billed.differences) or 'no'} differences.")


def _print_rows(rows: Sequence[Row]) -> None:
    print_table([[name.replace("_", " ") for name in rows[0]], *([str(cell) for cell in row.values()] for row in rows)])


def _count_row(one: CountDifference, counts: CountReport) -> Row:
    project_id, key_id = counts.names[one.subject]
    amounts = [_amount(one.window, value) for value in (one.counted, one.ledger)]
    return {
        "project_id": project_id,
        "key_id": key_id,
        "counter": one.window,
        "redis": amounts[0],
        "ledger": amounts[1],
    }


def _amount(window: Window, value: int | None) -> int | str | None:
    """Write money as a text, so that no program rounds it; None for what is no number."""
    return money_text(value) if window is Window.SPEND_THIS_MONTH and value is not None else value


def _in_other_currencies(one: BillDifference) -> str:
    return (
        f"{one.day} {one.account} {one.model}: the ledger has costs in {one.currency}, the bill is in "
        f"{', '.join(one.billed_in)}. They are not compared: give the bill a column 'currency', or the account its "
        f"'currency' in [[upstreams]]."
    )


def _difference_row(one: BillDifference) -> Row:
    return (
        {"date": one.day.isoformat(), "account": one.account, "model": one.model, "currency": one.currency}
        | _amounts("bill", one.billed)
        | _amounts("ledger", one.ledger)
    )


def _uncertain_rows(billed: BillComparison) -> list[Row]:
    return [
        {"date": one.day.isoformat(), "model": one.model, "currency": one.currency}
        | _amounts("uncertain", one.most)
        | _amounts("billed", one.billed)
        for one in billed.uncertain
    ]


def _amounts(name: str, amounts: Amounts) -> Row:
    return {f"{name}_images": amounts.images, f"{name}_amount": f"{amounts.money:f}"}
