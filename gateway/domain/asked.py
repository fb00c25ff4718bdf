"""What comes with a generation besides its body's parameters."""

from gateway.domain.records import record


@record(frozen=True, slots=True, kw_only=True)
class Asked:
    """How a client wants its request to be treated, and what a repetition of it is known by.

    `no_cache`, `no_store` and `max_age` (seconds) are Cache-Control's. `body` is a digest of the body's bytes, `retry`
    says that an SDK sends it again by itself (openai-images-api.md section 5.3).
    """

    request_id: str
    strict: bool = False
    no_cache: bool = False
    no_store: bool = False
    max_age: int | None = None
    body: str = ""
    idempotency_key: str = ""
    retry: bool = False
    user_agent: str = ""
