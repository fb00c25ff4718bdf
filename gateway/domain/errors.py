"""The tree of failures. What each one is on the wire stands in gateway.api.errors, nowhere else.

GatewayError
  Misconfigured             the operator has to change something before the gateway can start
  InvalidRequest            the client has to change the request; `param` names the place
    MalformedBody  MissingParameter  InvalidType  InvalidValue  EmptyText  TextTooLong
    NotFound                no project or key has this id: an InvalidValue too
    NumberTooSmall  NumberTooLarge  UnknownParameter  UnsupportedParameter
    UnsupportedEndpoint  RetiredEndpoint
    IdempotencyKeyReused
    ModelNotFound
    TaskNotFound            no job of the project has this id
    ContentRefused          the upstream's safety system said no
    UpstreamRejected        the upstream refused a parameter that we let pass
    NameTaken               another key or project has this name
  MissingKey  InvalidKey    who is calling?
  NotAllowed                the key is known and may not do this
    ModelNotAllowed  AddressNotAllowed
  DatabaseUnavailable       SQL cannot be reached, and what is remembered does not do
  LimitReached              a limit of the key or its project
    RateLimitReached        it frees within a minute
    QuotaExhausted          of a day, a month or an amount of money
  QuotaStoreDown            limits cannot be checked
    PictureUntold           nor can it be learnt what becomes of a picture that another request makes
  LedgerBehind              too many lines wait for the ledger
  PictureStoreUnavailable   pictures cannot be kept, so none is paid
  ShuttingDown              this replica takes nothing new any more
  ReplicaFull               this replica runs as many jobs as it may
  JobCancelled              the operator dropped the job before its picture was made
  QueueTimedOut             no upstream slot came free in time
  UpstreamFailed            the upstream's or its account's fault; nothing was made
    AccountUnusable  UpstreamRateLimited  UpstreamOverloaded  UpstreamBroken  UpstreamUnreachable
  OutcomeUnknown            the call was sent and its end not seen: the picture may have been made and paid
  ImageDownloadFailed       the picture was made and paid and cannot be downloaded
    PictureLost             it was downloaded, and its bytes cannot be had any more
  ClientLeft                nobody waits for the answer
  InvalidPictureUrl         the URL of a picture that was not signed by this installation
    PictureUrlExpired       it was, and its time is over
  PictureNotFound           the URL is good and the bytes are gone
"""

from dataclasses import dataclass, field

from gateway.domain.limits import Room


class GatewayError(Exception):
    """Every expected failure. The message tells the reader what to do and may be shown to the client."""

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


def drop_tracebacks(failure: BaseException) -> None:
    """Drop the tracebacks of a failure that is told, and of those that led to it; what they say stays.

    Their frames hold on to what holds on to the failure. Until the next look for garbage a job that failed kept 90
    objects so, and a connection that SQL refused 60 KB.
    """
    one: BaseException | None = failure
    while one is not None and one.__traceback__ is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__


class Misconfigured(GatewayError):
    """The gateway cannot start; the message is one sentence for the operator."""


class InvalidRequest(GatewayError):
    """Sending the same request again will fail again."""


class MalformedBody(InvalidRequest):
    """Not JSON, or not a JSON object."""


class MissingParameter(InvalidRequest):
    """A required parameter is absent."""


class InvalidType(InvalidRequest):
    """A parameter has another JSON type than it should."""


class InvalidValue(InvalidRequest):
    """A parameter's value is none of those allowed."""


class NotFound(InvalidValue):
    """No project or no key has this id or name, or no key of the project."""


class EmptyText(InvalidRequest):
    """A text is empty where one is needed."""


class TextTooLong(InvalidRequest):
    """A text has more code points than the model takes."""


class NumberTooSmall(InvalidRequest):
    """An integer is below its range."""


class NumberTooLarge(InvalidRequest):
    """An integer is above its range."""


class UnknownParameter(InvalidRequest):
    """Strict handling was asked for and the parameter is none of OpenAI's."""


class UnsupportedParameter(InvalidRequest):
    """Strict handling was asked for and the model cannot honour the parameter."""


class UnsupportedEndpoint(InvalidRequest):
    """OpenAI has this endpoint and GLM-Image has no counterpart."""


class RetiredEndpoint(InvalidRequest):
    """OpenAI has withdrawn this endpoint."""


class IdempotencyKeyReused(InvalidRequest):
    """Another request of the same key came with this Idempotency-Key within a day."""


class ModelNotFound(InvalidRequest):
    """No model and no alias has this name."""


class TaskNotFound(InvalidRequest):
    """No job of the caller's project has this id, or none any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moderation:
    """Where the upstream's safety system stopped a picture: `input`, `output` or `unknown` (OpenAI's words)."""

    stage: str = "unknown"
    categories: tuple[str, ...] = field(default=())


class ContentRefused(InvalidRequest):
    """The upstream's safety system refused the prompt or the picture (codes 1300, 1301)."""

    def __init__(self, moderation: Moderation) -> None:
        super().__init__(
            "The request was refused by the upstream's safety system. Change the prompt: "
            "the same prompt will be refused again.",
        )
        self.moderation = moderation


class UpstreamRejected(InvalidRequest):
    """The upstream refused the parameters (1210 to 1215) although they passed our own rules."""


class NameTaken(InvalidRequest):
    """Another project has this name, or another key of the same project that is not revoked."""


class MissingKey(GatewayError):
    """No key came with the request."""


class InvalidKey(GatewayError):
    """The key is mistyped, unknown, expired, disabled or revoked, or its project is archived."""


class NotAllowed(GatewayError):
    """The key is known, and its operator has not allowed this."""


class ModelNotAllowed(NotAllowed):
    """Key or project may not use the model."""


class AddressNotAllowed(NotAllowed):
    """The key may not be used from the client's address."""


class DatabaseUnavailable(GatewayError):
    """SQL cannot be reached."""


class LimitReached(GatewayError):
    """A limit of the key or its project stands in the way; `room` says how far it is used and when it frees."""

    def __init__(self, message: str, room: Room) -> None:
        super().__init__(message)
        self.room = room


class RateLimitReached(LimitReached):
    """A limit that frees within a minute: waiting helps."""


class QuotaExhausted(LimitReached):
    """A limit of a day, a month or an amount of money: trying again soon does not help."""


class QuotaStoreDown(GatewayError):
    """Limits cannot be checked, and the installation refuses in that case. Nothing was charged."""


class PictureUntold(QuotaStoreDown):
    """Another request makes the picture, and it cannot be learnt what becomes of that. It is not made a second time."""


class LedgerBehind(GatewayError):
    """So many lines wait for the ledger that nothing may add to them. Nothing was charged."""


class PictureStoreUnavailable(GatewayError):
    """Pictures cannot be kept at the moment. Nothing was sent and nothing was charged."""


class ShuttingDown(GatewayError):
    """This replica takes nothing new any more; another one, or this one restarted, will."""


class ReplicaFull(GatewayError):
    """This replica runs as many jobs as it may; another one may have room."""


class JobCancelled(GatewayError):
    """The operator dropped the job before its picture was made. Nothing was charged."""


class QueueTimedOut(GatewayError):
    """No upstream slot came free within the longest wait, or none would; `retry_after` in seconds, where known."""

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, param=param)
        self.retry_after = retry_after


class UpstreamFailed(GatewayError):
    """Nothing was made and nothing is charged."""


class AccountUnusable(UpstreamFailed):
    """The upstream refuses our account: key, balance, plan or permission."""


class UpstreamRateLimited(UpstreamFailed):
    """The account has too many calls in flight or sends too many."""


class UpstreamOverloaded(UpstreamFailed):
    """The upstream's platform is overloaded; another account would not help."""


class UpstreamBroken(UpstreamFailed):
    """The upstream says that it failed internally."""


class UpstreamUnreachable(UpstreamFailed):
    """No connection could be made, so nothing was sent."""


class OutcomeUnknown(GatewayError):
    """The call was sent and its end was not seen. It is not repeated: that could pay twice."""


class ImageDownloadFailed(GatewayError):
    """The picture was made, but its bytes could not be had in the tries allowed; `final`: nor can they be later.

    `account` has paid for it, empty where that is not known.
    """

    def __init__(self, message: str, *, param: str | None = None, final: bool = True, account: str = "") -> None:
        super().__init__(message, param=param)
        self.final = final
        self.account = account


class ClientLeft(GatewayError):
    """The client hung up; what was sent for it goes on all the same."""


class PictureLost(ImageDownloadFailed):
    """The picture was made and stored, but the store does not have it any more or cannot be read."""


class InvalidPictureUrl(GatewayError):
    """The URL of a picture whose signature is none of ours."""


class PictureUrlExpired(InvalidPictureUrl):
    """The URL of a picture that was good until some time ago."""


class PictureNotFound(GatewayError):
    """The URL of a picture whose bytes are gone from the store."""
