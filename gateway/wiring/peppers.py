"""The installation's secrets, and what is derived from them."""

from dataclasses import dataclass

from gateway.adapters.system import own_secret
from gateway.domain.errors import Misconfigured
from gateway.domain.keys import derive, mark_of
from gateway.domain.webhooks import secret_text
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Peppers:
    """What is derived from the installation's secrets, the newest first: one use, one label."""

    masters: tuple[bytes, ...]

    @property
    def keys(self) -> tuple[bytes, ...]:
        """For the digests of keys."""
        return tuple(derive(master, "key-digest") for master in self.masters)

    @property
    def marks(self) -> tuple[str, ...]:
        """For telling with which of the secrets a key's digest was made."""
        return tuple(map(mark_of, self.keys))

    @property
    def checks(self) -> tuple[str, ...]:
        """For telling whether two processes have the same secret."""
        return tuple(derive(master, "check").hex() for master in self.masters)

    @property
    def picture_urls(self) -> tuple[bytes, ...]:
        """For the signatures of pictures' URLs."""
        return tuple(derive(master, "picture-url") for master in self.masters)

    def webhook_secrets(self, project_id: str, secret_id: str) -> tuple[str, ...]:
        """Give a webhook's secret, one of each of the installation's: nothing of them is stored."""
        label = f"webhook\0{project_id}\0{secret_id}"
        return tuple(secret_text(derive(master, label)) for master in self.masters)

    def hash_user(self, user: str) -> str:
        """Give 32 hex digits that stand for an end user upstream."""
        return derive(self.masters[0], "end-user\0" + user).hex()[:32]

    def hash_prompt(self, prompt: str) -> str:
        """Give 32 hex digits by which equal prompts are known in the ledger."""
        return derive(self.masters[0], "prompt\0" + prompt).hex()[:32]


def read_peppers(settings: Settings) -> Peppers:
    """Read the installation's secrets, a comma list; without one, the data directory's own is used and made once."""
    needs_secret(settings)
    given = settings.secret_key.reveal() or own_secret(settings.data_dir / "secret.key")
    masters = tuple(part.strip().encode() for part in given.split(",") if part.strip())
    if not masters:
        raise Misconfigured(
            "The secret key is empty: set GLM_GATEWAY_SECRET_KEY, or restore secret.key in the data directory.",
        )
    return Peppers(masters)


def needs_secret(settings: Settings) -> None:
    """Raise Misconfigured when the secret is missing that all replicas have to share."""
    url = settings.database.url.reveal()
    if url and not url.startswith("sqlite") and not settings.secret_key:
        raise Misconfigured(
            "GLM_GATEWAY_SECRET_KEY is required with this DATABASE_URL: every replica needs the same one. "
            "Make one with 'openssl rand -hex 32'.",
        )
