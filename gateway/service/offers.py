"""What is on offer: the models, and the accounts that make them. A reload puts another offer in place."""

from dataclasses import dataclass, field

from gateway.domain.billing import Tariff
from gateway.domain.catalog import Catalog
from gateway.domain.upstream import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """The models that accounts make, and these accounts. `longest_call`: seconds that any of their calls may take."""

    catalog: Catalog
    accounts: tuple[Account, ...]
    longest_call: float
    _costed: dict[tuple[Tariff, str], Tariff] = field(default_factory=dict, init=False, repr=False, compare=False)

    def costed(self, tariff: Tariff, model: str) -> Tariff:
        """Add what the accounts take for a model; there is one of each price and model."""
        known = self._costed.get((tariff, model))
        if known is None:
            known = self._costed[tariff, model] = tariff.at(self.accounts, model)
        return known

    def account(self, name: str, fingerprint: str = "") -> Account | None:
        """Give the account of this name, if its key has this fingerprint; without one, whatever its key is."""
        found = next((account for account in self.accounts if account.name == name), None)
        return found if found is not None and fingerprint in {"", found.fingerprint} else None


@dataclass(slots=True)
class Offers:
    """The offer that holds now. Who plans reads it once: what was planned keeps what it found."""

    now: Offer
