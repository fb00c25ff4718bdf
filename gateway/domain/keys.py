"""Form, checksum and digest of the gateway's own keys: `sk-glm-<id><random><checksum>` in base 62."""

import hashlib
import hmac
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from gateway.domain.addresses import Networks
from gateway.domain.errors import ModelNotAllowed
from gateway.domain.projects import NO_MARKUP, UNLIMITED, Project
from gateway.domain.quota import Limits

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX = "sk-glm-"
ID_LENGTH = 12  # 71 bits: two keys do not meet
RANDOM_LENGTH = 32  # 190 bits
CHECKSUM_LENGTH = 6  # a CRC-32 in base 62
MASTERS = 16  # secrets of an installation at once, at the most

Access = Literal["active", "inactive"]  # whether a key has access to its project
CacheScope = Literal["key", "project", "shared", "off"]
KeyState = Literal["active", "revoked", "archived", "expired", "disabled"]

_FORM = re.compile(f"{PREFIX}([0-9A-Za-z]{{{ID_LENGTH}}})[0-9A-Za-z]{{{RANDOM_LENGTH + CHECKSUM_LENGTH}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key as it is kept: digests, never a secret. Times are UTC; no models, no ips: all are allowed.

    The previous digest opens until `previous_until`: a rotation lets both secrets live for a while. `account` is the
    service account whose further key it is; None: the key begins an account of its own. `digested_with` marks the
    installation's secret that `digest` was made with; None: it is not known.
    """

    id: str
    project: Project
    name: str
    prefix: str
    last_four: str
    digest: bytes
    created_at: datetime
    digested_with: str | None = None
    account: str | None = None
    previous_digest: bytes | None = None
    previous_until: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    disabled_at: datetime | None = None
    last_used_at: datetime | None = None
    limits: Limits = UNLIMITED
    models: tuple[str, ...] = ()
    ips: Networks = ()
    cache_scope: CacheScope | None = None
    unwatermarked_allowed: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)

    def state(self, now: datetime) -> KeyState:
        """Say whether the key opens, and what keeps it from doing so: of several reasons the most lasting one."""
        if self.revoked_at is not None:
            return "revoked"
        if self.project.archived_at is not None:
            return "archived"
        if self.expires_at is not None and now >= self.expires_at:
            return "expired"
        return "active" if self.disabled_at is None else "disabled"

    def digests(self, now: datetime) -> tuple[bytes, ...]:
        """Give the digests of the secrets that are the key's at a moment."""
        if self.previous_digest is None or self.previous_until is None or now >= self.previous_until:
            return (self.digest,)
        return (self.digest, self.previous_digest)

    @property
    def account_id(self) -> str:
        """The service account that it belongs to: an account has the id of its first key."""
        return self.account or self.id

    @property
    def redacted(self) -> str:
        """The form in which a key is shown after its creation."""
        return f"{self.prefix}...{self.last_four}"


@dataclass(frozen=True, slots=True)
class Digest:
    """What is stored of a secret, and the mark of the installation's secret that it was made with."""

    value: bytes
    made_with: str


@dataclass(frozen=True, slots=True)
class Renewal:
    """A key's digest that was made with an older secret of the installation, and the one that takes its place."""

    key_id: str
    old: bytes
    new: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is calling: the key that was presented, its project, and what both may do.

    `models` are the names that key and project both allow; None allows all. `project_weight` and `markup`
    are the project's.
    """

    project_id: str
    project_name: str
    key_id: str
    key_name: str
    project_limits: Limits = UNLIMITED
    key_limits: Limits = UNLIMITED
    models: frozenset[str] | None = None
    cache_scope: CacheScope | None = None
    unwatermarked_allowed: bool = False
    project_weight: int = 1
    markup: Decimal = NO_MARKUP

    def allows(self, model: str) -> bool:
        """Tell whether a model of the catalog may be used."""
        return self.models is None or model in self.models

    def require(self, model: str, asked: str) -> None:
        """Refuse a model that is not allowed, in the client's own word for it; ModelNotAllowed."""
        if not self.allows(model):
            raise ModelNotAllowed(
                f"Project `{self.project_name}` does not have access to model `{asked[:100]}` with this key. "
                "GET /v1/models lists those that it may use.",
                param="model",
            )


def caller_of(key: StoredKey) -> Caller:
    """Say what a key may do."""
    lists = [frozenset(models) for models in (key.models, key.project.models) if models]
    return Caller(
        project_id=key.project.id,
        project_name=key.project.name,
        key_id=key.id,
        key_name=key.name,
        project_limits=key.project.limits,
        key_limits=key.limits,
        models=frozenset.intersection(*lists) if lists else None,
        cache_scope=key.cache_scope,
        unwatermarked_allowed=key.unwatermarked_allowed,
        project_weight=key.project.weight,
        markup=key.project.markup,
    )


def compose(key_id: str, random: str, prefix: str = PREFIX) -> str:
    """Put a secret together out of its id (12) and its random part (32 characters of the alphabet)."""
    body = f"{prefix}{key_id}{random}"
    return body + _checksum(body)


def id_of(secret: str) -> str | None:
    """Give the id inside a secret; None when form or checksum are wrong, so that a typo costs no look-up."""
    match = _FORM.fullmatch(secret)
    if match is None:
        return None
    body, checksum = secret[:-CHECKSUM_LENGTH], secret[-CHECKSUM_LENGTH:]
    return match[1] if _checksum(body) == checksum else None


def digest(pepper: bytes, secret: str) -> bytes:
    """HMAC-SHA-256 of a secret: what is stored (design.md section 5)."""
    return hmac.digest(pepper, secret.encode(), "sha256")


def digest_of(pepper: bytes, secret: str) -> Digest:
    """Digest a secret, and say with what."""
    return Digest(digest(pepper, secret), mark_of(pepper))


def mark_of(pepper: bytes) -> str:
    """Give 16 hex digits by which one of the installation's secrets is told from others."""
    return derive(pepper, "mark").hex()[:16]


def derive(master: bytes, label: str) -> bytes:
    """Derive 32 bytes for one use from the installation's secret: HKDF-SHA-256 (RFC 5869), no salt, one block."""
    return hmac.digest(_extracted(master), label.encode() + b"\x01", "sha256")


@lru_cache(MASTERS)
def _extracted(master: bytes) -> bytes:
    return hmac.digest(bytes(hashlib.sha256().digest_size), master, "sha256")


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
