"""What an operator sees of the upstream's accounts, and does about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.domain.audit import AuditEvent
from gateway.domain.catalog import Model
from gateway.domain.errors import InvalidValue
from gateway.domain.image import ImagePlan
from gateway.domain.slots import Park
from gateway.domain.upstream import Account, CallFailure, Fault, outward
from gateway.service.audit import Audit
from gateway.service.ports_slots import SlotStore
from gateway.service.ports_upstream import CallFailed, Upstream
from gateway.service.slots import seat_of

BUSY = frozenset({"1302", "1303", "1305"})  # codes of an account that is well and has no room just now
PROMPT = "A plain grey square."  # of a picture that is made to see whether one can be


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamState:
    """How an upstream stands for one of its models. `limit` now, which may be lower than `configured` for a while."""

    name: str
    account: str
    model: str
    configured: int
    limit: int
    in_flight: int
    park: Park | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a test. `code` is the upstream's own, where it gave one."""

    name: str
    model: str
    well: bool
    said: str
    code: str = ""


class AdministerUpstreams:
    """The accounts of the settings, with the models of the catalog."""

    def __init__(
        self,
        accounts: Sequence[Account],
        models: Mapping[str, Model],
        store: SlotStore,
        upstream: Upstream,
        audit: Audit,
    ) -> None:
        self._audit = audit
        self._accounts = accounts
        self._models = models
        self._store = store
        self._upstream = upstream

    async def states(self) -> list[UpstreamState]:
        """Tell how each account stands, by model. SlotsUnavailable when that is not known."""
        found = []
        for model in self._models:
            accounts = [account for account in self._accounts if account.serves(model)]
            seen = await self._store.look(model, [seat_of(account, model) for account in accounts]) if accounts else ()
            for account, state in zip(accounts, seen, strict=True):
                found.append(
                    UpstreamState(
                        name=account.name,
                        account=account.account,
                        model=model,
                        configured=account.limit(model),
                        limit=state.limit,
                        in_flight=state.in_flight,
                        park=state.park,
                    )
                )
        return found

    async def unpark(self, name: str) -> int:
        """Use an account again; the number of models for which it was left alone.

        Raises:
            InvalidValue: no upstream has this name.
        """
        account = self._find(name)
        models = [model for model in self._models if account.serves(model)]
        parked = [model for model in models if await self._store.unpark(model, seat_of(account, model))]
        event = AuditEvent(
            type="upstream.unparked", resource_id=account.name, before={"parked": parked}, after={"parked": []}
        )
        await self._audit.note(event)
        return len(parked)

    async def test(self, name: str | None, *, pay: bool) -> list[Verdict]:
        """Ask an account, or each, whether it would make pictures; with `pay` let it make one. Raises as above."""
        accounts = self._accounts if name is None else [self._find(name)]
        models = tuple(self._models.values())
        return [await probe(self._upstream, account, models, pay=pay) for account in accounts]

    def _find(self, name: str) -> Account:
        for account in self._accounts:
            if account.name == name:
                return account
        raise InvalidValue(f"No upstream is called {name[:100]!r}. 'glm-gateway upstreams list' shows all.")


async def probe(upstream: Upstream, account: Account, models: Sequence[Model], *, pay: bool = False) -> Verdict:
    """Ask an account whether it would make the first of the models that it serves; with `pay` let it."""
    model = next(model for model in models if account.serves(model.name))
    failure = await (_make(upstream, account, model) if pay else upstream.probe(account, model.name))
    return _verdict(account, model, failure, pay=pay)


async def _make(upstream: Upstream, account: Account, model: Model) -> CallFailure | None:
    plan = ImagePlan(model=model.name, prompt=PROMPT, size=model.default_size, quality=model.qualities[0])
    try:
        await upstream.make(account, plan, _nowhere)
    except CallFailed as failed:
        return failed.failure
    return None


def _verdict(account: Account, model: Model, failure: CallFailure | None, *, pay: bool) -> Verdict:
    if failure is None:
        return Verdict(name=account.name, model=model.name, well=True, said="A picture was made and paid.")
    if failure.fault is Fault.REQUEST and not pay:
        said = "The key is accepted. Whether the balance suffices only a picture shows (--pay)."
        return Verdict(name=account.name, model=model.name, well=True, said=said, code=failure.code)
    return Verdict(name=account.name, model=model.name, well=False, said=outward(failure).message, code=failure.code)


async def _nowhere(_: str) -> None:
    """Keep the id of an ordered picture nowhere: nobody goes on asking for a test."""
