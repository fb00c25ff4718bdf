"""What `glm-gateway config` tells an operator: every setting, what gave it, and what is wrong with it."""

import json

import pytest

from tests.servers import UPSTREAM_KEY, environment, glm_gateway

FILE = """
[queue]
max_wait = 90

[database]
url = "sqlite:////tmp/secret-name.db"

[[upstreams]]
name = "main"
api_key_file = "{key_file}"
concurrency = {{ "glm-image" = 3 }}
"""


@pytest.fixture
def files(tmp_path):
    """A settings file, a file with an account's key and one with a secret; gives the environment that names them."""
    key_file, secret_file, config = tmp_path / "key", tmp_path / "secret", tmp_path / "gateway.toml"
    key_file.write_text(UPSTREAM_KEY)
    secret_file.write_text("a-secret-nobody-is-to-see")
    config.write_text(FILE.format(key_file=key_file))
    return environment(
        GLM_GATEWAY_CONFIG=str(config),
        GLM_GATEWAY_DATA_DIR=str(tmp_path / "data"),
        GLM_GATEWAY_SECRET_KEY_FILE=str(secret_file),
        GLM_GATEWAY_QUEUE__MAX_LENGTH="7",
        ZAI_API_KEY="a-key-of-z.ai-that-nobody-is-to-see",
    )


def test_show_says_each_value_and_where_it_comes_from(files, tmp_path):
    done = glm_gateway("config", "show", "--format", "json", env=files)
    assert done.returncode == 0, done.stderr
    shown = {line["setting"]: (line["value"], line["source"]) for line in json.loads(done.stdout)}
    config = f"file {tmp_path / 'gateway.toml'}"
    assert shown["server.port"] == (8000, "built-in")
    assert shown["queue.max_wait"] == (90.0, config)
    assert shown["queue.max_length"] == (7, "environment GLM_GATEWAY_QUEUE__MAX_LENGTH")
    assert shown["database.url"] == ("***", config)
    assert shown["redis.url"] == ("", "built-in")
    assert shown["secret_key"] == ("***", f"environment GLM_GATEWAY_SECRET_KEY_FILE, file {tmp_path / 'secret'}")
    assert shown["upstreams.main.concurrency"] == ({"glm-image": 3}, config)
    assert shown["upstreams.main.api_key"] == ("***", f"file {tmp_path / 'key'}")
    assert shown["upstreams.main.weight"] == (1, "built-in")
    assert shown["upstreams.zai-1.api_key"] == ("***", "environment ZAI_API_KEY")


@pytest.mark.parametrize("form", ["table", "json"])
def test_show_masks_every_secret(files, form):
    done = glm_gateway("config", "show", "--format", form, env=files)
    assert "queue.max_wait" in done.stdout
    for secret in (UPSTREAM_KEY, "nobody-is-to-see", "secret-name"):
        assert secret not in done.stdout + done.stderr


def test_check_says_what_would_be_served_and_makes_nothing(files, tmp_path):
    done = glm_gateway("config", "check", env=files)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Upstreams: main, zai-1. Models: glm-image, " in done.stdout
    assert not (tmp_path / "data").exists()


WRONG = {
    "an unknown name": ({"GLM_GATEWAY_QUEUE__MAX_WIDTH": "1"}, "max_width"),
    "a value out of range": ({"GLM_GATEWAY_QUEUE__MAX_JOBS": "0"}, "queue.max_jobs"),
    "no upstream": ({"GLM_GATEWAY_CONFIG": "", "ZAI_API_KEY": ""}, "No upstream key is set"),
    "a Redis URL that is none": ({"REDIS_URL": "http://somewhere"}, "REDIS_URL has to be"),
    "a database that is unknown": ({"DATABASE_URL": "mysql://somewhere"}, "DATABASE_URL names 'mysql'"),
    "a file of models that is not there": ({"GLM_GATEWAY_MODELS__FILE": "/nowhere.toml"}, "/nowhere.toml"),
}


@pytest.mark.parametrize(("changes", "says"), WRONG.values(), ids=WRONG)
def test_check_ends_with_1_and_one_sentence(files, changes, says):
    done = glm_gateway("config", "check", env=files | changes)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_check_misses_the_secret_that_postgresql_needs(files):
    env = files | {"DATABASE_URL": "postgresql://localhost/db", "GLM_GATEWAY_SECRET_KEY_FILE": ""}
    done = glm_gateway("config", "check", env=env)
    assert done.returncode == 1
    assert "GLM_GATEWAY_SECRET_KEY is required" in done.stderr


def test_keys_may_name_the_models_of_another_file(files, tmp_path):
    models = tmp_path / "models.toml"
    models.write_text(MODEL.format(name="glm-image-next"))
    env = files | {"GLM_GATEWAY_MODELS__FILE": str(models), "GLM_GATEWAY_CONFIG": ""}
    made = glm_gateway("keys", "create", "--name", "x", "--models", "glm-image-next", env=env)
    assert made.returncode == 0, made.stderr
    refused = glm_gateway("keys", "create", "--name", "y", "--models", "glm-image", env=env)
    assert refused.returncode == 2


MODEL = """
[[models]]
name = "{name}"
default_size = "1280x1280"
recommended_sizes = ["1280x1280"]
max_prompt = 1000
qualities = ["hd"]
price = "0.10"
created = 1767225600
[models.size]
min_side = 512
max_side = 2048
step = 32
max_pixels = 4194304
"""
