"""Makes the offer of the settings: the models, and the accounts that make them."""

from gateway.domain.errors import Misconfigured
from gateway.service.offers import Offer
from gateway.settings import Settings
from gateway.settings.models import load_catalog
from gateway.wiring.accounts import accounts_of, served


def offer_of(settings: Settings) -> Offer:
    """Read the models and match them with the accounts.

    Raises:
        Misconfigured: there is no upstream, or accounts and models contradict each other.
    """
    if not settings.upstreams:
        raise Misconfigured(
            "No upstream key is set: give ZHIPUAI_API_KEY=<id>.<secret> (or ZAI_API_KEY), or try 'glm-gateway demo'.",
        )
    catalog = load_catalog(settings.models.file)
    accounts = accounts_of(settings, catalog)
    return Offer(catalog=served(catalog, accounts), accounts=accounts, longest_call=settings.longest_call)
