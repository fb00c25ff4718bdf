"""The commands of deploy/README.md, as far as they need neither a container engine nor a cluster."""

import json
import re
import shutil
import stat

import yaml

from tests.deploy.tools import DEPLOY, commands_of, of_kubernetes, run, succeed, tool
from tests.servers import environment

VALUES = yaml.safe_load((DEPLOY / "helm/glm-gateway/values.yaml").read_text("utf-8"))
TOLD = yaml.safe_load(re.search(r"# my-values.yaml\n(.*?)```", (DEPLOY / "README.md").read_text(), re.DOTALL)[1])


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_compose_finds_all_that_it_needs_and_its_owner_can_change_it(tmp_path):
    """A key is rotated by writing its file; containers read it under users of their own."""
    shutil.copytree(DEPLOY, tmp_path / "deploy", ignore=shutil.ignore_patterns("secrets", ".env"))
    folder = tmp_path / "deploy"
    succeed("bash", "-euc", commands_of("Compose")[0].partition("docker compose")[0], cwd=tmp_path, env=environment())
    code, said = run(tool("docker-compose"), "config", "--format", "json", cwd=folder, env=environment())
    assert code == 0, said
    config = json.loads(said)
    assert re.fullmatch("[0-9a-f]{64}", config["services"]["s3"]["environment"]["AWS_SECRET_ACCESS_KEY"])
    files = {secret["file"] for secret in config["secrets"].values()}
    assert files == {str(path) for path in (folder / "secrets").iterdir()}
    assert {mode(path) for path in (folder / "secrets").iterdir()} == {0o644}
    assert mode(folder / "secrets") == 0o700
    password = (folder / "secrets/postgres_password").read_text("utf-8")
    assert password in (folder / "secrets/database_url").read_text("utf-8")


def test_the_secret_of_the_chart_has_the_keys_that_it_reads(tmp_path):
    commands = commands_of("Kubernetes")[0].partition("helm upgrade")[0]
    commands = commands[commands.index("kubectl create") :]  # what comes before needs an engine
    asked = f'kubectl() {{ {of_kubernetes("kubectl")} "$@" --dry-run=client --output=json >> $MADE; echo , >> $MADE; }}'
    env = environment(TMPDIR=str(tmp_path), MADE=str(tmp_path / "made"))
    succeed("bash", "-euc", f"{asked}\n{commands}", cwd=tmp_path, env=env)
    text = (tmp_path / "made").read_text("utf-8")
    namespace, secret = json.loads(f"[{text.strip().removesuffix(',')}]")
    assert (namespace["kind"], namespace["metadata"]["name"]) == ("Namespace", "images")
    assert (secret["metadata"]["name"], secret["metadata"]["namespace"]) == (TOLD["secret"]["name"], "images")
    assert set(secret["data"]) == {*VALUES["secret"]["files"], *TOLD["secret"]["environment"]}
    assert [path.name for path in tmp_path.iterdir()] == ["made"], "no secret stays behind"
