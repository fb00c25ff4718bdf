"""No secret of a client's, of the upstream's or of the installation's lies where an operator or a backup shows it."""

import psutil
import redis

from tests import servers
from tests.fleet import SECRET, fleet
from tests.receivers import ask_webhook


def found_in(places, needles):
    """Name every place that holds a needle."""
    return {place for place, content in places.items() for needle in needles if needle in content}


def redis_content(url):
    """Every key and value as bytes."""
    with redis.Redis.from_url(url) as client:
        content = [b"\n".join((key, client.dump(key) or b"")) for key in client.scan_iter()]
        streams = [repr(client.xrange(key)).encode() for key in client.scan_iter(_type="stream")]
    return b"\n".join(content + streams)


def everything(running):
    """What an operator can look at: logs, process lists, the database, Redis."""
    [gateway] = running.gateways
    processes = [psutil.Process(gateway.process.popen.pid), *psutil.Process(gateway.process.popen.pid).children()]
    files = [path for path in running.database.parent.rglob("*") if path.is_file() and path.name != "secret.key"]
    return {
        "the log": gateway.process.output().encode(),
        "the process list": "\n".join(word for process in processes for word in process.cmdline()).encode(),
        "Redis": redis_content(running.redis_url),
        **{str(path.name): path.read_bytes() for path in files},
    }


def test_no_secret_is_shown_anywhere(tmp_path, simulator):
    with fleet(tmp_path, simulator, 1, LOG_LEVEL="debug") as running:
        [gateway] = running.gateways
        key_id, secret = running.key("--images-per-day", "5")
        answers = [gateway.post({"prompt": "a fox", "user": "alice"}, key=secret)]
        answers.append(gateway.post({"prompt": "a fox"}, key=secret[:-1] + ("a" if secret[-1] != "a" else "b")))
        answers.append(gateway.post({"prompt": "a fox"}, key=servers.ADMIN_KEY))
        path = f"{gateway.url}/v1/organization/projects"
        admin_keys = (servers.ADMIN_KEY, f"{servers.ADMIN_KEY}x")
        answers += [servers.http("GET", path, headers={"Authorization": f"Bearer {key}"}) for key in admin_keys]
        webhook = ask_webhook(gateway, "POST", body={"url": "https://hooks.invalid/"})[1]["secret"]
        simulator.fault("wrong_key")
        answers.append(gateway.post({"prompt": "a fox"}, key=secret))
        simulator.reset()
        listed = servers.glm_gateway("keys", "show", key_id, env=running.env).stdout

        needles = [secret.encode(), secret[19:51].encode(), servers.UPSTREAM_KEY.encode(), SECRET.encode()]
        needles.append(servers.UPSTREAM_KEY.partition(".")[2].encode())
        needles.append(servers.ADMIN_KEY.encode())
        needles.append(webhook.removeprefix("whsec_").encode())
        places = everything(running)
        places["the answers"] = b"\n".join(f"{headers}".encode() + content for _, headers, content in answers)
        places["keys show"] = listed.encode()

        (tmp_path / "planted").write_bytes(b"left here: " + secret.encode())
        assert found_in(everything(running), needles) == {"planted"}
        assert found_in(places, needles) == set()
        assert [status for status, _, _ in answers] == [200, 401, 403, 200, 401, 503]
