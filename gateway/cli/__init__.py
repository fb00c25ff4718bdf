"""glm-gateway: the command line."""

import rich_click as click

from gateway import __version__
from gateway.cli.admin_keys import admin_keys
from gateway.cli.audit import audit
from gateway.cli.backup import backup
from gateway.cli.bench import bench
from gateway.cli.cache import cache
from gateway.cli.config import config
from gateway.cli.demo import demo
from gateway.cli.doctor import doctor
from gateway.cli.jobs import jobs
from gateway.cli.keys import keys
from gateway.cli.migrate import migrate
from gateway.cli.projects import projects
from gateway.cli.reconcile import reconcile
from gateway.cli.serve import serve
from gateway.cli.simulate import simulate
from gateway.cli.upstreams import upstreams
from gateway.cli.usage import usage
from gateway.cli.webhooks import webhooks


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="glm-gateway")
def main() -> None:
    """An OpenAI-compatible gateway to Zhipu's GLM-Image."""


_COMMANDS = (
    *(serve, demo, projects, keys, admin_keys, webhooks, audit, usage, reconcile, upstreams, jobs, cache, migrate),
    *(backup, config, doctor, simulate, bench),
)
for _command in _COMMANDS:
    main.add_command(_command)
