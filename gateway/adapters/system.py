"""What comes from the machine itself: time, chance, its user, and the secret in the data directory."""

import asyncio
import os
import pwd
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

from gateway.domain.errors import Misconfigured
from gateway.domain.keys import ALPHABET


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Give the present moment in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Give seconds that never run back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


def random_text(length: int) -> str:
    """Draw characters of the key alphabet that nobody can guess."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


def operator() -> str:
    """Name the operating system's user, by its number where that has no name; the environment may say anything."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def own_secret(path: Path) -> str:
    """Read the secret, or make it: linked into place whole, so that two processes that start together agree."""
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    try:
        return path.read_text("ascii")
    except UnicodeDecodeError as failure:
        raise Misconfigured(f"{path} is damaged: restore it from a backup, or no key opens any more.") from failure
