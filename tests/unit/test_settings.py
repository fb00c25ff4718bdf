"""Where a setting may come from, and what is said of a wrong one."""

import re
from pathlib import Path

import msgspec
import pytest

from gateway.domain.addresses import is_loopback
from gateway.domain.errors import Misconfigured
from gateway.settings import Secret, Section, Settings, load
from gateway.settings.files import builtin
from gateway.settings.models import load_catalog
from gateway.settings.sources import ZAI
from gateway.settings.upstreams import BIGMODEL, UpstreamAccount

KEY = "0123456789abcdef0123456789abcdef.Secret0123456789"
LINE = re.compile(r"(?:# )?([a-z_]+) = .+|(?:# )?\[+([a-z_]+)\]+")


def write(tmp_path, text, name="gateway.toml"):
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


def names_of(kind, prefix=""):
    """Every setting of a Section, as `section.name`."""
    for field in msgspec.structs.fields(kind):
        section = UpstreamAccount if field.name == "upstreams" else field.type
        if isinstance(section, type) and issubclass(section, Section):
            yield from names_of(section, f"{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def names_in(text):
    """Every setting that a file names, also behind `# `."""
    section = ""
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        if match and match[2]:
            section = f"{match[2]}."
        elif match:
            yield f"{section}{match[1]}"


def setting(settings, name):
    for part in name.split("."):
        settings = getattr(settings, part)
    return settings


def test_nothing_set_gives_the_defaults():
    assert load({}) == Settings()


def test_the_file_that_is_shipped_says_the_defaults():
    assert load({}, builtin("gateway.toml")) == Settings()


def test_the_file_that_is_shipped_names_every_setting_and_no_other():
    named = list(names_in(builtin("gateway.toml").read_text("utf-8")))
    assert sorted(named) == sorted(names_of(Settings))


def test_the_file_with_its_examples_switched_on_is_read(tmp_path):
    text = builtin("gateway.toml").read_text("utf-8")
    settings = load({}, write(tmp_path, re.sub(r"(?m)^# (?=[a-z_]+ = |\[\[)", "", text)))
    [account] = settings.upstreams
    assert (account.name, account.base_url, account.concurrency) == ("main", BIGMODEL, 1)
    assert settings.data_dir == Path("~/.local/share/glm-gateway").expanduser()


FROM_ENVIRONMENT = {
    "server.host": ("::1", "::1"),
    "server.port": ("0", 0),
    "server.drain_seconds": ("300.5", 300.5),
    "server.strict": ("true", True),
    "server.max_body": ("2048", 2048),
    "server.trusted_proxies": ("10.0.0.0/8, ::1", ("10.0.0.0/8", "::1")),
    "server.public_url": ("https://images.example.com", "https://images.example.com"),
    "server.cors_origins": ("https://a.example,https://b.example", ("https://a.example", "https://b.example")),
    "upstream.timeout": ("100", 100.0),
    "upstream.image_hosts": ("a.example, b.example,", ("a.example", "b.example")),
    "upstream.image_timeout": ("5", 5.0),
    "upstream.image_max_bytes": ("1024", 1024),
    "models.file": ("/etc/models.toml", "/etc/models.toml"),
    "queue.max_wait": ("0.5", 0.5),
    "queue.max_length": ("3", 3),
    "queue.abandon_after": ("5", 5.0),
    "queue.max_jobs": ("7", 7),
    "cache.scope": ("key", "key"),
    "cache.max_entries": ("9", 9),
    "cache.distinct_user_agents": ("one/,two/", ("one/", "two/")),
    "images.allow_unwatermarked": ("1", True),
    "webhooks.allow_private_hosts": ("true", True),
    "store.url": ("s3://bucket/prefix", "s3://bucket/prefix"),
    "store.urls": ("upstream", "upstream"),
    "store.url_life": ("3600", 3600.0),
    "store.retention": ("1e6", 1e6),
    "cache.lifetime": ("0", 0.0),
    "redis.url": ("redis://h", Secret("redis://h")),
    "redis.reserve_deadline": ("0.25", 0.25),
    "redis.wait_replicas": ("2", 2),
    "database.url": ("sqlite:///x", Secret("sqlite:///x")),
    "quota.on_outage": ("allow", "allow"),
    "quota.timezone": ("Asia/Shanghai", "Asia/Shanghai"),
    "quota.lease": ("12.5", 12.5),
    "billing.currency": ("USD", "USD"),
    "ledger.max_backlog": ("7", 7),
    "ledger.retention": ("4e6", 4e6),
    "ledger.prompts": ("true", True),
    "log.level": ("debug", "debug"),
    "log.format": ("json", "json"),
    "log.access": ("false", False),
    "log.redact": ("false", False),
    "metrics.port": ("9090", 9090),
    "metrics.by": ("project", "project"),
    "tracing.endpoint": ("http://collector:4318", "http://collector:4318"),
    "tracing.propagate": ("false", False),
}


@pytest.mark.parametrize("name", FROM_ENVIRONMENT)
def test_every_setting_has_a_name_in_the_environment(name):
    """`Lists are comma lists there`, says the file."""
    text, value = FROM_ENVIRONMENT[name]
    variable = "GLM_GATEWAY_" + name.upper().replace(".", "__")
    assert setting(load({variable: text}), name) == value
    assert setting(load({variable: ""}), name) == setting(Settings(), name)


def test_the_table_above_is_whole():
    others = {
        "data_dir",
        "secret_key",
        "admin_key",
        *(f"upstreams.{field.name}" for field in msgspec.structs.fields(UpstreamAccount)),
    }
    assert set(FROM_ENVIRONMENT) == set(names_of(Settings)) - others


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("HOST", "192.0.2.1", "server.host", "192.0.2.1"),
        ("PORT", "9000", "server.port", 9000),
        ("LOG_LEVEL", "error", "log.level", "error"),
        ("REDIS_URL", "unix:///x", "redis.url", Secret("unix:///x")),
        ("DATABASE_URL", "postgresql://h/d", "database.url", Secret("postgresql://h/d")),
        ("GLM_GATEWAY_DATA_DIR", "~/state", "data_dir", Path("~/state").expanduser()),
        ("GLM_GATEWAY_SECRET_KEY", "s", "secret_key", Secret("s")),
        ("GLM_GATEWAY_ADMIN_KEY", "sk-admin-0123456789abcdef", "admin_key", Secret("sk-admin-0123456789abcdef")),
    ],
)
def test_conventional_names(variable, text, name, value):
    assert setting(load({variable: text}), name) == value


def test_other_variables_are_none_of_ours():
    environ = {"PATH": "/bin", "server__port": "1", "GLM_GATEWAYS": "x", "OPENAI_API_KEY": "sk-x", "PORTS": "1"}
    assert load(environ) == Settings()


def test_the_environment_goes_before_the_file(tmp_path):
    path = write(tmp_path, '[server]\nport = 1\nhost = "h"\n[queue]\nmax_wait = 2.5\n')
    settings = load({"PORT": "2", "GLM_GATEWAY_CONFIG": str(path)})
    assert (settings.server.port, settings.server.host, settings.queue.max_wait) == (2, "h", 2.5)


def test_the_command_lines_file_goes_before_the_environments(tmp_path):
    path, other = write(tmp_path, "[server]\nport = 1\n"), write(tmp_path, "[server]\nport = 2\n", "other.toml")
    assert load({"GLM_GATEWAY_CONFIG": str(path)}, other).server.port == 2


@pytest.mark.parametrize(
    ("variable", "name"),
    [("REDIS_URL", "redis.url"), ("DATABASE_URL", "database.url"), ("GLM_GATEWAY_SECRET_KEY", "secret_key")],
)
def test_a_secret_may_come_in_a_file(tmp_path, variable, name):
    path = write(tmp_path, "  the secret\n", "secret")
    assert setting(load({f"{variable}_FILE": str(path)}), name) == Secret("the secret")
    assert setting(load({f"{variable}_FILE": str(path), variable: "another"}), name) == Secret("the secret")


def test_the_admin_key_may_come_in_a_file(tmp_path):
    path = write(tmp_path, "sk-admin-0123456789abcdef\n", "secret")
    assert load({"GLM_GATEWAY_ADMIN_KEY_FILE": str(path)}).admin_key.reveal() == "sk-admin-0123456789abcdef"


@pytest.mark.parametrize("secret", ["s3cret", "sk-admin-s3cret", "sk-glm-0123456789s3cret", "sk-admin-s3cret 456789ab"])
def test_an_admin_key_that_is_none_is_refused_and_not_shown(secret):
    with pytest.raises(Misconfigured, match="GLM_GATEWAY_ADMIN_KEY") as failure:
        load({"GLM_GATEWAY_ADMIN_KEY": secret})
    assert "s3cret" not in str(failure.value)


def test_the_keys_of_accounts_may_come_in_a_file(tmp_path):
    path = write(tmp_path, f"{KEY},{KEY[::-1]}\n", "keys")
    accounts = load({"ZHIPUAI_API_KEY_FILE": str(path)}).upstreams
    assert [account.api_key.reveal() for account in accounts] == [KEY, KEY[::-1]]


def test_accounts_from_the_environment():
    environ = {
        "ZHIPUAI_API_KEY": " a.1 , b.2,, ",
        "ZHIPUAI_CONCURRENCY": "3",
        "ZAI_API_KEY": "c.3",
        "ZAI_BASE_URL": "https://proxy.example/v4",
    }
    found = [(one.name, one.api_key.reveal(), one.base_url, one.concurrency) for one in load(environ).upstreams]
    assert found == [
        ("zhipuai-1", "a.1", BIGMODEL, 3),
        ("zhipuai-2", "b.2", BIGMODEL, 3),
        ("zai-1", "c.3", "https://proxy.example/v4", 1),
    ]
    assert load({"ZAI_API_KEY": "c.3"}).upstreams[0].base_url == ZAI
    assert load({"ZHIPUAI_API_KEY": " , "}).upstreams == ()


def test_accounts_of_the_file_come_first(tmp_path):
    path = write(tmp_path, f'[[upstreams]]\nname = "main"\napi_key = "{KEY}"\nconcurrency = 5\n')
    accounts = load({"ZHIPUAI_API_KEY": "a.1"}, path).upstreams
    assert [(account.name, account.concurrency) for account in accounts] == [("main", 5), ("zhipuai-1", 1)]


WRONG = [
    ({"GLM_GATEWAY_SERVR__PORT": "1"}, "", "servr"),
    ({"GLM_GATEWAY_SERVER__PRT": "1"}, "", r"prt.*\$\.server"),
    ({"GLM_GATEWAY_PORT": "1"}, "", "port"),
    ({"GLM_GATEWAY_SERVER": "1"}, "", r"\$\.server"),
    ({"PORT": "many"}, "", r"\$\.server\.port"),
    ({"LOG_LEVEL": "loud"}, "", r"\$\.log\.level"),
    ({"GLM_GATEWAY_SERVER__STRICT": "perhaps"}, "", r"\$\.server\.strict"),
    ({"GLM_GATEWAY_LOG": "debug", "LOG_LEVEL": "info"}, "", "log"),
    ({"PORT": "1"}, "server = 5\n", "server"),
    ({"ZAI_API_KEY": "a.1"}, "upstreams = 5\n", "upstreams"),
    ({"GLM_GATEWAY_UPSTREAMS__NAME": "x"}, '[[upstreams]]\nname = "a"\napi_key = "b"\n', "upstreams"),
    ({"ZHIPUAI_API_KEY": "a.1", "ZHIPUAI_CONCURRENCY": "many"}, "", r"\$\.upstreams\[0\]\.concurrency"),
    ({"ZHIPUAI_API_KEY": "a.1", "ZHIPUAI_CONCURRENCY": "0"}, "", "zhipuai-1.*concurrency"),
    ({"ZHIPUAI_API_KEY": "a.1", "ZHIPUAI_BASE_URL": "http://open.bigmodel.cn"}, "", "zhipuai-1.*https"),
    ({"ZHIPUAI_API_KEY": "a.1", "ZHIPUAI_BASE_URL": "http://127.0.0.1:99999"}, "", "zhipuai-1.*base_url"),
    ({"ZHIPUAI_API_KEY": "a.1", "ZHIPUAI_BASE_URL": "https://[bad"}, "", "zhipuai-1.*base_url"),
    ({"GLM_GATEWAY_UPSTREAM__TIMEOUT": "201"}, "", r"drain_seconds.*upstream\.timeout"),
    ({"GLM_GATEWAY_QUOTA__ON_OUTAGE": "hope"}, "", r"\$\.quota\.on_outage"),
    ({"GLM_GATEWAY_QUOTA__TIMEZONE": "Mars/Olympus"}, "", r"quota\.timezone.*Mars/Olympus"),
    ({}, '[quota]\ntimezone = "../etc/passwd"\n', r"quota\.timezone"),
    ({"GLM_GATEWAY_SERVER__TRUSTED_PROXIES": "10.0.0.0/8,proxy"}, "", r"server\.trusted_proxies.*proxy"),
    ({}, '[server]\ntrusted_proxies = ["10.0.0.1/8"]\n', r"server\.trusted_proxies.*10\.0\.0\.1/8"),
    ({"GLM_GATEWAY_BILLING__PRICE": "1"}, "", r"price.*\$\.billing"),
    ({"REDIS_URL_FILE": "/nowhere/redis"}, "", "REDIS_URL_FILE.*/nowhere/redis"),
    ({}, "[server]\nprt = 1\n", r"gateway\.toml.*prt.*\$\.server"),
    ({}, "[servr]\nport = 1\n", r"gateway\.toml.*servr"),
    ({}, "[server\n", r"gateway\.toml.*TOML"),
    ({}, '[[upstreams]]\nname = "a"\n', "'a': give either api_key or api_key_file"),
    ({}, '[[upstreams]]\nname = "a"\napi_key = 5\n', r"\$\.upstreams\[0\]\.api_key"),
    ({"ZAI_API_KEY": "b.2"}, '[[upstreams]]\nname = "zai-1"\napi_key = "b"\n', "zai-1"),
]


def numbers_of(kind, prefix=""):
    """The names of all settings that are numbers with a fraction."""
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, Section):
            yield from numbers_of(field.type, f"{prefix}{field.name}.")
        elif isinstance(field.default, float):
            yield f"{prefix}{field.name}"


MAY_BE_ZERO = {"redis.reserve_deadline", "cache.lifetime", "queue.abandon_after"}


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1"])
@pytest.mark.parametrize("name", list(numbers_of(Settings)))
def test_no_time_is_endless_negative_or_no_number(tmp_path, name, text):
    section, _, last = name.partition(".")
    variable = f"GLM_GATEWAY_{section}__{last}".upper()
    for environ, file in (({variable: text}, ""), ({}, f"[{section}]\n{last} = {text}\n")):
        with pytest.raises(Misconfigured, match=rf"\$\.{name}"):
            load(environ, write(tmp_path, file))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((name, "0") for name in numbers_of(Settings) if name not in MAY_BE_ZERO),
        ("queue.max_jobs", "0"),
        ("cache.max_entries", "0"),
        ("ledger.max_backlog", "0"),
        ("ledger.retention", "3023999"),
        ("quota.lease", "0.9"),
        ("redis.wait_replicas", "-2"),
        ("server.port", "65536"),
        ("server.port", "-1"),
        ("server.max_body", "0"),
        ("upstream.image_max_bytes", "0"),
        ("queue.max_length", "-1"),
        ("billing.currency", "VERYLONGCURRENCY"),
        ("billing.currency", "cny"),
        ("billing.currency", "¥"),
        ("billing.currency", "CNY\n"),
    ],
)
def test_a_value_out_of_its_range_is_said_with_its_place(name, text):
    with pytest.raises(Misconfigured, match=rf"\$\.{name}") as failure:
        load({"GLM_GATEWAY_" + name.upper().replace(".", "__"): text})
    assert failure.value.message.count("\n") == 0


@pytest.mark.parametrize(("environ", "text", "says"), WRONG)
def test_what_is_wrong_is_said_with_its_place(tmp_path, environ, text, says):
    with pytest.raises(Misconfigured, match=says):
        load(environ, write(tmp_path, text))


def test_a_file_that_cannot_be_read(tmp_path):
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(Misconfigured, match=re.escape(str(path))):
            load({}, path)
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(Misconfigured, match=r"latin\.toml"):
        load({}, tmp_path / "latin.toml")


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://x.example"]
)
def test_plain_http_is_for_this_machine_only(base_url):
    assert load({"ZAI_API_KEY": "a.1", "ZAI_BASE_URL": base_url}).upstreams[0].base_url == base_url


def test_no_secret_shows_itself(tmp_path):
    environ = {
        "ZHIPUAI_API_KEY": "id.s3cret",
        "REDIS_URL": "redis://:s3cret@h",
        "DATABASE_URL": "postgresql://u:s3cret@h/d",
        "GLM_GATEWAY_SECRET_KEY": "s3cret",
    }
    settings = load(environ)
    shown = f"{settings!r} {settings} {settings.secret_key} {settings.redis.url!s} {settings.upstreams[0]!r}"
    assert "s3cret" not in shown
    assert "***" in shown
    assert settings.redis.url.reveal() == "redis://:s3cret@h"
    assert not load({}).secret_key
    with pytest.raises(Misconfigured) as failure:
        load({**environ, "PORT": "many"})
    assert "s3cret" not in str(failure.value)


HERE = ("http://127.0.0.1:1/x", "http://[::1]/", "http://localhost", "https://127.9.9.9")
ELSEWHERE = ("http://10.0.0.1", "https://z.ai", "", "http://localhost.example", "http://127.0.0.1.example")


@pytest.mark.parametrize("url", [*HERE, *ELSEWHERE])
def test_what_is_on_this_machine(url):
    assert is_loopback(url) is (url in HERE)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (None, "[[models", "TOML"),
        (None, "", "at least one model"),
        ('price = "0.10"\n', "", "price"),
        ('qualities = ["hd"]', 'qualities = ["4k"]', "4k"),
        ('default_size = "1280x1280"', 'default_size = "1281x1280"', "glm-image.*size"),
        ('model = "glm-image"', 'model = "glm-2"', "glm-2"),
        ("response_format =", "respons_format =", "respons_format"),
        ("[[aliases]]", "[[alias]]", "alias"),
    ],
)
def test_a_catalog_that_is_wrong(tmp_path, before, after, says):
    """Unknown names are errors here as well (design.md section 2, settings.py)."""
    text = builtin("models.toml").read_text("utf-8").replace(before, after) if before else after
    with pytest.raises(Misconfigured, match=says):
        load_catalog(write(tmp_path, text, "models.toml"))


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"GLM_GATEWAY_STORE__RETENTION": "259199"}, "store.retention"),
        ({"GLM_GATEWAY_STORE__RETENTION": "172799", "GLM_GATEWAY_CACHE__LIFETIME": "0"}, "store.retention"),
        ({"GLM_GATEWAY_STORE__URL_LIFE": "0"}, "store.url_life"),
        ({"GLM_GATEWAY_STORE__URL_LIFE": "inf"}, "store.url_life"),
        ({"GLM_GATEWAY_STORE__URL_LIFE": "432001"}, "store.retention"),
        ({"GLM_GATEWAY_CACHE__LIFETIME": "432001"}, "store.retention"),
        ({"GLM_GATEWAY_CACHE__LIFETIME": "-1"}, "cache.lifetime"),
        ({"GLM_GATEWAY_STORE__URLS": "both"}, "store.urls"),
        *(
            ({"GLM_GATEWAY_STORE__URL": url}, "store.url")
            for url in (
                "pictures",
                "/srv/pictures",
                "file://srv/pictures",
                "file:",
                "s3://",
                "s3:///a",
                "gs://b",
                "[",
                "s3://[",
            )
        ),
        *(
            ({"GLM_GATEWAY_SERVER__PUBLIC_URL": url}, "server.public_url")
            for url in ("example.com", "ftp://example.com", "https://", "https://example.com/?a=b", "https://[")
        ),
    ],
    ids=str,
)
def test_a_store_that_would_break_a_promise_is_refused(environ, says):
    with pytest.raises(Misconfigured, match=re.escape(says)):
        load(environ)


def test_a_store_that_keeps_its_promises_just_so_is_taken():
    assert load({"GLM_GATEWAY_STORE__RETENTION": "259200"}).store.retention == 259_200
    forgetful = {"GLM_GATEWAY_STORE__RETENTION": "172800", "GLM_GATEWAY_CACHE__LIFETIME": "0"}
    assert load(forgetful).store.retention == 172_800
    assert load({"GLM_GATEWAY_STORE__URL": "file:///srv/pictures"}).store.url == "file:///srv/pictures"
