"""The Helm chart: what Helm and Kubernetes' own schemas say of it, and what it promises."""

import re

import pytest
import yaml

from gateway.settings import load
from tests.deploy.tools import DEPLOY, of_kubernetes, run, succeed, tool
from tests.servers import environment

README = DEPLOY / "README.md"
CHART = DEPLOY / "helm" / "glm-gateway"
KUBERNETES = ("1.31", "1.37")
LEAST = {"secret": {"name": "keys"}, "settings": {"GLM_GATEWAY_STORE__URL": "s3://pictures"}}
ALL = {
    **LEAST,
    "secret": {"name": "keys", "environment": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]},
    "config": '[[upstreams]]\nname = "main"\n',
    "drainSeconds": 300,
    "autoscaling": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "tls"},
    "persistence": {"enabled": False},
    "imagePullSecrets": [{"name": "pull"}],
    "podAnnotations": {"a": "b"},
    "nodeSelector": {"a": "b"},
    "tolerations": [{"key": "a", "operator": "Exists"}],
    "networkPolicy": {"clients": [{"podSelector": {}}]},
}
TOLD = yaml.safe_load(re.search(r"```yaml\n(# my-values.yaml\n.*?)```", README.read_text("utf-8"), re.DOTALL)[1])
VALUES = pytest.mark.parametrize("values", [LEAST, ALL, TOLD], ids=["least", "all", "as the README says"])


def template(folder, values):
    (folder / "values.yaml").write_text(yaml.safe_dump(values), "utf-8")
    return run(of_kubernetes("helm"), "template", "release", CHART, "-f", folder / "values.yaml", env=environment())


def rendered(folder, values):
    """Everything that the chart makes, by its kind."""
    code, said = template(folder, values)
    assert code == 0, said
    found = {}
    for one in yaml.safe_load_all(said):
        found.setdefault(one["kind"], []).append(one)
    return found


def pod(found):
    return found["StatefulSet"][0]["spec"]["template"]["spec"]


@VALUES
def test_helm_finds_nothing(tmp_path, values):
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values), "utf-8")
    said = succeed(of_kubernetes("helm"), "lint", "--strict", CHART, "-f", tmp_path / "values.yaml", env=environment())
    assert "0 chart(s) failed" in said
    assert "WARNING" not in said


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_takes_every_object(tmp_path, version):
    """The operator's ServiceMonitor is the one kind that is not Kubernetes' own."""
    found = [rendered(tmp_path, values) for values in (LEAST, ALL, TOLD)]
    objects = [one for made in found for kind, ones in made.items() if kind != "ServiceMonitor" for one in ones]
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump_all(objects), "utf-8")
    said = succeed(tool("kubernetes-validate"), "--strict", "-k", version, tmp_path / "objects.yaml", env=environment())
    assert said.count(" passed for resource ") == len(objects)


def test_kubernetes_would_have_refused_a_wrong_word(tmp_path):
    """The check itself works."""
    found = rendered(tmp_path, LEAST)
    found["StatefulSet"][0]["spec"]["replica"] = 2
    (tmp_path / "objects.yaml").write_text(yaml.safe_dump(found["StatefulSet"][0]), "utf-8")
    assert run(tool("kubernetes-validate"), "--strict", "-k", "1.35", tmp_path / "objects.yaml")[0] != 0


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({**LEAST, "secret": {"name": ""}}, "secret.name"),
        ({"secret": {"name": "keys"}}, "GLM_GATEWAY_STORE__URL"),
        ({**LEAST, "replica": 3}, "replica"),
    ],
)
def test_what_is_missing_or_unknown_is_named(tmp_path, values, named):
    code, said = template(tmp_path, values)
    assert code != 0
    assert named in said


@VALUES
def test_pods_live_longer_than_their_pictures(tmp_path, values):
    found = rendered(tmp_path, values)
    [gateway] = pod(found)["containers"]
    drain = next(one["value"] for one in gateway["env"] if one["name"] == "GLM_GATEWAY_SERVER__DRAIN_SECONDS")
    waits = gateway["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod(found)["terminationGracePeriodSeconds"] >= int(drain) + waits + 30


@VALUES
def test_pods_keep_to_the_restricted_standard(tmp_path, values):
    found = rendered(tmp_path, values)
    for spec in (pod(found), found["Job"][0]["spec"]["template"]["spec"]):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        [container] = spec["containers"]
        assert container["securityContext"] == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }


@VALUES
def test_the_gateway_takes_its_settings(tmp_path, values):
    """The Secret's keys lie in files elsewhere here."""
    [gateway] = pod(rendered(tmp_path, values))["containers"]
    secrets = {
        "ZHIPUAI_API_KEY": "id.secret",
        "GLM_GATEWAY_SECRET_KEY": "s" * 64,
        "GLM_GATEWAY_ADMIN_KEY": "sk-admin-0123456789abcdef",
        "REDIS_URL": "redis://redis",
        "DATABASE_URL": "postgresql://gateway@postgres/gateway",
    }
    for name, content in secrets.items():
        (tmp_path / name).write_text(content, "utf-8")
    env = {one["name"]: one.get("value", "from the secret") for one in gateway["env"]}
    env = {name: value.replace("/run/secrets/glm-gateway", str(tmp_path)) for name, value in env.items()}
    if "GLM_GATEWAY_CONFIG" in env:
        (tmp_path / "gateway.toml").write_text("[queue]\nmax_wait = 60\n", "utf-8")
        env["GLM_GATEWAY_CONFIG"] = str(tmp_path / "gateway.toml")
    settings = load(env)
    assert settings.database.url.reveal() == secrets["DATABASE_URL"]
    assert settings.server.drain_seconds == values.get("drainSeconds", 200)


def test_no_secret_is_part_of_the_chart(tmp_path):
    assert "Secret" not in rendered(tmp_path, ALL)


def test_the_schema_is_brought_up_to_date_before_pods_are_replaced(tmp_path):
    [job] = rendered(tmp_path, LEAST)["Job"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]


def test_replicas_follow_the_jobs_in_flight(tmp_path):
    found = rendered(tmp_path, ALL)
    [scaler] = found["HorizontalPodAutoscaler"]
    assert scaler["spec"]["metrics"][0]["pods"]["metric"]["name"] == "glm_gateway_jobs_in_flight"
    assert "replicas" not in found["StatefulSet"][0]["spec"]  # or an upgrade would set them back


@VALUES
def test_selectors_find_the_gateways_and_not_the_migration(tmp_path, values):
    found = rendered(tmp_path, values)
    ours = found["StatefulSet"][0]["spec"]["template"]["metadata"]["labels"].items()
    theirs = found["Job"][0]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [one["spec"]["selector"] for one in found["Service"]]
    for kind, name in (
        ("PodDisruptionBudget", "selector"),
        ("NetworkPolicy", "podSelector"),
        ("StatefulSet", "selector"),
    ):
        selectors.append(found[kind][0]["spec"][name]["matchLabels"])
    for selector in selectors:
        assert selector.items() <= ours
        assert not selector.items() <= theirs


def test_prometheus_finds_one_service(tmp_path):
    found = rendered(tmp_path, ALL)
    selector = found["ServiceMonitor"][0]["spec"]["selector"]["matchLabels"].items()
    assert len([one for one in found["Service"] if selector <= one["metadata"]["labels"].items()]) == 1
