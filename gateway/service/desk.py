"""What the queues of all models share: where slots are asked for, and by which clock."""

from dataclasses import dataclass

from gateway.service.jobs import Jobs
from gateway.service.ports import Clock
from gateway.service.ports_slots import SlotStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Where slots are asked for. `without`: they are counted by this replica alone while the store is away.

    `trust`: seconds for which the store's word on a slot is taken; less than a lease, after which others may have it.
    """

    store: SlotStore
    clock: Clock
    errands: Jobs
    without: bool = False
    trust: float = 15.0
