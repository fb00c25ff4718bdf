"""Settings that change while gateways run: what is new holds at once, what was begun ends as it began."""

import json
import re
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import openai
import pytest

from tests import servers
from tests.fleet import Fleet
from tests.servers import environment, glm_gateway, wait_until
from tests.settings_files import Files, hang_up, key, reloads

SMALL = "512x512"
MY_IMAGE = '[[aliases]]\npattern = "my-image"\nmodel = "glm-image"\nlisted = ["my-image"]\n'


@pytest.fixture(scope="module")
def installed(tmp_path_factory, shared_simulator):
    """A gateway with a settings file, on a database that tests read."""
    folder = tmp_path_factory.mktemp("reload")
    files = Files(folder, shared_simulator).write("a")
    database = folder / "ledger.db"
    env = {**files.environment, "DATABASE_URL": f"sqlite:///{database}"}
    with servers.gateway(folder, shared_simulator, **env) as running:
        yield running, files, Fleet([running], "", database, None, {})


@pytest.fixture
def gateway(installed, simulator):
    """The gateway as it began: with the one account a."""
    running, files, _ = installed
    files.keys.clear()
    files.write("a")
    hang_up(running)
    running.unpark()
    return running


@pytest.fixture
def files(installed):
    return installed[1]


@pytest.fixture
def ledger(installed):
    return installed[2]


prompts = count()


def post(gateway, **body):
    return gateway.post({"prompt": f"picture {next(prompts)}", "size": SMALL, **body})


@contextmanager
def load(gateway, clients=6):
    """Ask for pictures without a pause while the block runs, as openai-python does without retries; gives what came."""
    told, stop = [], threading.Event()

    def ask():
        with openai.OpenAI(base_url=gateway.base_url, api_key=gateway.key, max_retries=0) as client:
            while not stop.is_set():
                raw = client.images.with_raw_response.generate(prompt=f"load {next(prompts)}", size=SMALL)
                told.append(raw.headers["x-glm-cost"])

    with ThreadPoolExecutor(clients) as pool:
        asking = [pool.submit(ask) for _ in range(clients)]
        try:
            yield told
        finally:
            stop.set()
    for one in asking:
        one.result()


def used(simulator):
    """How often each key was used, by its letter."""
    return Counter(call["headers"]["authorization"][0] for call in simulator.calls())


def test_under_a_load_accounts_come_and_go_and_prices_change_and_no_request_fails(gateway, files, simulator):
    offers = [(("a", "b"), "0.12"), (("b",), "0.14"), (("b", "c"), "0.16"), (("c",), "0.18")]
    with load(gateway) as told:
        for accounts, price in offers * 2:
            files.write(*accounts, price=price)
            hang_up(gateway)
            seen = len(told)
            wait_until(lambda seen=seen: len(told) >= seen + 12, what="pictures of this offer")
            assert told[-1] == f"{price} CNY"
    assert set(told) - {"0.10 CNY"} == {f"{price} CNY" for _, price in offers}
    assert set(used(simulator)) == {"a", "b", "c"}
    before = used(simulator)
    assert post(gateway)[0] == 200
    assert used(simulator) - before == {"c": 1}


def test_what_runs_ends_where_it_began_and_what_waits_goes_on_with_its_old_price(gateway, files, simulator, ledger):
    files.write("a", a={"concurrency": 1, "price": "0.02"})
    hang_up(gateway)
    simulator.fault("slow", seconds=3, times=1)
    with ThreadPoolExecutor(2) as clients:
        runs = clients.submit(post, gateway)
        wait_until(lambda: simulator.stats()["in_flight"] == 1, what="the call")
        waits = clients.submit(post, gateway, model="gpt-image-1")
        wait_until(lambda: "queued_pictures 1.0" in gateway.get("/metrics")[2].decode(), what="the queue")
        files.write("b", price="0.25", b={"price": "0.05"})
        hang_up(gateway)
        assert waits.result()[1]["x-glm-cost"] == "0.10 CNY", "it was reserved at that price"
        assert not runs.done(), "who waited did not wait for the account that is gone"
        assert runs.result()[1]["x-glm-cost"] == "0.10 CNY"
    later = post(gateway)
    assert later[1]["x-glm-cost"] == "0.25 CNY"
    jobs = [headers["x-request-id"] for _, headers, _ in (runs.result(), waits.result(), later)]
    wait_until(lambda: lines_of(ledger, gateway).keys() >= {*jobs}, what="the ledger")
    lines = lines_of(ledger, gateway)
    told = [("a", 100_000, 20_000, 0), ("b", 100_000, 50_000, 0), ("b", 250_000, 50_000, 0)]
    assert [lines[job] for job in jobs] == told


def lines_of(ledger, gateway):
    """The gateway's lines in the ledger by job: who made the picture, what its key is charged and what it cost."""
    columns = ("upstream_account", "price", "cost", "cost_uncertain")
    lines = ledger.lines(gateway.key.removeprefix("sk-glm-")[:12])
    return {line["event_id"]: tuple(line[column] for column in columns) for line in lines}


def test_a_key_is_replaced_under_a_load_and_no_client_sees_it(gateway, files, simulator):
    with load(gateway) as told:
        wait_until(lambda: len(told) > 10, what="pictures")
        files.rotate("a", key("d"))
        hang_up(gateway)
        simulator.fault("wrong_key", key_id=key("a").partition(".")[0])
        seen = len(told)
        wait_until(lambda: len(told) > seen + 20, what="pictures with the new key")
    assert used(simulator)["d"] >= 20
    assert post(gateway)[0] == 200


def test_an_account_whose_key_was_refused_is_used_again_with_another_key(gateway, files, simulator):
    simulator.fault("wrong_key", key_id=key("a").partition(".")[0])
    status, _, content = post(gateway)
    assert (status, json.loads(content)["error"]["code"]) == (503, "upstream_unavailable")
    files.rotate("a", key("e"))
    hang_up(gateway)
    assert post(gateway)[0] == 200
    assert used(simulator) == {"a": 1, "e": 1}
    wait_until(lambda: parked(gateway) == {"a": "0.0"}, what="the look at the queue")
    files.write("b")
    hang_up(gateway)
    assert "a" not in parked(gateway)
    wait_until(lambda: parked(gateway) == {"b": "0.0"}, what="the look at the queue")


def parked(gateway):
    """What metrics say of each account that makes glm-image."""
    said = r'^glm_gateway_upstream_parked{model="glm-image",upstream="(.+)"} (\S+)$'
    return dict(re.findall(said, gateway.get("/metrics")[2].decode(), re.MULTILINE))


def test_a_file_that_is_wrong_is_refused_and_the_old_one_stays(gateway, files):
    files.write("b", price="0.30", more="[queue]\nmax_wait = true\n")
    hang_up(gateway, "refused")
    assert post(gateway)[1]["x-glm-cost"] == "0.10 CNY"
    [told] = [line for line in gateway.process.output().splitlines() if "settings_refused" in line]
    said = json.loads(told)
    assert said["level"] == "error"
    assert str(files.config) in said["reason"]
    assert "$.queue.max_wait" in said["reason"]
    assert "config check" in said["advice"]
    metrics = gateway.get("/metrics")[2].decode()
    assert "glm_gateway_config_refused 1.0" in metrics
    files.write("b", price="0.30")
    hang_up(gateway)
    assert "glm_gateway_config_refused 0.0" in gateway.get("/metrics")[2].decode()
    assert post(gateway)[1]["x-glm-cost"] == "0.30 CNY"


@pytest.mark.parametrize("broken", ["[[upstreams", "models", "key"])
def test_whatever_file_is_broken_nothing_changes(gateway, files, broken):
    files.write("a", "b", price="0.40")
    place = {"models": files.folder / "models.toml", "key": files.folder / "b.key"}.get(broken, files.config)
    place.write_text("" if broken == "key" else "[[models")
    hang_up(gateway, "refused")
    assert str(place) in gateway.process.output().splitlines()[-1] + gateway.process.output()
    assert post(gateway)[1]["x-glm-cost"] == "0.10 CNY"


def test_a_setting_that_takes_a_restart_is_named_and_the_rest_is_in_place(gateway, files):
    files.write("a", price="0.50", more="[queue]\nmax_wait = 7\n[server]\npublic_url = 'https://images.example'\n")
    hang_up(gateway)
    said = json.loads([line for line in gateway.process.output().splitlines() if "settings_need_restart" in line][-1])
    assert (said["level"], said["settings"]) == ("warning", ["server.public_url", "queue.max_wait"])
    assert post(gateway)[1]["x-glm-cost"] == "0.50 CNY"


def test_new_aliases_and_models_are_listed_and_made_and_old_ones_are_gone(gateway, files):
    def listed():
        return {model["id"] for model in json.loads(gateway.get("/v1/models")[2])["data"]}

    assert post(gateway, model="my-image")[0] == 404
    assert "cogview-4" in listed()
    files.write("a", aliases=MY_IMAGE, a={"models": ["glm-image"]})
    hang_up(gateway)
    assert "my-image" in listed()
    assert "cogview-4" not in listed()
    assert post(gateway, model="my-image")[0] == 200
    assert post(gateway, model="cogview-4")[0] == 404
    files.write("a")
    hang_up(gateway)
    assert post(gateway, model="cogview-4")[0] == 200


def test_more_calls_at_once_are_felt_by_those_who_wait(gateway, files, simulator):
    files.write("a", a={"concurrency": 1})
    hang_up(gateway)
    simulator.fault("slow", seconds=2)
    with ThreadPoolExecutor(4) as clients:
        asking = [clients.submit(post, gateway) for _ in range(4)]
        wait_until(lambda: "queued_pictures 3.0" in gateway.get("/metrics")[2].decode(), what="the queue")
        assert simulator.stats()["max_in_flight"] == 1
        files.write("a", a={"concurrency": 4})
        hang_up(gateway)
        assert [one.result()[0] for one in asking] == [200] * 4
    assert simulator.stats()["max_in_flight"] == 4


@contextmanager
def replica(gateway, files, log):
    """Another gateway of the same installation, with settings of its own as on another machine."""
    port = servers.free_port()
    env, url = {**gateway.env, "PORT": str(port), **files.environment}, f"http://127.0.0.1:{port}"
    with servers.running(servers.Process(["serve"], env, log), f"{url}/readyz") as process:
        yield servers.Gateway(url, gateway.key, gateway.data_dir, env, process)


def test_the_command_reloads_all_replicas_and_says_who_refused(gateway, files, simulator, tmp_path):
    others = Files(tmp_path, simulator).write("a")
    with replica(gateway, others, tmp_path / "other.log") as other:
        files.write("a", price="0.20", more="[queue]\nmax_wait = 7\n")
        others.write("a", price="0.30")
        done = glm_gateway("config", "reload", env=gateway.env)
        assert (done.returncode, done.stdout) == (0, "2 of 2 gateways use the new settings.\n"), done.stderr
        assert done.stderr.count("has to be restarted for queue.max_wait.") == 1
        assert [post(one)[1]["x-glm-cost"] for one in (gateway, other)] == ["0.20 CNY", "0.30 CNY"]

        files.write("a", price="0.40")
        others.write("a", more="[queue]\nmax_wait = true\n")
        done = glm_gateway("config", "reload", env=gateway.env)
        assert (done.returncode, done.stdout) == (1, "1 of 2 gateways use the new settings.\n"), done.stderr
        assert f"goes on as before: Settings from {others.config}: Expected `float`" in done.stderr
        assert [post(one)[1]["x-glm-cost"] for one in (gateway, other)] == ["0.40 CNY", "0.30 CNY"]


def test_the_command_refuses_what_is_wrong_before_it_asks_anybody(gateway, files):
    files.write("a", price="0.20", a={"concurrency": 0})
    before = reloads(gateway, "refused")
    done = glm_gateway("config", "reload", env=gateway.env)
    assert (done.returncode, done.stderr) == (1, "Error: Upstream 'a': concurrency has to be at least 1.\n")
    assert reloads(gateway, "refused") == before


def test_the_command_says_that_no_gateway_runs(tmp_path, simulator):
    files = Files(tmp_path, simulator).write("a")
    env = environment(**files.environment, GLM_GATEWAY_DATA_DIR=str(tmp_path / "data"))
    done = glm_gateway("config", "reload", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (1, "No gateway runs.\n", "")
    assert not (tmp_path / "data").exists()
