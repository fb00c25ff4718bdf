"""One release replaces another while clients ask: side by side on one Redis and one database, and with other keys.

The next release is a copy of this one that differs where releases may: its schema is a migration ahead, and its ledger
says more in each line.
"""

import asyncio
import shutil
import signal
import textwrap
from collections import deque
from contextlib import AsyncExitStack

import pytest
from openai import AsyncOpenAI

from gateway.adapters.redis.names import VERSION
from tests import servers
from tests.chaos.balancer import balancer
from tests.fleet import fleet

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]
LATENCY = 3.0  # longer than the SDK's two retries with a second before each
CALLS, PAUSE = 60, 0.15
MORE = {
    "gateway/domain/usage.py": ('account_costs: str = ""', 'of_the_next_release: str | None = "more"'),
    "gateway/adapters/sql/tables.py": (
        'sa.Column("prompt_hash", sa.String(64), nullable=False),',
        'sa.Column("of_the_next_release", sa.Text),',
    ),
}
AHEAD = """
import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("projects", "keys", "usage_events"):
        op.add_column(table, sa.Column("of_the_next_release", sa.Text))
    op.create_table("of_the_next_release", sa.Column("id", sa.Integer, primary_key=True))
"""


@pytest.fixture
def anyio_backend():
    """The clients' loop: httpx trips over connections that end while they are made on uvloop."""
    return "asyncio"


@pytest.fixture
def next_release(tmp_path):
    """The folder of a release that is a step ahead."""
    folder = tmp_path / "next"
    for name in ("gateway", "config"):
        shutil.copytree(servers.ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    versions = folder / "gateway/adapters/sql/migrations/versions"
    head = max(path.name[:4] for path in versions.glob("[0-9]*.py"))
    (versions / "9999_next.py").write_text(textwrap.dedent(AHEAD).format(head=head))
    for name, (line, more) in MORE.items():
        text = (folder / name).read_text("utf-8")
        assert text.count(line) == 1
        (folder / name).write_text(text.replace(line, f"{line}\n    {more}"), "utf-8")
    return folder


def replace(gateway, release):
    """Start another release in a gateway's place; it has ended."""
    gateway.process.release = release
    gateway.process.start()
    servers.wait_until(lambda: servers.answers(f"{gateway.url}/readyz"), 60, what=gateway.url)


async def ask_all(client, answers):
    async with asyncio.TaskGroup() as calls:
        for number in range(CALLS):
            calls.create_task(ask(client, f"number {number}", answers))
            await asyncio.sleep(PAUSE)


async def ask(client, prompt, answers):
    answers.append(await client.images.generate(prompt=prompt, size="512x512", response_format="url"))


async def roll(running, backends, release):
    """Take each gateway from the balancer, stop it, and put the new release in its place, as deploy/README.md says."""
    for gateway in running.gateways:
        backends.remove(gateway)
        gateway.process.popen.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(gateway.process.popen.wait, 60) == 0
        await asyncio.to_thread(replace, gateway, release)
        backends.append(gateway)


async def test_a_rolling_upgrade_under_load_loses_no_request(tmp_path, next_release):
    """Not in less time: its pictures take longer than clients try again by themselves."""
    async with AsyncExitStack() as stack:
        upstream = stack.enter_context(servers.simulator(tmp_path, latency=LATENCY))
        running = stack.enter_context(fleet(tmp_path, upstream, 2, GLM_GATEWAY_CACHE__SCOPE="project"))
        key_id, secret = running.key("--images-per-day", str(CALLS))
        backends, answers = deque(running.gateways), []
        address = await stack.enter_async_context(balancer(backends))
        client = await stack.enter_async_context(AsyncOpenAI(base_url=f"{address}/v1", api_key=secret))
        load = asyncio.create_task(ask_all(client, answers))
        migrated = await asyncio.to_thread(servers.glm_gateway, "migrate", env=running.env, release=next_release)
        assert migrated.returncode == 0, migrated.stderr
        await asyncio.to_thread(check_old_release_can_start, running.gateways[0])
        await roll(running, backends, next_release)
        await load
        assert len(answers) == CALLS == upstream.stats()["images"]
        last = await asyncio.to_thread(running.gateways[0].post, {"prompt": "one more", "size": "512x512"}, key=secret)
        assert last[0] == 429
        await asyncio.to_thread(servers.wait_until, lambda: running.charged(key_id) == CALLS, what="the ledger")


def check_old_release_can_start(gateway):
    """A replica that crashes between the migration and its turn comes back, and its commands work."""
    done = servers.glm_gateway("keys", "create", "--name", "between", env=gateway.env)
    assert done.returncode == 0, done.stderr


def test_a_release_with_other_keys_counts_on_from_the_ledger(tmp_path, simulator, next_release):
    """Where keys in Redis have another form, the old release has to end before the new one begins."""
    names = next_release / "gateway/adapters/redis/names.py"
    text = names.read_text("utf-8")
    assert f'VERSION = "{VERSION}"' in text
    names.write_text(text.replace(f'VERSION = "{VERSION}"', 'VERSION = "next"'), "utf-8")
    with fleet(tmp_path, simulator, 1) as running:
        [gateway] = running.gateways
        _, secret = running.key("--images-per-day", "2")
        assert gateway.post({"prompt": "one"}, key=secret)[0] == 200
        assert gateway.process.stop() == 0
        replace(gateway, next_release)
        assert [gateway.post({"prompt": "more"}, key=secret)[0] for _ in range(2)] == [200, 429]
