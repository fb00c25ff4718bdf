"""The account of an installation that was treated badly: pictures made, lines of the ledger, what Redis counts."""

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass

import redis
import sqlalchemy as sa

from gateway.adapters.redis.names import VERSION, Names
from gateway.adapters.sql.engine import open_engine
from gateway.adapters.sql.tables import usage_events
from gateway.domain.projects import DEFAULT_ID
from gateway.domain.quota import shard_of, subject_names
from gateway.wiring.peppers import Peppers
from tests.fleet import SECRET

log = logging.getLogger(__name__)
HOME = Names(shard_of(DEFAULT_ID))
UNSEEN = {"unknown", "abandoned"}  # outcomes after which the upstream may have made pictures that nobody has seen


async def lines_of(url, key_id):
    """The ledger's lines of a key."""
    engine = open_engine(url)
    try:
        async with engine.connect() as connection:
            query = sa.select(usage_events).where(usage_events.c.key_id == key_id)
            return list(await connection.execute(query))
    finally:
        await engine.dispose()


def store_of(fleet):
    return redis.Redis.from_url(fleet.redis_url, decode_responses=True)


def busy(fleet):
    """Name what is still under way, or waits for the ledger."""
    with store_of(fleet) as store:
        held = [key for kind in ("held", "running") for key in store.keys(f"{VERSION}:{{p*}}:{kind}:*")]
        waiting = [key for key in store.keys(f"{VERSION}:{{p*}}:events") if store.xlen(key)]
        states = {key: store.hget(key, "state") for key in store.keys(f"{VERSION}:{{p*}}:reservation:*")}
    spooled = [str(path) for gateway in fleet.gateways for path in gateway.data_dir.glob("spool/*")]
    return held + waiting + spooled + [key for key, state in states.items() if state == "held"]


@dataclass
class Tally:
    """What became of one prompt: the pictures made of it, and its lines."""

    made: int
    lines: list

    def paid(self):
        """The pictures that its lines know as paid."""
        return sum(line.pictures_paid for line in self.lines)

    def unseen(self):
        """The most pictures that may have been made of it without being seen."""
        return sum(line.pictures_requested - line.pictures_paid for line in self.lines if line.outcome in UNSEEN)


def tallies(lines, pictures):
    """Give what became of each prompt, by its hash: lines do not have the prompt itself."""
    peppers, found = Peppers((SECRET.encode(),)), defaultdict(lambda: Tally(0, []))
    for picture in pictures:
        found[peppers.hash_prompt(picture["prompt"])].made += 1
    for line in lines:
        found[line.prompt_hash].lines.append(line)
    return found


def check_lines(lines, pictures, answered):
    """Every picture made has one line, no prompt two; `answered` are the request ids whose clients got a picture."""
    by_prompt = tallies(lines, pictures)
    for prompt, tally in by_prompt.items():
        assert tally.paid() <= tally.made <= tally.paid() + tally.unseen(), (prompt, tally)
        assert sum(line.pictures_paid > 0 for line in tally.lines) <= 1, (prompt, tally)
        assert tally.made <= 1 + tally.unseen(), (prompt, tally)
    paid, unseen = (sum(part(tally) for tally in by_prompt.values()) for part in (Tally.paid, Tally.unseen))
    failed = sum(line.pictures_paid - line.pictures_delivered for line in lines)
    assert paid == sum(line.pictures_delivered for line in lines) + failed
    assert paid <= len(pictures) <= paid + unseen
    # A success is answered before it is settled; who is killed in between is `abandoned` when it follows another job.
    told = {line.event_id for line in lines if line.status == 200 or line.outcome == "abandoned"}
    assert answered <= told, [tally for tally in by_prompt.values() if _names(tally) & (answered - told)]
    assert all(line.price == 100_000 * line.pictures_delivered for line in lines)
    said = Counter(line.outcome for line in lines)
    log.info("%d pictures, %d paid, %d unseen, %s", len(pictures), paid, unseen, dict(said))
    return said


def _names(tally):
    return {line.event_id for line in tally.lines}


def check_counters(fleet, key_id, lines):
    """What Redis has counted of money and pictures is the ledger's sum, for the key and its project."""
    spent = {
        "images": sum(line.pictures_delivered for line in lines),
        "spend": sum(line.price for line in lines),
    }
    with store_of(fleet) as store:
        for subject in subject_names(key_id, DEFAULT_ID):
            [month] = store.keys(HOME.of("month", subject, "*"))
            counted = {name: int(value) for name, value in store.hgetall(month).items()}
            assert counted == spent, (subject, counted, spent)
        assert store.keys(HOME.of("unreadable")) == []
