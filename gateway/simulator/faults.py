"""The faults that can be switched on, one class a kind: what each is called and what can be set (section 11)."""

from typing import Annotated, ClassVar, Literal

import msgspec

from gateway.simulator.texts import TABLE

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Status = Annotated[int, msgspec.Meta(ge=200, le=599)]


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Whom a fault strikes, and how often; without `times` it stays until it is cleared."""

    times: Count | None = None
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    prompt_contains: str | None = None
    key_id: str | None = None

    def strikes(self, prompt: str, key_id: str | None) -> bool:
        """Whether this call is one of those it is for."""
        if self.prompt_contains is not None and self.prompt_contains not in prompt:
            return False
        return self.key_id is None or self.key_id == key_id


# Faults of a check: each is taken where the service makes that check, so their order is the service's own.


class AuthenticationFault(Fault):
    """The service does not accept the caller, whatever was sent."""

    code: ClassVar[str]


class MissingHeader(AuthenticationFault, tag="missing_header"):
    """1001, as if no Authorization header had come."""

    code = "1001"


class ExpiredJwt(AuthenticationFault, tag="expired_jwt"):
    """1003."""

    code = "1003"


class WrongKey(AuthenticationFault, tag="wrong_key"):
    """The code "401", as for a deleted key."""

    code = "401"


class WrongModel(Fault, tag="wrong_model"):
    """The model is unknown: 1211, or z.ai's 1214 `modelCode`; by default what the language's platform says."""

    code: Literal["1211", "1214"] | None = None


class LongPrompt(Fault, tag="long_prompt"):
    """Prompts of more than `limit` code points are too long."""

    limit: int = 0
    code: Literal["1261", "1214"] = "1261"


class BadSize(Fault, tag="bad_size"):
    """Every size is illegal: refused with 1214, or replaced by the model's default without a word."""

    mode: Literal["error", "fallback"] = "error"


class UnsignedWatermark(Fault, tag="unsigned_watermark"):
    """The disclaimer is not signed: `watermark_enabled: false` is refused with 1210, or does nothing."""

    mode: Literal["error", "ignore"] = "error"


class DuplicateRequestId(Fault, tag="duplicate_request_id"):
    """1231."""


class NoBalance(Fault, tag="no_balance"):
    """1113."""


class LoadFault(Fault):
    """The service has no room for the call."""

    code: ClassVar[str]


class Concurrency(LoadFault, tag="concurrency"):
    """1302, whatever is in flight."""

    code = "1302"


class Frequency(LoadFault, tag="frequency"):
    """1303."""

    code = "1303"


class Overloaded(LoadFault, tag="overloaded"):
    """1305."""

    code = "1305"


class Moderation(Fault, tag="moderation"):
    """The content filter: levels 0 and 1 refuse with 1301, 2 and 3 pass with `content_filter` (section 1.3).

    The role `assistant` refuses after the time of a generation, the others before it.
    """

    role: Literal["user", "assistant", "history"] = "user"
    level: Literal[0, 1, 2, 3] = 1


class Slow(Fault, tag="slow"):
    """The picture takes `seconds`, give or take up to `jitter`, in place of the simulator's latency."""

    seconds: Seconds = 60.0
    jitter: Seconds = 0.0


# Trouble on the way: taken before any check, or, with `after`, once the picture is made.


class Trouble(Fault):
    """The answer is not what the service meant to say; `after` makes (and counts) the picture first."""

    after: bool = False


class Error(Trouble, tag="error"):
    """Any code of the table, or any other when status and message are given."""

    code: str = "500"
    status: Status | None = None
    message: str | None = None

    def __post_init__(self) -> None:
        """A code without a row has neither status nor words of its own."""
        if self.code not in TABLE and (self.status is None or self.message is None):
            raise ValueError(f"code {self.code!r} is not in the table: give `status` and `message`")


class NetworkError(Error, tag="network_error"):
    """1234 with a request_id."""

    code: Literal["1234"] = "1234"


class IntCode(Error, tag="int_code"):
    """An error whose code is a number instead of a string."""

    code: Annotated[str, msgspec.Meta(pattern="^[0-9]+$")] = "1305"


class ErrorIn200(Error, tag="error_in_200"):
    """An error object under HTTP 200."""

    code: str = "1305"


class FailureIn200(Trouble, tag="failure_in_200"):
    """HTTP 200 with `{"code":401,"msg":"...","success":false}`, as other endpoints of the host answer."""

    code: int = 401
    message: str | None = None


class HtmlError(Trouble, tag="html_502"):
    """A proxy's HTML page in place of the answer."""

    status: Literal[502, 503, 504] = 502


class Hang(Trouble, tag="hang"):
    """No answer ever comes; it ends when the caller leaves."""


class Cut(Trouble, tag="cut"):
    """The connection ends before the answer; by default the picture is made (and lost)."""

    after: bool = True


class TruncatedJson(Trouble, tag="truncated_json"):
    """Half of the right answer under the Content-Length of all of it, then the connection ends."""

    after: Literal[True] = True


# Asynchronous jobs: taken when the job is submitted.


class Fail(Fault, tag="fail"):
    """The job ends as FAIL without a picture; no reason is documented, LobeChat reads `error.message`."""

    message: str | None = None


class StayProcessing(Fault, tag="stay_processing"):
    """The job's first `polls` polls answer PROCESSING, even when the picture is ready."""

    polls: Count = 3


# The CDN: taken when a picture is fetched; prompt and key are those of the picture.


class CdnFault(Fault):
    """The picture's host misbehaves (section 6)."""


class NotFoundThenOk(CdnFault, tag="not_found_then_ok"):
    """404 with the RetCode JSON, `times` times."""

    times: Count | None = 1


class JpegAsPng(CdnFault, tag="jpeg_as_png"):
    """JPEG bytes under the name `.png`, labelled image/png."""


class NoContentType(CdnFault, tag="no_content_type"):
    """No Content-Type header."""


class ExpiredSignature(CdnFault, tag="expired_signature"):
    """403, as for a link that has expired."""


class SlowCdn(CdnFault, tag="slow_cdn"):
    """The bytes arrive in pieces over `seconds`."""

    seconds: Seconds = 5.0


class Heavy(CdnFault, tag="heavy"):
    """The same picture in a file of at least `size` bytes; up to 2 MB were seen (section 6)."""

    size: Annotated[int, msgspec.Meta(ge=1, le=2**26)] = 2_000_000


class Oversize(CdnFault, tag="oversize"):
    """`size` bytes that begin like a PNG; `declared` says whether Content-Length tells."""

    size: Annotated[int, msgspec.Meta(ge=8, le=2**33)] = 41 * 2**20
    declared: bool = True


class Redirect(CdnFault, tag="redirect"):
    """302 to `location`, or without one to the same picture, once a fetch."""

    location: str | None = None


class NotAnImage(CdnFault, tag="not_an_image"):
    """An HTML page under HTTP 200."""

    content_type: str = "text/html"


class CdnCut(CdnFault, tag="cdn_cut"):
    """The connection ends in the middle of the picture."""
