"""Admin keys: they open the administration API, and make no pictures."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

ADMIN_PREFIX = "sk-admin-"  # then, in one that is made here, id, random and checksum as in a project's key

AdminKeyState = Literal["active", "revoked", "expired"]

# The operator may choose the first one.
_FORM = re.compile(f"{ADMIN_PREFIX}[0-9A-Za-z_-]{{16,200}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminKey:
    """An admin key as it is kept: a digest, never a secret; `digested_with` as with project keys. Times are UTC."""

    id: str
    name: str
    prefix: str
    last_four: str
    digest: bytes
    created_at: datetime
    digested_with: str | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def state(self, now: datetime) -> AdminKeyState:
        """Say whether the key opens, and what keeps it from doing so."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "active"

    @property
    def redacted(self) -> str:
        """The form in which a key is shown after its creation."""
        return f"{self.prefix}...{self.last_four}"


def is_admin_secret(text: str) -> bool:
    """Tell whether a text has the form of an admin key; whether it is one, its digest tells."""
    return _FORM.fullmatch(text) is not None
