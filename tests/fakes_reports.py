"""The reports port in memory: the same sums, said in Python."""

from collections import defaultdict
from dataclasses import replace

from gateway.domain.reports import SECONDS, Group, Sums, period
from gateway.domain.usage import Outcome

UNCERTAIN = {Outcome.UNKNOWN, Outcome.ABANDONED}
FIELDS = {
    Group.PROJECT: "project_id",
    Group.KEY: "key_id",
    Group.MODEL: "upstream_model",
    Group.SIZE: "size",
    Group.SOURCE: "source",
    Group.OUTCOME: "outcome",
    Group.USER: "end_user_hash",
}
WITHOUT_COSTS = {"pictures_paid": 0, "pictures_requested": 0, "cost": 0, "cost_currency": ""}


def value(line, group):
    return period(group, line.time) if group in SECONDS else str(getattr(line, FIELDS[group]))


def summed(group, lines):
    return Sums(
        group=group,
        requests=sum("~" not in line.event_id for line in lines),
        delivered=sum(line.pictures_delivered for line in lines),
        paid=sum(line.pictures_paid for line in lines),
        uncertain=sum(line.pictures_requested - line.pictures_paid for line in lines if line.outcome in UNCERTAIN),
        cost=sum(line.cost for line in lines),
        cost_currency=lines[0].cost_currency,
        price=sum(line.price for line in lines),
        currency=lines[0].currency,
    )


class FakeReports:
    """Sums of lines that it was given."""

    def __init__(self, *lines):
        self.lines = list(lines)

    async def sums(self, question):
        groups = defaultdict(list)
        for line in self.lines:
            wanted = all(value(line, group) in values for group, values in question.only.items())
            ended = question.end is not None and line.time >= question.end
            if line.time >= question.start and not ended and wanted:
                names = tuple(value(line, group) for group in question.by)
                counted = replace(
                    line,
                    **({} if question.costs else WITHOUT_COSTS),
                    **({} if question.prices else {"price": 0, "currency": ""}),
                )
                groups[names, counted.cost_currency, counted.currency].append(counted)
        return [summed(dict(zip(question.by, names, strict=True)), lines) for (names, *_), lines in groups.items()]
