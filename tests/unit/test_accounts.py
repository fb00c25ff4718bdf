"""The accounts that [[upstreams]] gives, and what is said of wrong ones."""

import pytest

from gateway.domain.errors import Misconfigured
from gateway.settings import load
from gateway.settings.models import load_catalog
from gateway.wiring.accounts import accounts_of
from gateway.wiring.upstreams import endpoints_of, fetch_rules

HD, COGVIEW = "glm-image", "cogview-4-250304"


def entry(name="main", rest="", key=None):
    key = key or f'api_key = "{name}.secret"'
    return f'[[upstreams]]\nname = "{name}"\n{key}\n{rest}\n'


def settings(tmp_path, *entries, environ=()):
    path = tmp_path / "gateway.toml"
    path.write_text("".join(entries), "utf-8")
    return load(dict(environ), path)


def accounts(tmp_path, *entries, environ=()):
    return accounts_of(settings(tmp_path, *entries, environ=environ), load_catalog())


def test_an_account_of_which_nothing_is_said(tmp_path):
    [account] = accounts(tmp_path, entry())
    assert (account.name, account.account, account.weight, account.currency) == ("main", "main", 1, "CNY")
    assert (account.limit(HD), account.limit(COGVIEW), account.models) == (1, 1, None)
    assert account.costs == {name: int(model.price * 1_000_000) for name, model in load_catalog().models.items()}


def test_an_account_takes_the_catalogs_price_for_models_that_it_names_no_price_of(tmp_path):
    [account] = accounts(tmp_path, entry(rest=f'price = {{ "{COGVIEW}" = 0.5 }}'))
    assert (account.costs[HD], account.costs[COGVIEW]) == (100_000, 500_000)


def test_an_account_of_which_everything_is_said(tmp_path):
    rest = f"""
        account = "company"
        models = ["{HD}", "{COGVIEW}"]
        concurrency = {{ "{COGVIEW}" = 5 }}
        weight = 3
        price = {{ "{HD}" = "0.015", "{COGVIEW}" = 0.01 }}
        currency = "USD"
        image_hosts = ["pictures.example"]
        timeout = 90
        mode = "async"
    """
    [account] = accounts(tmp_path, entry(rest=rest))
    assert (account.account, account.weight, account.currency) == ("company", 3, "USD")
    assert [account.serves(model) for model in (HD, COGVIEW, "cogview-4")] == [True, True, False]
    assert [account.limit(model) for model in (HD, COGVIEW)] == [1, 5]
    assert account.costs == {HD: 15_000, COGVIEW: 10_000}
    asked = settings(tmp_path, entry(rest=rest))
    assert "pictures.example" in fetch_rules(asked).host_suffixes
    assert endpoints_of(asked)["main"].timeout == 90


def test_one_price_is_that_of_every_model(tmp_path):
    [account] = accounts(tmp_path, entry(rest="price = 0.1"))
    assert set(account.costs.values()) == {100_000}


def test_an_accounts_timeout_is_that_of_all_unless_it_has_one(tmp_path):
    both = settings(tmp_path, "[upstream]\ntimeout = 70\n", entry(), entry("other", "timeout = 9"))
    assert {name: endpoint.timeout for name, endpoint in endpoints_of(both).items()} == {"main": 70, "other": 9}


def test_a_key_may_be_in_a_file(tmp_path):
    (tmp_path / "key").write_text(" id.s3cret\n", "utf-8")
    asked = settings(tmp_path, entry(key=f'api_key_file = "{tmp_path}/key"'))
    assert endpoints_of(asked)["main"].api_key == "id.s3cret"
    assert "s3cret" not in repr(asked)


def test_the_fingerprint_tells_key_and_place_and_shows_neither(tmp_path):
    [one] = accounts(tmp_path, entry())
    place = 'base_url = "https://open.bigmodel.cn/api/paas/v4/"'
    [renamed] = accounts(tmp_path, entry("other", place, key='api_key = "main.secret"'))
    [rekeyed] = accounts(tmp_path, entry(key='api_key = "main.secret2"'))
    [moved] = accounts(tmp_path, entry(rest='base_url = "https://api.z.ai/api/paas/v4"'))
    assert one.fingerprint == renamed.fingerprint
    assert len({one.fingerprint, rekeyed.fingerprint, moved.fingerprint}) == 3
    assert len(one.fingerprint) == 16
    assert "secret" not in one.fingerprint


def test_keys_of_one_account_may_serve_different_models(tmp_path):
    found = accounts(
        tmp_path,
        entry("a", f'account = "x"\nmodels = ["{HD}"]\nconcurrency = 1'),
        entry("b", f'account = "x"\nmodels = ["{COGVIEW}"]\nconcurrency = 5'),
        entry("c", f'account = "x"\nconcurrency = {{ "{COGVIEW}" = 5 }}'),
    )
    assert [account.account for account in found] == ["x", "x", "x"]


def test_accounts_of_the_environment_have_a_slot_of_their_own_each(tmp_path):
    found = accounts(tmp_path, environ={"ZAI_API_KEY": "a.1,b.2", "ZAI_CONCURRENCY": "4"}.items())
    assert [(one.account, one.limit(HD)) for one in found] == [("zai-1", 4), ("zai-2", 4)]


def test_a_key_may_have_two_entries_of_one_account(tmp_path):
    entries = [entry(name, 'account = "x"\n' + rest, SAME) for name, rest in (("a", 'mode = "async"'), ("b", ""))]
    assert [account.account for account in accounts(tmp_path, *entries)] == ["x", "x"]


SAME = 'api_key = "id.secret"'
WRONG = [
    ([entry(rest='models = ["glm-2"]')], "'main'.*glm-2"),
    ([entry(rest='concurrency = { "glm-2" = 1 }')], "'main'.*glm-2"),
    ([entry(rest='price = { "glm-2" = 1 }')], "'main'.*glm-2"),
    ([entry(rest='concurrency = { "glm-image" = 0 }')], "'main': concurrency"),
    ([entry(rest="concurrency = 1.5")], r"\$\.upstreams\[0\]\.concurrency"),
    ([entry(rest="weight = 0")], r"\$\.upstreams\[0\]\.weight"),
    ([entry(rest="price = -0.1")], "'main': price"),
    ([entry(rest="price = nan")], "'main': price"),
    ([entry(rest="price = 1e30")], "'main': price"),
    ([entry(rest='currency = "usd"')], r"\$\.upstreams\[0\]\.currency"),
    ([entry(rest='currency = "USD"')], "'main': give the price of '.*' in USD"),
    ([entry(rest='kind = "midjourney"')], r"\$\.upstreams\[0\]\.kind"),
    ([entry(rest='mode = "batch"')], r"\$\.upstreams\[0\]\.mode"),
    ([entry(rest="timeout = -1")], r"\$\.upstreams\[0\]\.timeout"),
    ([entry(rest="timeout = 201")], r"drain_seconds"),
    ([entry(rest='api_key_file = "/nowhere/key"')], "'main': give either"),
    ([entry(key='api_key_file = "/nowhere/key"')], "'main': /nowhere/key"),
    ([entry(key=r'api_key = "id.one\nid.two"')], "'main': the key has to be one word"),
    ([entry(key='api_key = "id.s€cret"')], "'main': the key has to be one word"),
    ([entry("a", key=SAME), entry("b", key=SAME)], "'a' and 'b' have the same key"),
    ([entry(), entry("other", 'account = "main"\nconcurrency = 2')], "'main' and 'other' share the account 'main'"),
    (
        [entry("a", 'account = "x"'), entry("b", f'account = "x"\nconcurrency = {{ "{COGVIEW}" = 5 }}')],
        f"'a' and 'b' share.*'{COGVIEW}'",
    ),
]


@pytest.mark.parametrize(("entries", "says"), WRONG, ids=str)
def test_what_is_wrong_with_an_account_is_said_in_one_sentence(tmp_path, entries, says):
    with pytest.raises(Misconfigured, match=says) as failure:
        accounts(tmp_path, *entries)
    assert "\n" not in failure.value.message


def test_a_longer_timeout_needs_a_longer_stop(tmp_path):
    assert settings(tmp_path, "[server]\ndrain_seconds = 300\n", entry(rest="timeout = 300")).upstreams
