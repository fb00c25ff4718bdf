"""What an examination of an installation finds: one line for each part, and what to do about it."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

SKEW, WORST_SKEW = timedelta(seconds=2), timedelta(seconds=60)


class Verdict(StrEnum):
    """How a part stands: a warning may become a loss, what is wrong keeps the gateway from serving."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the examination; `advice` says what to do where something is to be done."""

    part: str
    verdict: Verdict
    said: str
    advice: str = ""


def well(part: str, said: str) -> Finding:
    """Say that a part is as it should be."""
    return Finding(part=part, verdict=Verdict.OK, said=said)


def warning(part: str, said: str, advice: str) -> Finding:
    """Say that a part works, and may not always."""
    return Finding(part=part, verdict=Verdict.WARNING, said=said, advice=advice)


def wrong(part: str, said: str, advice: str) -> Finding:
    """Say that a part does not work."""
    return Finding(part=part, verdict=Verdict.WRONG, said=said, advice=advice)


def clocks(part: str, ahead: timedelta) -> Finding:
    """Judge how far another machine's clock is ahead of this one's."""
    said = f"{ahead.total_seconds():+.1f} s to this machine's clock."
    advice = "Let both machines keep time (NTP): windows of limits go by Redis's clock, URLs of pictures by this one."
    if abs(ahead) > WORST_SKEW:
        return wrong(part, said, advice)
    return warning(part, said, advice) if abs(ahead) > SKEW else well(part, said)
