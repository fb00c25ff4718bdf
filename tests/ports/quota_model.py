"""What the quota store ought to hold: plain bookkeeping, written without looking at the scripts."""

from collections import Counter
from dataclasses import dataclass, field

from gateway.domain.limits import Limit

WINDOW = 61  # seconds: a bucket counts until nothing in it can be less than a minute old
MINUTE = 60_000


@dataclass
class Taken:
    """One reservation, and what is left of it in the windows. `counted`: subjects whose minute it is in."""

    claim: object
    owner: str
    state: str = "held"  # settled, released, abandoned; or free, when it never took anything
    day: str = ""
    month: str = ""
    second: int = 0
    moment: int = 0
    images: int = 0
    counted: frozenset[str] = frozenset()
    lines: int = 0


@dataclass
class Model:
    """All reservations of one project, by request id."""

    price: int
    taken: dict[str, Taken] = field(default_factory=dict)

    def _of(self, subject):
        return [t for t in self.taken.values() if any(s.name == subject for s in t.claim.subjects)]

    def day(self, subject, day):
        return sum(taken.images for taken in self._of(subject) if taken.day == day)

    def month(self, subject, month):
        return sum(taken.images for taken in self._of(subject) if taken.month == month)

    def running(self, subject):
        return {key for key, t in self.taken.items() if t in self._of(subject) and t.state == "held"}

    def buckets(self, subject, second):
        """Give requests and images by second, as far as they can count at `second`."""
        counts = Counter()
        for taken in self._of(subject):
            if subject in taken.counted and second - taken.second < WINDOW:
                counts[f"r{taken.second}"] += 1
                counts[f"i{taken.second}"] += taken.images
        return counts

    def in_a_minute(self, subject, now):
        """Give requests and images of the 60 s that end now, by the log of what was granted and not given back."""
        recent = [t for t in self._of(subject) if subject in t.counted and now - t.moment < MINUTE]
        return len(recent), sum(taken.images for taken in recent)

    def used(self, subject, limit, day, month, second):
        match limit:
            case Limit.REQUESTS_PER_MINUTE | Limit.IMAGES_PER_MINUTE:
                kind = "r" if limit is Limit.REQUESTS_PER_MINUTE else "i"
                return sum(count for name, count in self.buckets(subject, second).items() if name.startswith(kind))
            case Limit.IMAGES_PER_DAY:
                return self.day(subject, day)
            case Limit.IMAGES_PER_MONTH:
                return self.month(subject, month)
            case Limit.CONCURRENT:
                return len(self.running(subject))
            case Limit.SPEND_PER_MONTH:
                return self.month(subject, month) * self.price

    def standing_in_the_way(self, claim, day, month, second):
        """Name the first limit without room for a claim, with what is used of it; None when it fits."""
        costs = {Limit.REQUESTS_PER_MINUTE: 1, Limit.CONCURRENT: 1, Limit.SPEND_PER_MONTH: claim.pictures * self.price}
        for subject in claim.subjects:
            for limit in Limit:
                value = subject.limits.value(limit)
                used = self.used(subject.name, limit, day, month, second)
                if value is not None and not subject.limits.shadow and used + costs.get(limit, claim.pictures) > value:
                    return subject.name, limit, used
        return None

    def grant(self, claim, owner, reservation, moment):
        """Note what a claim has taken."""
        minutes = (Limit.REQUESTS_PER_MINUTE, Limit.IMAGES_PER_MINUTE)
        counted = {s.name for s in claim.subjects if any(s.limits.value(limit) is not None for limit in minutes)}
        self.taken[claim.request_id] = Taken(
            claim, owner, day=reservation.day, month=reservation.month, second=reservation.second,
            moment=moment, images=claim.pictures, counted=frozenset(counted),
        )  # fmt: skip

    def settle(self, assumed, charged):
        """Charge pictures; one that holds nothing any more, or never did, is charged over any limit."""
        new = Taken(assumed.claim, "", "free", assumed.day, assumed.month, assumed.second)
        taken = self.taken.setdefault(assumed.claim.request_id, new)
        if not taken.day:
            taken.day, taken.month = assumed.day, assumed.month
        if taken.state != "settled":
            taken.state, taken.images = "settled", charged
            taken.lines += 1

    def release(self, claim):
        taken = self.taken.setdefault(claim.request_id, Taken(claim, "", "free"))
        if taken.state in {"held", "free"}:
            taken.state, taken.images = "released", 0

    def abandon(self, owner):
        """Give back what a dead owner held."""
        for taken in self.taken.values():
            if taken.owner == owner and taken.state == "held":
                taken.state, taken.images = "abandoned", 0
                taken.lines += 1
