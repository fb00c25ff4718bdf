"""Which faults are on: reads them from JSON, says whom they strike, forgets the spent ones."""

import functools
import operator
import secrets
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import msgspec

from gateway.simulator import faults
from gateway.simulator.faults import Fault

F = TypeVar("F", bound=Fault)
_dice = secrets.SystemRandom()


def _kinds() -> Iterator[type[Fault]]:
    for named in vars(faults).values():
        if isinstance(named, type) and issubclass(named, Fault) and named.__struct_config__.tag != named.__name__:
            yield named


# A class without a tag of its own carries msgspec's default, its name: those are the groups, not the kinds.
KINDS = {str(kind.__struct_config__.tag): kind for kind in _kinds()}
_any_kind: Any = functools.reduce(operator.or_, KINDS.values())


def read_faults(body: bytes) -> list[Fault]:
    """One fault or a list of them; raises msgspec's DecodeError with the path of what is wrong."""
    read = msgspec.json.decode(body)
    return [msgspec.convert(one, _any_kind) for one in (read if isinstance(read, list) else [read])]


def describe_kinds() -> dict[str, list[str]]:
    """Every kind with the names of its parameters."""
    return {name: [field.name for field in msgspec.structs.fields(kind)] for name, kind in KINDS.items()}


class Switchboard:
    """The faults that are on, in the order they were switched on; the first that strikes is taken."""

    def __init__(self) -> None:
        self.active: list[Fault] = []

    def take(
        self,
        kind: type[F],
        prompt: str,
        key_id: str | None,
        when: Callable[[F], bool] = lambda _: True,
    ) -> F | None:
        """The fault of this kind or group that strikes now, counted against its `times`."""
        for fault in self.active:
            if isinstance(fault, kind) and fault.strikes(prompt, key_id) and when(fault) and _hits(fault):
                self._count(fault)
                return fault
        return None

    def _count(self, fault: Fault) -> None:
        if fault.times is None:
            return
        fault.times -= 1
        if fault.times == 0:
            self.active = [other for other in self.active if other is not fault]


def _hits(fault: Fault) -> bool:
    return _dice.random() < fault.probability
