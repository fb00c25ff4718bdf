"""Puts raw settings together from a file and the environment, and keeps what each of them came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

import msgspec

from gateway.domain.errors import Misconfigured
from gateway.settings.files import Section, read_toml
from gateway.settings.upstreams import BIGMODEL

Place = tuple[str, ...]  # sections and name; ("upstreams", "0", "name") for an account's
PREFIX = "GLM_GATEWAY_"
ZAI = "https://api.z.ai/api/paas/v4"
# Conventional names and the settings that they stand for.
CONVENTIONAL = {
    "HOST": ("server", "host"),
    "PORT": ("server", "port"),
    "LOG_LEVEL": ("log", "level"),
    "REDIS_URL": ("redis", "url"),
    "DATABASE_URL": ("database", "url"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("tracing", "endpoint"),
    "GLM_GATEWAY_DATA_DIR": ("data_dir",),
    "GLM_GATEWAY_SECRET_KEY": ("secret_key",),
    "GLM_GATEWAY_ADMIN_KEY": ("admin_key",),
}
_SECRETS = (
    *("REDIS_URL", "DATABASE_URL", "GLM_GATEWAY_SECRET_KEY", "GLM_GATEWAY_ADMIN_KEY", "ZHIPUAI_API_KEY"),
    "ZAI_API_KEY",
)
_NOT_SETTINGS = {"GLM_GATEWAY_CONFIG", *CONVENTIONAL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Raw settings as msgspec is to read them, and by place what gave them: a file's path or a variable's name."""

    raw: dict[str, Any]
    path: Path | None
    origins: dict[Place, str] = field(default_factory=dict)


def gather(environ: Mapping[str, str], config: Path | None, kind: type[Section]) -> Gathered:
    """Read file and environment; `kind` is what the raw settings will become.

    Raises:
        Misconfigured: a file is missing or malformed, or a name is that of a section.
    """
    named = environ.get("GLM_GATEWAY_CONFIG")
    path = config or (Path(named) if named else None)
    gathered = Gathered(raw=read_toml(path) if path else {}, path=path)
    gathered.origins.update((place, f"file {path}") for place in _places(gathered.raw))
    environ, files = _with_secret_files(environ)
    for name, value in environ.items():
        place = _place(name)
        if place and value:
            text = value.lower() if name == "LOG_LEVEL" else value
            _put(gathered.raw, place, _listed(kind, place, text), name)
            gathered.origins[place] = files.get(name, f"environment {name}")
    _put_accounts(gathered, environ, files)
    return gathered


def _places(raw: object, before: Place = ()) -> list[Place]:
    """Name every value of a table; lists of tables are counted through, other lists are values."""
    if isinstance(raw, dict):
        return [place for name, value in raw.items() for place in _places(value, (*before, name))]
    if before == ("upstreams",) and isinstance(raw, list):
        return [place for number, value in enumerate(raw) for place in _places(value, (*before, str(number)))]
    return [before]


def _with_secret_files(environ: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Replace each `<NAME>_FILE` of a secret by the file's content; gives also where those came from, by name."""
    known, files = dict(environ), {}
    for name in _SECRETS:
        path = known.pop(f"{name}_FILE", None)
        if path:
            try:
                known[name] = Path(path).read_text("utf-8").strip()
            except OSError as failure:
                raise Misconfigured(f"{name}_FILE: {path} cannot be read: {failure.strerror}.") from failure
            except UnicodeDecodeError as failure:
                raise Misconfigured(f"{name}_FILE: {path} is not text in UTF-8.") from failure
            files[name] = f"environment {name}_FILE, file {path}"
    return known, files


def _place(name: str) -> Place | None:
    """Say which setting an environment variable stands for; None when it is none of ours."""
    if name in CONVENTIONAL:
        return CONVENTIONAL[name]
    if name.startswith(PREFIX) and name not in _NOT_SETTINGS:
        return tuple(name.removeprefix(PREFIX).lower().split("__"))
    return None


def _put(raw: dict[str, Any], place: Place, value: object, source: str) -> None:
    *sections, name = place
    for section in sections:
        raw = raw.setdefault(section, {})
        if not isinstance(raw, dict):
            raise Misconfigured(f"{source} names a setting inside {section}, which is not a table of settings.")
    raw[name] = value


def _listed(kind: Any, place: Place, value: str) -> str | list[str]:  # noqa: ANN401 - a type of any setting
    """Split a comma list where the setting is a list."""
    for name in place:
        fields = {field.name: field.type for field in msgspec.structs.fields(kind)} if _is_section(kind) else {}
        kind = fields.get(name)
    return [part.strip() for part in value.split(",") if part.strip()] if get_origin(kind) is tuple else value


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)


def _put_accounts(gathered: Gathered, environ: Mapping[str, str], files: Mapping[str, str]) -> None:
    """Add an account for each key in ZHIPUAI_API_KEY and ZAI_API_KEY (comma lists)."""
    for family, base_url in (("ZHIPUAI", BIGMODEL), ("ZAI", ZAI)):
        names = {"api_key": "API_KEY", "base_url": "BASE_URL", "concurrency": "CONCURRENCY"}
        given = {name: environ.get(f"{family}_{word}") for name, word in names.items()}
        keys = [key.strip() for key in (given["api_key"] or "").split(",") if key.strip()]
        for number, key in enumerate(keys, 1):
            accounts = gathered.raw.setdefault("upstreams", [])
            if not isinstance(accounts, list):
                where = f"Settings from {gathered.path}"
                raise Misconfigured(f"{where}: upstreams has to be a list of tables, [[upstreams]].")
            place = ("upstreams", str(len(accounts)))
            origins = {name: f"environment {family}_{word}" for name, word in names.items() if given[name]}
            origins |= {"name": origins["api_key"], "api_key": files.get(f"{family}_API_KEY", origins["api_key"])}
            gathered.origins.update(((*place, name), origin) for name, origin in origins.items())
            account = {"name": f"{family.lower()}-{number}", "api_key": key, "base_url": given["base_url"] or base_url}
            accounts.append({**account, "concurrency": given["concurrency"] or 1})
