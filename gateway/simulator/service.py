"""The story of a call: counted, admitted, made, answered, unless a fault comes in between."""

import asyncio
import secrets

from litestar.types import ASGIApp

from gateway.simulator import bodies
from gateway.simulator.admission import Admission
from gateway.simulator.answers import Answer, Headers, as_json
from gateway.simulator.calls import Call
from gateway.simulator.errors import Refusal, invalid
from gateway.simulator.faults import StayProcessing, Trouble
from gateway.simulator.options import SimulatorOptions
from gateway.simulator.state import Job, State, Ticket
from gateway.simulator.studio import Studio
from gateway.simulator.trouble import troubled


class Service:
    """GLM-Image as documented, on one account system."""

    def __init__(self, options: SimulatorOptions) -> None:
        self.studio = Studio(options)
        self.state = State()
        self._options = options
        self._admission = Admission(options)

    def reset(self) -> None:
        """Forgets everything."""
        self.state = State()

    async def generate(self, call: Call) -> ASGIApp:
        """Answers a POST to either generation path."""
        state = self.state
        state.see(call)
        language = self._options.language
        if fault := call.take(Trouble, lambda trouble: not trouble.after):
            return troubled(fault, call, language)
        try:
            answer = await self._answer(call, state)
        except Refusal as refusal:
            return self._refuse(refusal, call)
        if fault := call.take(Trouble, lambda trouble: trouble.after):
            return troubled(fault, call, language, b"".join(answer.pieces))
        return answer

    def poll(self, call: Call, job_id: str) -> ASGIApp:
        """Answers a GET for the result of an asynchronous call."""
        try:
            job = self.state.find_job(job_id, self._admission.authenticate(call))
            if job is None:
                raise invalid("id")  # what a foreign or unknown id gets is not documented
        except Refusal as refusal:
            return self._refuse(refusal, call)
        outcome = job.task.result() if job.task.done() and not job.polls_left else None
        job.polls_left = max(job.polls_left - 1, 0)
        return as_json(bodies.polled(job.ticket, outcome, self._options.language), headers=_service_headers())

    async def _answer(self, call: Call, state: State) -> Answer:
        ticket = self._admission.admit(call, state)
        if call.asynchronous:
            return self._submit(ticket, state)
        # The caller's leaving must not end the generation: the real service finishes and bills it.
        outcome = await asyncio.shield(self.studio.start(ticket, state))
        if isinstance(outcome, Refusal):
            raise outcome
        return as_json(bodies.made(ticket, outcome), headers=_service_headers())

    def _submit(self, ticket: Ticket, state: State) -> Answer:
        fault = ticket.call.take(StayProcessing)
        job = Job(ticket=ticket, task=self.studio.start(ticket, state), polls_left=fault.polls if fault else 0)
        state.keep_job(job)
        return as_json(bodies.submitted(ticket), headers=_service_headers())

    def _refuse(self, refusal: Refusal, call: Call) -> Answer:
        body = refusal.body(self._options.language, call.request_id)
        return as_json(body, status=refusal.http_status, headers=_service_headers())


def _service_headers() -> Headers:
    """The WAF's cookie, and what the official error page's example shows (section 1.3)."""
    return (
        ("set-cookie", f"acw_tc={secrets.token_hex(32)};path=/;HttpOnly;Max-Age=1800"),
        ("vary", "Origin"),
        ("vary", "Access-Control-Request-Method"),
        ("vary", "Access-Control-Request-Headers"),
    )
