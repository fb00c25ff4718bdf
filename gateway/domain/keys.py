"""Form, checksum and digest of the gateway's own keys: `sk-glm-<id><random><checksum>` in base 62."""

import hashlib
import hmac
import re
import zlib
from dataclasses import dataclass
from datetime import datetime

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
PREFIX = "sk-glm-"
ID_LENGTH = 12  # 71 bits: two keys do not meet
RANDOM_LENGTH = 32  # 190 bits
CHECKSUM_LENGTH = 6  # a CRC-32 in base 62

_FORM = re.compile(f"{PREFIX}([0-9A-Za-z]{{{ID_LENGTH}}})[0-9A-Za-z]{{{RANDOM_LENGTH + CHECKSUM_LENGTH}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who is calling: the key that was presented."""

    key_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """A key as it is kept: its digest, never its secret. Times are UTC."""

    id: str
    name: str
    prefix: str
    last_four: str
    digest: bytes
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def usable(self, now: datetime) -> bool:
        """Tell whether the key is neither revoked nor expired."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    @property
    def redacted(self) -> str:
        """The form in which a key is shown after its creation."""
        return f"{self.prefix}...{self.last_four}"


def compose(key_id: str, random: str) -> str:
    """Put a secret together out of its id (12) and its random part (32 characters of the alphabet)."""
    body = f"{PREFIX}{key_id}{random}"
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


def derive(master: bytes, label: str) -> bytes:
    """Derive 32 bytes for one use from the installation's secret: HKDF-SHA-256 (RFC 5869), no salt, one block."""
    extracted = hmac.digest(bytes(hashlib.sha256().digest_size), master, "sha256")
    return hmac.digest(extracted, label.encode() + b"\x01", "sha256")


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits
