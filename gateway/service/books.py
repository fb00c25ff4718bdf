"""How the lines of the ledger are written: what domain rules cannot know is handed in."""

from collections.abc import Callable, Sequence
from datetime import datetime

from gateway.domain.billing import Tariff, closed, opened
from gateway.domain.errors import GatewayError
from gateway.domain.flights import End, Follow, Hit, Lead
from gateway.domain.image import ImageOrder, Picture
from gateway.domain.keys import Caller
from gateway.domain.records import record
from gateway.domain.usage import Answer, UsageEvent
from gateway.service.ports import UsageObserver
from gateway.service.worst import worst_of


@record(frozen=True, slots=True, kw_only=True)
class Ends:
    """How a job's pictures ended: all that it gave, and those of them that it made itself.

    `queued`: seconds until the first of these was sent.
    """

    all: Sequence[Picture | BaseException]
    made: Sequence[Picture | GatewayError]
    queued: float = 0.0


@record(frozen=True, slots=True, kw_only=True)
class Books:
    """The lines of jobs.

    `observer` is told of them; `answer_of` gives the status and code that a client gets for a failure, `hash_prompt` a
    keyed hash of a prompt. What pictures cost, their tariff says.
    """

    observer: UsageObserver
    answer_of: Callable[[BaseException], Answer]
    hash_prompt: Callable[[str], str]

    def open(self, caller: Caller, order: ImageOrder, tariff: Tariff, *, request_id: str, now: datetime) -> UsageEvent:
        """Write the line that stands if the job's owner dies."""
        prompt_hash = self.hash_prompt(order.plan.prompt)
        return opened(caller, order, tariff, request_id=request_id, now=now, prompt_hash=prompt_hash)

    def close(self, line: UsageEvent, ends: Ends, tariff: Tariff, *, now: datetime) -> UsageEvent:
        """Write the line of a job whose pictures ended so."""
        delivered = any(isinstance(end, Picture) for end in ends.all)
        line = closed(
            line,
            ends.made,
            tariff,
            latency_ms=_milliseconds((now - line.time).total_seconds()),
            queue_ms=_milliseconds(ends.queued),
            answer=Answer() if delivered else self.answer_of(worst_of(ends.all)),
        )
        self.observer.line_closed(line)
        return line

    def attach(self, line: UsageEvent, sources: Sequence[Hit | Follow | Lead | End]) -> None:
        """Tell where the pictures of a job come from that it does not make."""
        kinds = list(map(type, sources))
        cached, joined = kinds.count(Hit) + kinds.count(End), kinds.count(Follow)
        self.observer.attached(line.upstream_model, cached=cached, joined=joined)


def _milliseconds(seconds: float) -> int:
    return max(0, int(seconds * 1000))  # a job that was taken over began by another clock
