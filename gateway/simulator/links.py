"""Links to pictures: makes and checks the signed form of bigmodel and the open form of z.ai (section 6)."""

import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from gateway.simulator.options import SimulatorOptions


class Links:
    """The links of one simulator; only it knows the secret that signs them."""

    def __init__(self, options: SimulatorOptions) -> None:
        self._lifetime = options.url_lifetime
        self._signs = options.url_style == "signed"
        self._secret = secrets.token_bytes(32)
        self._public_key = f"TOKEN_{secrets.token_hex(16)}"

    def name(self, picture_id: str, *, watermark: bool) -> str:
        """The object's name; a marked picture says so in it (section 8)."""
        if not self._signs:
            return f"{time.time_ns() // 1_000_000}-{secrets.token_hex(16)}.png"
        return f"{picture_id}_watermark.png" if watermark else f"{picture_id}.png"

    def url(self, host: str, name: str, picture_id: str) -> str:
        """The link as the answer carries it, on the address that the call came to."""
        if not self._signs:
            query = urlencode({"ufileattname": f"{picture_id}_watermark.png"})
        else:
            expires = int(time.time() + self._lifetime)
            signature = quote(self._signature(name, str(expires)), safe="")
            query = f"UCloudPublicKey={self._public_key}&Signature={signature}&Expires={expires}"
        return f"http://{host}/files/{quote(name)}?{query}"

    def admits(self, name: str, query: Mapping[str, str]) -> bool:
        """Whether the link is signed for this object and still alive."""
        if not self._signs:
            return True
        expires = query.get("Expires", "")
        signed = hmac.compare_digest(query.get("Signature", "").encode(), self._signature(name, expires).encode())
        return signed and int(expires) > time.time()

    def _signature(self, name: str, expires: str) -> str:
        digest = hmac.new(self._secret, f"GET\n{expires}\n/{name}".encode(), hashlib.sha1).digest()
        return base64.b64encode(digest).decode()
