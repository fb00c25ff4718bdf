"""What waits on disk comes back as it was put there."""

from dataclasses import replace

import msgspec
import pytest

from gateway.adapters.spool import DiskSpool
from gateway.domain.caching import Sought
from gateway.domain.errors import ContentRefused, Moderation
from gateway.domain.flights import WITHDRAWN, End, Ending, Follow, Hit, Lead, Replay
from gateway.domain.quota import Reservation
from gateway.service.ports import Settlement
from tests.builders import NOW, a_claim, a_line, a_picture

pytestmark = pytest.mark.anyio


async def test_a_job_is_settled_from_the_disk_with_all_that_its_followers_wait_for(tmp_path):
    claim = replace(a_claim(pictures=3), sought=Sought(plan="d1", scope="key", max_age=1.5, body="b0"))
    reservation = Reservation(
        claim=claim,
        day="2026-11-23",
        month="2026-11",
        moment=1_000,
        hits=(Hit(picture=a_picture(), age=3, variant="other.0"),),
        follows=(Follow(job_id="other", index=1, shard=63),),
        leads=(Lead(index=2),),
        replay=Replay(job_id="root", created=5, ended=(End.of(a_picture()), WITHDRAWN)),
        fence=2,
    )
    refused = End.of(ContentRefused(Moderation(stage="input", categories=("violence",))))
    ending = Ending(ends={0: End.of(a_picture()), 1: refused, 2: WITHDRAWN}, replayable=False)
    spool = DiskSpool(tmp_path)
    put = Settlement(reservation=reservation, charged=1, event=a_line(), ending=ending, since=NOW)
    await spool.put(put)
    [settlement] = await spool.waiting()
    assert settlement == put
    await spool.remove(settlement)
    assert await spool.waiting() == []


async def test_settlements_of_other_releases_are_made(tmp_path):
    put, spool = confirmed(1), DiskSpool(tmp_path / "spool")
    await spool.put(put)
    [path] = (tmp_path / "spool-confirmed").iterdir()
    said = msgspec.json.decode(path.read_bytes())
    del said["event"]["prompt"], said["event"]["account_costs"]
    said["event"]["of_the_next_release"] = said["of_the_next_release"] = "more"
    path.write_bytes(msgspec.json.encode(said))
    assert await spool.confirmed(10) == [put]


def confirmed(number):
    claim = a_claim(f"request-{number}")
    reservation = Reservation(claim=claim, day="2026-11-23", month="2026-11", moment=1_000)
    return Settlement(reservation=reservation, charged=1, event=a_line(claim.request_id), confirmed=True)


async def test_what_waits_for_the_ledger_is_given_in_parts_each_in_its_turn(tmp_path):
    """A hundred thousand may wait: reading all of them twice a second would take all of the memory and of a core."""
    spool, put = DiskSpool(tmp_path / "spool"), [confirmed(number) for number in range(5)]
    for settlement in put:
        await spool.put(settlement)
    assert await spool.waiting() == []
    rounds = [await spool.confirmed(2) for _ in range(6)]
    assert [len(part) for part in rounds] == [2, 2, 1] * 2
    for seen in (rounds[:3], rounds[3:]):
        assert sorted(one.event.event_id for part in seen for one in part) == [one.event.event_id for one in put]
    await spool.remove(put[0])
    assert len([one for _ in range(2) for one in await spool.confirmed(2)]) == 4


async def test_a_confirmed_settlement_that_an_older_release_left_is_found_and_removed(tmp_path):
    spool, left = DiskSpool(tmp_path), confirmed(1)
    (tmp_path / "request-1.json").write_bytes(msgspec.json.encode(left))
    assert await spool.waiting() == [left]
    await spool.remove(left)
    assert await spool.waiting() == []
