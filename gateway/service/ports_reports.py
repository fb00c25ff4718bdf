"""What the reports need of the ledger."""

from typing import Protocol

from gateway.domain.reports import Question, Sums


class UsageReports(Protocol):
    """The ledger as it is read."""

    async def sums(self, question: Question) -> list[Sums]:
        """Sum lines by groups and currencies, in any order; no line, no group. DatabaseUnavailable while it is away."""
