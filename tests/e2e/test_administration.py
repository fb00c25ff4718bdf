"""The operator's commands beside running gateways: what they change is felt within a second."""

import json
import os
import secrets
import time
from contextlib import ExitStack, contextmanager

import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests import postgres_servers, servers
from tests.servers import ADMIN_KEY, environment, glm_gateway, http, wait_until

FELT_SECONDS = 1.0
LIMITS = (
    "requests_per_minute",
    "images_per_minute",
    "images_per_day",
    "images_per_month",
    "concurrent",
    "spend_per_month",
)


class Operator:
    """Runs commands in one environment, inside this process: a process for each takes a second to start."""

    def __init__(self, env):
        self.env = env

    def run(self, *words):
        env = {**dict.fromkeys(os.environ), **self.env}
        result = CliRunner().invoke(main, words, env=env)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        return result

    def ok(self, *words):
        result = self.run(*words)
        assert result.exit_code == 0, result.stderr
        return result.stdout.strip()

    def json(self, *words):
        return json.loads(self.ok(*words, "--json"))

    def new_key(self, *words, name=None):
        return self.json("keys", "create", "--name", name or secrets.token_hex(8), *words)

    def refused(self, *words):
        """The sentence of a command that is refused."""
        result = self.run(*words)
        assert result.exit_code == 2, result.stderr
        [line] = result.stderr.splitlines()
        assert line.startswith("Error: ")
        assert result.stdout == ""
        return line


@pytest.fixture(params=["sqlite", "postgresql"])
def operator(request, tmp_path):
    """The commands without any gateway."""
    with ExitStack() as stack:
        env = environment(GLM_GATEWAY_DATA_DIR=str(tmp_path / "data"))
        if request.param == "postgresql":
            url = stack.enter_context(postgres_servers.postgres_server(tmp_path))
            env |= {"DATABASE_URL": url, "GLM_GATEWAY_SECRET_KEY": "a secret"}
        yield Operator(env)


@contextmanager
def two_gateways(tmp_path, simulator, **env):
    """Two gateways on one Redis and one database, and the operator of both."""
    shared = {"DATABASE_URL": f"sqlite:///{tmp_path}/shared.db", "GLM_GATEWAY_SECRET_KEY": "a secret"}
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        servers.redis_server(tmp_path) as (redis_url, _),
        servers.gateway(tmp_path / "one", simulator, REDIS_URL=redis_url, **shared, **env) as one,
        servers.gateway(tmp_path / "two", simulator, REDIS_URL=redis_url, **shared, **env) as two,
    ):
        yield (one, two), Operator(one.env)


@pytest.fixture(scope="module")
def shared_pair(tmp_path_factory, shared_simulator):
    with two_gateways(tmp_path_factory.mktemp("pair"), shared_simulator) as running:
        yield running


@pytest.fixture
def pair(simulator, shared_pair):
    """Two gateways in front of the healthy simulator, and the operator; keys of other tests are there."""
    return shared_pair


def status_of(gateway, secret, **headers):
    return http("GET", f"{gateway.url}/v1/models", headers={"Authorization": f"Bearer {secret}", **headers})[0]


def felt(gateways, secret, status):
    """Wait until every gateway answers so; the command that changed it has ended just now."""
    deadline = time.monotonic() + FELT_SECONDS
    while {status_of(gateway, secret) for gateway in gateways} != {status}:
        assert time.monotonic() < deadline, f"not {status} within {FELT_SECONDS} s"


def error_of(answer):
    status, _, content = answer
    error = json.loads(content)["error"]
    return status, error["type"], error["code"]


class TestCommands:
    def test_projects(self, operator):
        made = operator.json(
            "projects", "create", "--name", "设计", "--images-per-day", "100", "--spend-per-month", "12.5"
        )
        assert made["limits"] == {
            **dict.fromkeys(LIMITS),
            "images_per_day": 100,
            "spend_per_month": "12.50",
            "shadow": False,
        }
        assert operator.json("projects", "show", "设计") == operator.json("projects", "show", made["id"]) == made
        changed = operator.json(
            "projects", "limits", "设计", "--images-per-day", "none", "--concurrent", "0", "--shadow"
        )
        assert changed["limits"] == {**made["limits"], "images_per_day": None, "concurrent": 0, "shadow": True}
        assert made["weight"] == 1
        assert operator.json("projects", "limits", "设计", "--weight", "7")["weight"] == 7
        assert operator.json("projects", "limits", "设计", "--weight", "none")["weight"] == 1
        assert made["markup"] == "1"
        assert operator.json("projects", "limits", "设计", "--markup", "1.250")["markup"] == "1.25"
        assert operator.json("projects", "limits", "设计", "--markup", "100")["markup"] == "100"
        assert operator.json("projects", "limits", "设计", "--markup", "none")["markup"] == "1"
        assert [project["name"] for project in operator.json("projects", "list")] == ["default", "设计"]
        operator.ok("projects", "archive", "设计")
        assert operator.json("projects", "show", "设计")["archived_at"]
        table = operator.ok("projects", "list")
        assert "archived" in table
        assert "concurrent=0" in table

    def test_keys(self, operator):
        operator.ok("projects", "create", "--name", "design")
        words = ["--images-per-minute", "5", "--expires", "30d", "--models", "dall-e-3", "--ips", "10.0.0.0/8"]
        made = operator.new_key("--project", "design", *words, "--cache", "off", "--unwatermarked", name="n8n")
        assert made["key"].startswith("sk-glm-")
        assert (made["name"], made["project"], made["state"]) == ("n8n", "design", "active")
        assert (made["models"], made["ips"]) == (["glm-image"], ["10.0.0.0/8"])
        assert (made["cache"], made["unwatermarked"]) == ("off", True)
        shown = {name: value for name, value in made.items() if name != "key"}
        assert operator.json("keys", "show", made["id"]) == shown
        changed = operator.json("keys", "limits", made["id"], "--images-per-minute", "none", "--expires", "none")
        assert changed == {**shown, "expires_at": None, "limits": {**shown["limits"], "images_per_minute": None}}
        rotated = operator.json("keys", "rotate", made["id"], "--overlap", "1h")
        assert rotated["key"] != made["key"]
        assert rotated["old_secret_until"]
        assert operator.json("keys", "list") == operator.json("keys", "list", "--project", "design")
        assert operator.json("keys", "list", "--project", "default") == []
        operator.ok("keys", "revoke", made["id"])
        assert operator.json("keys", "show", made["id"])["state"] == "revoked"
        for table in (operator.ok("keys", "list"), operator.ok("keys", "show", made["id"])):
            assert "revoked" in table
            assert made["key"] not in table

    def test_a_disabled_key_says_so_until_it_is_enabled(self, operator):
        key = operator.new_key()["id"]
        operator.ok("keys", "disable", key)
        disabled = operator.json("keys", "show", key)
        assert disabled["state"] == "disabled"
        assert disabled["disabled_at"]
        operator.ok("keys", "disable", key)
        assert operator.json("keys", "show", key) == disabled
        for table in (operator.ok("keys", "list"), operator.ok("keys", "show", key)):
            assert "disabled" in table
        operator.ok("keys", "enable", key)
        operator.ok("keys", "enable", key)
        assert operator.json("keys", "show", key) == {**disabled, "state": "active", "disabled_at": None}

    def test_metadata_is_replaced_as_a_whole(self, operator):
        made = operator.new_key("--metadata", "team=design", "--metadata", "note=a=b, 设计", "--metadata", "empty=")
        assert made["metadata"] == {"team": "design", "note": "a=b, 设计", "empty": ""}
        assert operator.json("keys", "limits", made["id"], "--concurrent", "1")["metadata"] == made["metadata"]
        assert "team=design" in operator.ok("keys", "show", made["id"])
        changed = operator.json("keys", "limits", made["id"], "--metadata", "team=web")
        assert (changed["metadata"], changed["limits"]["concurrent"]) == ({"team": "web"}, 1)
        assert operator.json("keys", "limits", made["id"], "--metadata", "none")["metadata"] == {}

    def test_keys_and_projects_are_renamed(self, operator):
        project = operator.json("projects", "create", "--name", "design")
        key = operator.new_key("--project", "design", name="n8n")
        assert operator.json("projects", "rename", "design", "web") == {**project, "name": "web"}
        renamed = operator.json("keys", "rename", key["id"], "open webui")
        assert (renamed["name"], renamed["project"], renamed["project_id"]) == ("open webui", "web", project["id"])
        operator.new_key("--project", "web", name="n8n")

    def test_an_archived_project_can_be_taken_back(self, operator):
        project = operator.json("projects", "create", "--name", "design")
        key = operator.new_key("--project", "design")
        operator.ok("projects", "archive", "design")
        assert operator.json("keys", "show", key["id"])["state"] == "archived"
        operator.ok("projects", "unarchive", "design")
        assert operator.json("projects", "show", "design") == project
        assert operator.json("keys", "show", key["id"])["state"] == "active"

    def test_the_bare_secret_is_alone_on_standard_output(self, operator):
        made = operator.run("keys", "create", "--name", "n8n")
        assert made.stdout.startswith("sk-glm-")
        assert len(made.stdout.split()) == 1
        key_id = made.stderr.split()[1]
        rotated = operator.run("keys", "rotate", key_id, "--overlap", "0")
        assert len(rotated.stdout.split()) == 1
        assert rotated.stdout != made.stdout

    def test_what_is_wrong_is_one_sentence_and_nothing_is_written(self, operator):
        key = operator.new_key(name="n8n")["id"]
        operator.ok("projects", "create", "--name", "design")
        operator.ok("projects", "create", "--name", "old")
        operator.ok("projects", "archive", "old")
        other, revoked = operator.new_key(name="other")["id"], operator.new_key(name="revoked")["id"]
        operator.ok("keys", "revoke", revoked)
        pairs = [word for number in range(17) for word in ("--metadata", f"{number}=x")]
        before = operator.json("keys", "list"), operator.json("projects", "list")
        wrong = {
            ("keys", "create", "--name", "n8n"): "named 'n8n'",
            ("keys", "create", "--name", "x", "--project", "nobody"): "no project 'nobody'",
            ("keys", "create", "--name", "x", "--project", "old"): "archived",
            ("keys", "create", "--name", "x", "--images-per-day", "-1"): "Images per day",
            ("keys", "create", "--name", "x", "--spend-per-month", "0.0000001"): "6 decimals",
            ("keys", "create", "--name", "x", "--expires", "soon"): "30d",
            ("keys", "limits", key, "--concurrent", "1.5"): "Concurrent",
            ("keys", "limits", key, "--spend-per-month", "NaN"): "amount of money",
            ("keys", "limits", key, "--models", "gpt-9"): "gpt-9",
            ("keys", "limits", key, "--ips", "10.0.0.1/8"): "10.0.0.1/8",
            ("keys", "limits", key, "--cache", "all"): "cache scope",
            ("keys", "rotate", key, "--overlap", "-1h"): "-1h",
            ("keys", "show", "nobody"): "no key",
            ("keys", "rotate", "nobody"): "no key",
            ("projects", "create", "--name", "design"): "named 'design'",
            ("projects", "create", "--name", "proj_x"): "look like an id",
            ("projects", "limits", "design", "--requests-per-minute", "many"): "Requests per minute",
            ("projects", "limits", "design", "--weight", "0"): "from 1 to 100",
            ("projects", "limits", "design", "--weight", "101"): "from 1 to 100",
            ("projects", "limits", "design", "--weight", "1.5"): "from 1 to 100",
            ("projects", "limits", "design", "--markup", "100.1"): "from 0 to 100",
            ("projects", "limits", "design", "--markup", "-1"): "from 0 to 100",
            ("projects", "limits", "design", "--markup", "1.2345678"): "at most 6 decimals",
            ("projects", "archive", "default"): "cannot be archived",
            ("keys", "create", "--name", "x", "--metadata", "team"): "name=value",
            ("keys", "create", "--name", "x", "--metadata", "=design"): "64",
            ("keys", "create", "--name", "x", "--metadata", "a=1", "--metadata", "a=2"): "twice",
            ("keys", "create", "--name", "x", *pairs): "16",
            ("keys", "limits", key, "--metadata", "x" * 65 + "=1"): "64",
            ("keys", "limits", key, "--metadata", "a=" + "x" * 513): "512",
            ("keys", "limits", key, "--metadata", "a=1", "--metadata", "none"): "name=value",
            ("keys", "create", "--name", "x", "--project", ""): "--project is empty",
            ("keys", "list", "--project", ""): "--project is empty",
            ("keys", "list", "--project", " "): "--project is empty",
            ("keys", "create", "--name", ""): "--name is empty",
            ("keys", "create", "--name", "x", "--expires", ""): "--expires is empty",
            ("keys", "create", "--name", "x", "--metadata", ""): "--metadata is empty",
            ("keys", "limits", key, "--models", ""): "--models is empty",
            ("keys", "limits", key, "--ips", ""): "--ips is empty",
            ("keys", "limits", key, "--cache", ""): "--cache is empty",
            ("keys", "limits", key, "--images-per-day", ""): "--images-per-day is empty",
            ("keys", "rotate", key, "--overlap", ""): "--overlap is empty",
            ("serve", "--host", ""): "--host is empty",
            ("simulate", "--host", ""): "--host is empty",
            ("keys", "disable", "nobody"): "no key",
            ("keys", "enable", "nobody"): "no key",
            ("keys", "disable", revoked): "revoked",
            ("keys", "enable", revoked): "revoked",
            ("keys", "rename", "nobody", "x"): "no key",
            ("keys", "rename", key, ""): "name of 1 to 100",
            ("keys", "rename", other, "n8n"): "named 'n8n'",
            ("projects", "rename", "old", "design"): "named 'design'",
            ("projects", "rename", "design", "proj_x"): "look like an id",
            ("projects", "rename", "default", "x"): "cannot be renamed",
            ("projects", "unarchive", "nobody"): "no project",
        }
        for words, says in wrong.items():
            assert says in operator.refused(*words), words
        assert (operator.json("keys", "list"), operator.json("projects", "list")) == before

    def test_migrate_is_repeatable_and_starts_nothing(self, operator, tmp_path):
        operator.ok("migrate")
        operator.ok("migrate")
        operator.new_key()
        assert not (tmp_path / "data" / "redis").exists()


class TestBesideGateways:
    def test_a_new_key_opens_at_once(self, pair):
        gateways, operator = pair
        key = operator.new_key()
        felt(gateways, key["key"], 200)

    def test_revoked_expired_and_archived_keys_are_refused_by_both(self, pair):
        gateways, operator = pair
        operator.ok("projects", "create", "--name", "design")
        for words in (("keys", "revoke"), ("keys", "limits", "--expires", "1s")):
            key = operator.new_key()
            felt(gateways, key["key"], 200)
            operator.ok(*words[:2], key["id"], *words[2:])
            if "--expires" in words:
                time.sleep(1.0)
            felt(gateways, key["key"], 401)
        key = operator.new_key("--project", "design")
        felt(gateways, key["key"], 200)
        operator.ok("projects", "archive", "design")
        felt(gateways, key["key"], 401)
        said = json.loads(http("GET", f"{gateways[0].url}/v1/models", headers={"api-key": key["key"]})[2])
        assert "archived" in said["error"]["message"]
        assert said["error"]["code"] == "invalid_api_key"

    def test_a_disabled_key_is_refused_by_both_until_it_is_enabled(self, pair):
        gateways, operator = pair
        key = operator.new_key()
        felt(gateways, key["key"], 200)
        operator.ok("keys", "disable", key["id"])
        felt(gateways, key["key"], 401)
        for gateway in gateways:
            refused = gateway.post({"prompt": "x"}, key=key["key"])
            assert error_of(refused) == (401, "invalid_request_error", "invalid_api_key")
            assert "is disabled" in json.loads(refused[2])["error"]["message"]
        operator.ok("keys", "enable", key["id"])
        felt(gateways, key["key"], 200)

    def test_keys_of_a_project_that_is_taken_back_open_again(self, pair):
        gateways, operator = pair
        operator.ok("projects", "create", "--name", "taken back")
        key = operator.new_key("--project", "taken back")
        operator.ok("projects", "archive", "taken back")
        felt(gateways, key["key"], 401)
        operator.ok("projects", "unarchive", "taken back")
        felt(gateways, key["key"], 200)

    def test_rotation_lets_both_secrets_live_for_the_overlap(self, pair):
        gateways, operator = pair
        key = operator.new_key()
        felt(gateways, key["key"], 200)
        rotated = operator.json("keys", "rotate", key["id"], "--overlap", "3s")
        felt(gateways, rotated["key"], 200)
        felt(gateways, key["key"], 200)
        time.sleep(3.0)
        felt(gateways, key["key"], 401)
        at_once = operator.json("keys", "rotate", key["id"], "--overlap", "0")
        felt(gateways, rotated["key"], 401)
        felt(gateways, at_once["key"], 200)

    def test_models_that_are_not_allowed(self, pair):
        (one, two), operator = pair
        operator.ok("projects", "create", "--name", "models")
        key = operator.new_key("--models", "cogview-4", "--project", "models")
        assert error_of(one.post({"prompt": "x"}, key=key["key"])) == (403, "invalid_request_error", "model_not_found")
        assert one.post({"prompt": "x", "model": "cogview-4"}, key=key["key"])[0] == 200
        bearer = {"Authorization": f"Bearer {key['key']}"}
        listed = json.loads(http("GET", f"{one.url}/v1/models", headers=bearer)[2])
        assert [model["id"] for model in listed["data"]] == ["cogview-4"]
        assert http("GET", f"{one.url}/v1/models/cogview-4", headers=bearer)[0] == 200
        assert error_of(http("GET", f"{two.url}/v1/models/dall-e-3", headers=bearer)) == (
            *(404, "invalid_request_error"),
            "model_not_found",
        )
        operator.ok("keys", "limits", key["id"], "--models", "none")
        time.sleep(0.5)
        assert two.post({"prompt": "x"}, key=key["key"])[0] == 200
        operator.ok("projects", "limits", "models", "--models", "cogview-4")
        time.sleep(0.5)
        assert two.post({"prompt": "x"}, key=key["key"])[0] == 403

    def test_unwatermarked_pictures_by_key(self, pair):
        (one, _), operator = pair
        body = {"prompt": "x", "watermark_enabled": False}
        assert one.post(body, key=operator.new_key()["key"])[0] == 400
        assert one.post(body, key=operator.new_key("--unwatermarked")["key"])[0] == 200

    def test_without_trusted_proxies_only_the_peer_counts(self, pair):
        (one, _), operator = pair
        key = operator.new_key("--ips", "192.0.2.0/24")
        refused = one.post({"prompt": "x"}, key=key["key"], X_Forwarded_For="192.0.2.7")
        assert error_of(refused) == (403, "request_forbidden", "ip_not_authorized")
        assert b"127.0.0.1" in refused[2]
        assert status_of(one, operator.new_key("--ips", "127.0.0.1")["key"]) == 200

    @pytest.mark.parametrize("of", ["project", "key"])
    def test_a_limit_that_one_gateway_is_told_holds_on_both(self, pair, of):
        gateways, operator = pair
        key = operator.new_key("--project", operator.json("projects", "create", "--name", secrets.token_hex(8))["id"])
        place = f"projects/{key['project_id']}" + (f"/api_keys/{key['id']}" if of == "key" else "")

        def statuses():
            return [gateway.post({"prompt": "a fox", "size": "512x512"}, key=key["key"])[0] for gateway in gateways]

        assert statuses() == [200, 200]
        for limit, expected in ((0, [429, 429]), (None, [200, 200])):
            admin = {"Authorization": f"Bearer {ADMIN_KEY}"}
            url = f"{gateways[0].base_url}/organization/{place}/limits"
            assert http("POST", url, body={"images_per_day": limit}, headers=admin)[0] == 200
            wait_until(lambda expected=expected: statuses() == expected, 10, "the limit on both gateways")

    def test_a_command_says_so_when_gateways_cannot_be_told(self, pair):
        _, operator = pair
        key = operator.new_key()
        alone = Operator({**operator.env, "REDIS_URL": "redis://127.0.0.1:1/0"}).run("keys", "revoke", key["id"])
        assert alone.exit_code == 0
        assert "within 30 seconds" in alone.stderr
        assert operator.json("keys", "show", key["id"])["state"] == "revoked"


def test_beside_the_embedded_server_a_change_is_felt_too(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator) as running:
        operator = Operator(running.env)
        key = operator.new_key()
        felt([running], key["key"], 200)
        operator.ok("keys", "revoke", key["id"])
        felt([running], key["key"], 401)
        used = operator.new_key()
        felt([running], used["key"], 200)
    assert operator.json("keys", "show", used["id"])["last_used_at"]  # written at the latest when the gateway ends
    assert operator.json("keys", "show", key["id"])["last_used_at"]


def test_trusted_proxies_say_whose_address_it_is(tmp_path, simulator):
    trusted = "127.0.0.0/8,10.0.0.0/8"
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_SERVER__TRUSTED_PROXIES=trusted) as running:
        key = Operator(running.env).new_key("--ips", "192.0.2.0/24")["key"]
        header = "X-Forwarded-For"
        assert status_of(running, key, **{header: "192.0.2.7"}) == 200
        assert status_of(running, key, **{header: "198.51.100.1, 192.0.2.7, 10.0.0.1"}) == 200
        assert status_of(running, key, **{header: "192.0.2.7, 198.51.100.1"}) == 403
        assert status_of(running, key, **{header: "192.0.2.7, rubbish"}) == 403
        assert status_of(running, key) == 403


def test_a_wrong_trusted_proxy_is_one_clear_sentence(tmp_path):
    env = environment(GLM_GATEWAY_DATA_DIR=str(tmp_path), GLM_GATEWAY_SERVER__TRUSTED_PROXIES="10.0.0.1/8")
    result = glm_gateway("keys", "list", env=env)
    assert result.returncode == 1
    assert "server.trusted_proxies" in result.stderr


def test_replicas_that_disagree_about_the_secret_do_not_start(tmp_path, simulator):
    with servers.gateway(tmp_path, simulator, GLM_GATEWAY_SECRET_KEY="old") as running:
        for words in (("serve", "--port", "0"), ("keys", "list")):
            other = glm_gateway(*words, env={**running.env, "GLM_GATEWAY_SECRET_KEY": "another"})
            assert other.returncode == 1
            assert "GLM_GATEWAY_SECRET_KEY" in other.stderr.splitlines()[-1]
            assert "Traceback" not in other.stderr
    rotated = {**running.env, "GLM_GATEWAY_SECRET_KEY": "new,old"}
    process = servers.Process(["serve"], rotated, tmp_path / "again.log")
    with servers.running(process, f"{running.url}/readyz"):
        assert running.post({"prompt": "x"})[0] == 200  # a key of the old secret
    newer = glm_gateway("keys", "list", env={**running.env, "GLM_GATEWAY_SECRET_KEY": "new"})
    assert newer.returncode == 0
    older = glm_gateway("keys", "list", env={**running.env, "GLM_GATEWAY_SECRET_KEY": "old"})
    assert older.returncode == 1


def test_a_database_in_memory_is_refused(tmp_path):
    """What a command writes there would be gone with it."""
    for url in ("sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite:///file::memory:?uri=true"):
        env = environment(GLM_GATEWAY_DATA_DIR=str(tmp_path), DATABASE_URL=url)
        result = glm_gateway("keys", "create", "--name", "x", env=env)
        assert result.returncode == 1, result.stdout
        assert "in memory" in result.stderr
        assert len(result.stderr.splitlines()) == 1
