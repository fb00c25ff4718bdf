"""The checks between a call and its generation, in the order of glm-image-api.md section 3 (there: [INF])."""

import secrets

from gateway.simulator.calls import Call
from gateway.simulator.errors import Finding, Refusal
from gateway.simulator.faults import AuthenticationFault, Fail, LoadFault, Moderation, NoBalance, Slow
from gateway.simulator.keys import Keyring
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.orders import read_order
from gateway.simulator.state import State, Ticket

_dice = secrets.SystemRandom()
_WORST_THAT_PASSES = 2  # levels 0 and 1 fail, 2 and 3 may succeed with a warning (section 1.3)


class Admission:
    """Decides whether a call becomes a generation, and how that one goes."""

    def __init__(self, options: SimulatorOptions) -> None:
        self._options = options
        self._keyring = Keyring(options.keys)

    def admit(self, call: Call, state: State) -> Ticket:
        """The generation's ticket, or the Refusal of the first check that fails."""
        key_id = self.authenticate(call)
        order = read_order(call, self._options)
        if call.take(NoBalance):
            raise Refusal("1113")
        self._check_load(call, state.slots[key_id, order.model])
        finding = _moderate(call)
        ending = _ending(call, finding)
        if ending and finding and finding.role != "assistant":
            raise ending
        return Ticket(
            call=call, order=order, key_id=key_id, seconds=self._seconds(call), finding=finding, refusal=ending
        )

    def authenticate(self, call: Call) -> str:
        """The id of the key that calls."""
        if fault := call.take(AuthenticationFault):
            raise Refusal(fault.code)
        return self._keyring.authenticate(call.headers.get("authorization"))

    def _check_load(self, call: Call, in_flight: int) -> None:
        if fault := call.take(LoadFault):
            raise Refusal(fault.code)
        if in_flight >= self._options.concurrency:
            raise Refusal("1302")

    def _seconds(self, call: Call) -> float:
        fault = call.take(Slow)
        if fault is None:
            return self._options.latency
        return max(0.0, fault.seconds + _dice.uniform(-fault.jitter, fault.jitter))


def _moderate(call: Call) -> Finding | None:
    fault = call.take(Moderation)
    return None if fault is None else Finding(fault.role, fault.level)


def _ending(call: Call, finding: Finding | None) -> Refusal | None:
    """What the generation comes to instead of a picture."""
    if finding is not None and finding.level < _WORST_THAT_PASSES:
        return Refusal("1301", finding=finding)
    if call.asynchronous and (fault := call.take(Fail)):
        return Refusal("1230", message=fault.message)
    return None
