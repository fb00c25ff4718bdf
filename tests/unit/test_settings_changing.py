"""What of changed settings a running gateway takes, and what it names for a restart."""

import pytest

from gateway.domain.errors import Misconfigured
from gateway.settings import load
from gateway.settings.changing import changed, fixed

ACCOUNT = '[[upstreams]]\nname = "{name}"\napi_key = "id.{name}"\n'
LIVE = '[upstream]\ntimeout = 100\nimage_hosts = ["cdn.example"]\nimage_timeout = 7\n[models]\nfile = "/other.toml"\n'
FIXED = '[upstream]\nimage_max_bytes = 7\n[server]\nport = 9\nmax_body = 9\n[redis]\nurl = "redis://other"\n'


@pytest.fixture
def read(tmp_path):
    def one(text, environ=()):
        path = tmp_path / "gateway.toml"
        path.write_text(text)
        return load(dict(environ), path)

    return one


def test_accounts_models_and_their_times_change_and_nothing_else_does(read):
    before, after = read(ACCOUNT.format(name="a")), read(LIVE + ACCOUNT.format(name="b"))
    now = changed(before, after)
    assert now == after
    assert fixed(before, after) == ()


def test_what_takes_a_restart_is_named_and_stays(read):
    before, after = read(ACCOUNT.format(name="a")), read(FIXED + ACCOUNT.format(name="b"))
    now = changed(before, after)
    assert fixed(before, after) == ("server.port", "server.max_body", "upstream.image_max_bytes", "redis.url")
    assert (now.upstreams, now.upstream, now.server, now.redis) == (
        after.upstreams,
        before.upstream,
        before.server,
        before.redis,
    )


def test_prices_in_another_currency_wait_for_the_restart(read):
    before, after = read(""), read('[billing]\ncurrency = "USD"\n')
    with pytest.raises(Misconfigured, match="charged in CNY that are meant in USD"):
        changed(before, after)


def test_secrets_and_what_the_environment_gives_count_too(read):
    before, after = read("", {"GLM_GATEWAY_SECRET_KEY": "one"}), read("", {"GLM_GATEWAY_SECRET_KEY": "another"})
    assert fixed(before, after) == ("secret_key",)


def test_what_holds_together_only_after_a_restart_is_refused(read):
    before, after = read(""), read("[server]\ndrain_seconds = 400\n[upstream]\ntimeout = 400\n")
    with pytest.raises(Misconfigured, match="drain_seconds"):
        changed(before, after)


def test_a_key_in_a_file_that_the_environment_names_is_read_anew(read, tmp_path):
    key = tmp_path / "zhipuai_api_key"
    environ = {"ZHIPUAI_API_KEY_FILE": str(key)}
    key.write_text("id.old\n")
    before = read("", environ)
    key.write_text("id.new\n")
    after = read("", environ)
    assert fixed(before, after) == ()
    assert [account.api_key.reveal() for account in changed(before, after).upstreams] == ["id.new"]
