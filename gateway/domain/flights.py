"""Where the pictures of a request come from, and how each of them ends. Plain data, so that it can be kept. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace

from gateway.domain import errors
from gateway.domain.errors import (
    ClientLeft,
    ContentRefused,
    DatabaseUnavailable,
    GatewayError,
    JobCancelled,
    LedgerBehind,
    LimitReached,
    Moderation,
    PictureStoreUnavailable,
    QueueTimedOut,
    QuotaStoreDown,
    ReplicaFull,
    ShuttingDown,
    UpstreamFailed,
)
from gateway.domain.image import PaidPicture, Picture
from gateway.domain.records import record

# A leader's own refusal says nothing to others who want the picture.
OWN_REFUSALS = (
    LimitReached,
    QuotaStoreDown,
    ShuttingDown,
    ReplicaFull,
    JobCancelled,
    QueueTimedOut,
    ClientLeft,
    PictureStoreUnavailable,
    LedgerBehind,
    DatabaseUnavailable,
)


@record(frozen=True, slots=True, kw_only=True)
class Failure:
    """A failure in words that another process can read; `kind` is its class."""

    kind: str
    message: str
    param: str | None = None
    moderation: Moderation | None = None

    @classmethod
    def of(cls, error: GatewayError) -> "Failure":
        """Put a failure into words."""
        moderation = error.moderation if isinstance(error, ContentRefused) else None
        return cls(kind=type(error).__name__, message=error.message, param=error.param, moderation=moderation)

    def error(self) -> GatewayError:
        """Give the failure back; one whose class another release has and this one lacks becomes UpstreamFailed."""
        if self.moderation is not None:
            return ContentRefused(self.moderation)
        return _KINDS.get(self.kind, UpstreamFailed)(self.message, param=self.param)


@record(frozen=True, slots=True, kw_only=True)
class End:
    """How one picture of a job ended: it is there, or it failed for everybody who wants it.

    Neither: its job has withdrawn, or died. Nothing is known of the picture, and who waits for it attaches anew.
    """

    picture: Picture | None = None
    failure: Failure | None = None

    @classmethod
    def of(cls, end: Picture | GatewayError) -> "End":
        """Say how a picture ended; a refusal of its leader's own is a withdrawal.

        Of a picture that no store has, others get the upstream's URL: bytes are not passed on.
        """
        if isinstance(end, GatewayError):
            return WITHDRAWN if isinstance(end, OWN_REFUSALS) else cls(failure=Failure.of(end))
        return cls(picture=replace(end, image=None, unstored=b"") if end.unstored else end)

    @property
    def withdrawn(self) -> bool:
        """Tell whether who waited for it has to attach anew."""
        return self.picture is None and self.failure is None


WITHDRAWN = End()


@record(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a job ended. `ends` are by the position of the picture in the request; what was told before may be in it.

    A job that is not `replayable` was refused: a client that comes again makes a new request.
    """

    ends: Mapping[int, End] = field(default_factory=dict)
    replayable: bool = True


def replayable(ends: Sequence[Picture | GatewayError]) -> bool:
    """Tell whether a client that comes again gets these ends; not if all are refusals that may pass (429, 503)."""
    refusals = (*OWN_REFUSALS, UpstreamFailed)
    return not ends or any(not isinstance(end, refusals) for end in ends)


@record(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a paid call answered, and which account paid. `linked`: the client wants its URL alone."""

    paid: PaidPicture
    account: str = ""
    linked: bool = False


@record(frozen=True, slots=True, kw_only=True)
class Task:
    """A picture that was ordered upstream and is asked for: the account's name, and the upstream's id of the order."""

    account: str
    id: str


@record(frozen=True, slots=True, kw_only=True)
class Hit:
    """A remembered picture, `age` seconds old. `variant` names it among those of its plan."""

    picture: Picture
    age: int
    variant: str


@record(frozen=True, slots=True, kw_only=True)
class Follow:
    """A picture that another job makes, or has made: the one at position `index` of that job."""

    job_id: str
    index: int
    shard: int

    @property
    def variant(self) -> str:
        """Name it among the pictures of its plan."""
        return f"{self.job_id}.{self.index}"


@record(frozen=True, slots=True, kw_only=True)
class Lead:
    """A picture that is to be made for this request, at position `index` of it."""

    index: int


Part = Hit | Follow | Lead


@record(frozen=True, slots=True, kw_only=True)
class Replay:
    """The job that a request repeats. `created` is in seconds since 1970; `ended` is None while the job runs.

    A request takes the place of a job that has ended without some of its pictures. `origin` is the first of the jobs
    that took each other's place: what lacks of it is made once for all who repeat it.
    """

    job_id: str
    created: int
    ended: tuple[End, ...] | None = None
    origin: str = ""

    @property
    def lacks(self) -> bool:
        """Tell whether the request takes the job's place."""
        return self.ended is not None and any(end.withdrawn for end in self.ended)


def _below(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield kind
    for lower in kind.__subclasses__():
        yield from _below(lower)


_KINDS = {
    kind.__name__: kind
    for kind in _below(errors.GatewayError)
    if not issubclass(kind, LimitReached | ContentRefused)  # these are made of more than a message
}
