"""Makes the accounts of the settings, checked against the catalog."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from gateway.domain.billing import micros
from gateway.domain.catalog import Catalog
from gateway.domain.errors import Misconfigured
from gateway.domain.upstream import Account, fingerprint
from gateway.settings import Settings
from gateway.settings.upstreams import UpstreamAccount

OTHERS = 1  # the concurrency of models that a table of concurrencies does not name


def accounts_of(settings: Settings, catalog: Catalog) -> tuple[Account, ...]:
    """Make the accounts.

    Raises:
        Misconfigured: one names a model that is not in the catalog or lacks a price, or two contradict each other.
    """
    for upstream in settings.upstreams:
        if unknown := sorted(upstream.named_models - catalog.models.keys()):
            raise Misconfigured(f"Upstream {upstream.name!r}: the model {unknown[0]!r} is not in models.toml.")
    accounts = tuple(_account(upstream, settings, catalog) for upstream in settings.upstreams)
    for account in accounts:
        for model in _unpriced(account, settings, catalog):
            raise Misconfigured(f"Upstream {account.name!r}: give the price of {model!r} in {account.currency}.")
    for wrong in _contradictions(accounts, catalog):
        raise Misconfigured(wrong)
    return accounts


def served(catalog: Catalog, accounts: Sequence[Account]) -> Catalog:
    """Leave out the models that no account makes: nobody is to be offered them. Misconfigured when none is left."""
    names = [model for model in catalog.models if any(account.serves(model) for account in accounts)]
    if not names:
        raise Misconfigured("No upstream serves any model: see `models` of [[upstreams]].")
    return catalog.only(names)


def _account(upstream: UpstreamAccount, settings: Settings, catalog: Catalog) -> Account:
    return Account(
        name=upstream.name,
        account=upstream.account,
        concurrency=OTHERS if isinstance(upstream.concurrency, dict) else upstream.concurrency,
        concurrencies=upstream.concurrencies,
        models=frozenset(upstream.models) or None,
        weight=upstream.weight,
        fingerprint=fingerprint(upstream.api_key.reveal(), upstream.base_url),
        costs=_costs(upstream, settings, catalog),
        currency=upstream.currency or settings.billing.currency,
    )


def _costs(upstream: UpstreamAccount, settings: Settings, catalog: Catalog) -> dict[str, int]:
    """Say what the account takes: the catalog's prices where it says nothing and its currency is theirs."""
    same = (upstream.currency or settings.billing.currency) == settings.billing.currency
    prices = {model.name: model.price for model in catalog.models.values()} if same else {}
    if upstream.price is not None:
        own = upstream.price if isinstance(upstream.price, dict) else dict.fromkeys(catalog.models, upstream.price)
        prices |= own
    return {model: micros(price) for model, price in prices.items()}


def _unpriced(account: Account, settings: Settings, catalog: Catalog) -> Iterator[str]:
    """Name the models whose catalog price is in another currency than the account's."""
    if account.currency != settings.billing.currency:
        yield from (model for model in catalog.models if account.serves(model) and model not in account.costs)


def _contradictions(accounts: Sequence[Account], catalog: Catalog) -> Iterator[str]:
    """Say which entries would let more calls of one account be in flight than another of them allows."""
    for one, other in combinations(accounts, 2):
        if one.fingerprint == other.fingerprint and one.account != other.account:
            names = f"{one.name!r} and {other.name!r}"
            yield f"Upstreams {names} have the same key: leave one out, or give both the same account."
        for model in catalog.models:
            both = one.account == other.account and one.serves(model) and other.serves(model)
            if both and one.limit(model) != other.limit(model):
                yield (
                    f"Upstreams {one.name!r} and {other.name!r} share the account {one.account!r}, so their "
                    f"concurrency for {model!r} has to be the same."
                )
