"""Whose call it is: raw keys and the JWTs made of them (glm-image-api.md sections 1.1 and 1.5)."""

import hashlib
import hmac
import re
import time
from typing import Any

import jwt
from jwt.types import Options
from jwt.utils import base64url_encode

from gateway.simulator.errors import Refusal

_KEY_ID = re.compile(r"[0-9a-f]{32}")
_KEY = re.compile(rf"{_KEY_ID.pattern}\.[0-9A-Za-z]{{16}}")
_BEARER = re.compile(r"Bearer +", re.IGNORECASE)
_UNVERIFIED: Options = {"verify_signature": False}


def claimed_key_id(header: str | None) -> str | None:
    """The key id a header names, believed as it stands: for records, never for admission."""
    token = _BEARER.sub("", header or "", count=1).strip()
    if token.count(".") == 1:
        return token.partition(".")[0]
    try:
        claimed = jwt.decode(token, options=_UNVERIFIED).get("api_key")
    except jwt.PyJWTError:
        return None
    return claimed if isinstance(claimed, str) else None


class Keyring:
    """The keys the service accepts; without any it accepts every well-formed one."""

    def __init__(self, keys: tuple[str, ...]) -> None:
        self._keys = frozenset(keys)
        self._secrets = dict(key.split(".", 1) for key in keys)

    def authenticate(self, header: str | None) -> str:
        """The id of the key behind an Authorization header; raises 1001, "401" or 1003.

        Taken: `Bearer id.secret`, `Bearer <jwt>` and the bare JWT that one-api sends (section 1.1).
        """
        if header is None or not header.strip():
            raise Refusal("1001")
        token = _BEARER.sub("", header, count=1).strip()
        if token.count(".") == 1 and token != header.strip():
            return self._raw(token)
        return self._signed(token)

    def _raw(self, key: str) -> str:
        if (self._keys and key not in self._keys) or (not self._keys and not _KEY.fullmatch(key)):
            raise Refusal("401")
        return key.partition(".")[0]

    def _signed(self, token: str) -> str:
        try:
            payload = self._verified(token)
        except jwt.PyJWTError as refused:
            raise Refusal("401") from refused
        key_id, expires, made = payload.get("api_key"), payload.get("exp"), payload.get("timestamp")
        if not (isinstance(key_id, str) and isinstance(expires, int) and isinstance(made, int)):
            raise Refusal("401")
        if expires <= time.time() * 1000:  # milliseconds (section 1.5)
            raise Refusal("1003")
        return key_id

    def _verified(self, token: str) -> dict[str, Any]:
        """The payload; with no keys configured there is no secret to verify it with, only a form."""
        header = jwt.get_unverified_header(token)
        if (header.get("alg"), header.get("sign_type")) != ("HS256", "SIGN"):
            raise jwt.InvalidAlgorithmError
        payload: dict[str, Any] = jwt.decode(token, options=_UNVERIFIED)
        key_id = str(payload.get("api_key"))
        genuine = _is_signed(token, self._secrets.get(key_id, "")) if self._keys else _KEY_ID.fullmatch(key_id)
        if not genuine:
            raise jwt.InvalidSignatureError
        return payload


def _is_signed(token: str, secret: str) -> bool:
    """Whether the secret signed it; by hand, as PyJWT warns of secrets below 32 bytes and the upstream's have 16."""
    content, _, signature = token.rpartition(".")
    digest = hmac.new(secret.encode(), content.encode(), hashlib.sha256).digest()
    return hmac.compare_digest(base64url_encode(digest), signature.encode())
