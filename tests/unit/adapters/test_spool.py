"""What waits on disk comes back as it was put there."""

from dataclasses import replace

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
    put = Settlement(reservation=reservation, charged=1, event=a_line(), ending=ending, since=NOW, confirmed=True)
    await spool.put(put)
    [settlement] = await spool.waiting()
    assert settlement == put
    await spool.remove(settlement)
    assert await spool.waiting() == []
