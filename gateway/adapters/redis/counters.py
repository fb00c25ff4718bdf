"""The counters of limits in Redis, as they are compared with the ledger and set right."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from gateway.adapters.redis.names import Names, decode_event
from gateway.adapters.redis.replies import asked
from gateway.adapters.redis.scripts import Scripts
from gateway.domain.errors import LedgerBehind
from gateway.domain.quota import Calendar
from gateway.domain.reconciliation import Charge, CountDifference, OpenReservation, ShardCounts, Window
from gateway.domain.usage import UsageEvent
from gateway.service.ports import QuotaRestoring
from gateway.service.ports_reconciliation import CalendarEnded

DEADLINE = 10.0  # seconds
REMEMBERED = 600_000  # ms that a look may be corrected
MOST_LINES = 10_000  # that are read in one step: some 7 MB


class RedisCounters:
    """The counter store port."""

    def __init__(self, scripts: Scripts) -> None:
        self._scripts = scripts

    async def now(self, shard: int) -> int:
        """Give the store's time in ms since 1970."""
        moment: int = await asked(self._scripts.run("moment", [Names(shard).of("clock")], (), DEADLINE))
        return moment

    async def look(self, shard: int, calendar: Calendar, subjects: Collection[str], token: str) -> ShardCounts:
        """Read a shard as of one instant; see the port for what is raised."""
        names, (day, month) = Names(shard), (calendar.days[0], calendar.months[0])
        keys = [names.of(word) for word in ("epoch", "clock", "owners", "events", "audit")]
        held, records = names.of("held", ""), names.of("reservation", "")
        bounds = (day.starts, day.ends, month.starts, month.ends)
        arguments = (token, REMEMBERED, *bounds, held, records, MOST_LINES)
        keys += _windows(names, calendar, subjects)
        now, epoch, length, *rest = await asked(self._scripts.run("audit", keys, arguments, DEADLINE))
        if rest:
            moment = datetime.fromtimestamp(int(now) / 1000, UTC)
            return _shard(calendar, tuple(subjects), rest, moment, emptied=not epoch)
        if not (day.starts <= int(now) < day.ends and month.starts <= int(now) < month.ends):
            raise CalendarEnded
        if length > MOST_LINES:
            raise LedgerBehind(f"{length} lines wait for the ledger. Compare again when it has caught up.")
        raise QuotaRestoring((int(epoch) - int(now)) / 1000)

    async def correct(
        self, shard: int, calendar: Calendar, differences: Collection[CountDifference], token: str
    ) -> bool:
        """Add what counters lack to them, all or none; False when the look of the token was not the last one."""
        names = Names(shard)
        changes = {(one.subject, one.window): one.change for one in differences}
        subjects = list(dict.fromkeys(one.subject for one in differences))
        keys = [names.of("epoch"), names.of("audit"), *_windows(names, calendar, subjects)]
        amounts = [changes.get((subject, window), 0) for subject in subjects for window in Window]
        arguments = (token, calendar.days[0].ends, calendar.months[0].ends, *amounts)
        return bool(await asked(self._scripts.run("correct", keys, arguments, DEADLINE)))


def _windows(names: Names, calendar: Calendar, subjects: Collection[str]) -> list[str]:
    """Name the day and the month of each subject."""
    days, months = [calendar.days[0].name], [calendar.months[0].name]
    return [key for subject in subjects for key in names.windows(subject, days, months)[1:3]]


def _shard(
    calendar: Calendar, subjects: Sequence[str], rest: Sequence[Any], moment: datetime, *, emptied: bool
) -> ShardCounts:
    counts, held, lines = rest
    each = len(Window)
    return ShardCounts(
        moment=moment,
        emptied=emptied,
        counts={
            subject: dict(zip(Window, map(_number, counts[at * each : (at + 1) * each]), strict=True))
            for at, subject in enumerate(subjects)
        },
        open=[_open(calendar, *words) for words in held],
        waiting=[Charge.of(event) for event in map(_event, lines) if event is not None],
    )


def _number(raw: bytes | str) -> int | None:
    """Read a counter: 0 when there is none, None when it is no whole number."""
    text = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
    try:
        return int(text or 0)
    except ValueError:
        return None


def _open(
    calendar: Calendar, day: bytes, month: bytes, pictures: bytes, price: bytes, record: bytes
) -> OpenReservation:
    event = decode_event(record)
    return OpenReservation(
        event_id=event.event_id,
        project_id=event.project_id,
        key_id=event.key_id,
        today=day.decode() == calendar.days[0].name,
        this_month=month.decode() == calendar.months[0].name,
        pictures=int(pictures),
        price=int(pictures) * int(price),
    )


def _event(content: bytes) -> UsageEvent | None:
    """Read a line; None for one that the drain will put aside."""
    try:
        return decode_event(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
