"""What is said of a task, by what the record of its job says."""

import pytest

from gateway.domain.asked import Asked
from gateway.domain.errors import (
    ContentRefused,
    ImageDownloadFailed,
    Moderation,
    OutcomeUnknown,
    QueueTimedOut,
    QuotaStoreDown,
    TaskNotFound,
)
from gateway.domain.flights import WITHDRAWN, End
from gateway.service.ports import QuotaUnavailable
from gateway.service.ports_flights import KnownJob
from gateway.service.tasks import Tasks, submitted
from tests.builders import a_caller, a_picture

pytestmark = pytest.mark.anyio
REFUSED = End.of(ContentRefused(Moderation(stage="output")))
NOT_YET = End.of(ImageDownloadFailed("not yet"))
MADE = a_picture(content=b"", name="fox")


class Records:
    """One job, or the failure to look."""

    def __init__(self, found):
        self.found = found
        self.asked = []

    async def find(self, project_id, job_id):
        self.asked.append((project_id, job_id))
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


async def task(state, end=WITHDRAWN):
    return await Tasks(Records(KnownJob(model="dall-e-3", state=state, end=end)))(a_caller(), "task")


async def test_the_callers_project_is_asked():
    records = Records(KnownJob(model="glm-image", state="running", end=WITHDRAWN))
    await Tasks(records)(a_caller(project_id="proj_1"), "task")
    assert records.asked == [("proj_1", "task")]


@pytest.mark.parametrize("end", [WITHDRAWN, NOT_YET])
async def test_it_is_processed_until_its_job_ends_also_while_a_download_is_tried_again(end):
    found = await task("running", end)
    assert (found.model, found.picture, found.failure) == ("dall-e-3", None, None)


@pytest.mark.parametrize("state", ["running", "ended", "abandoned"])
async def test_a_picture_that_is_there_is_given(state):
    assert (await task(state, End(picture=MADE))).picture == MADE


async def test_a_failure_for_all_is_told():
    found = await task("ended", REFUSED)
    assert isinstance(found.failure, ContentRefused)
    assert found.failure.moderation == Moderation(stage="output")


@pytest.mark.parametrize(("state", "kind"), [("ended", QueueTimedOut), ("abandoned", OutcomeUnknown)])
async def test_an_end_without_words_says_what_to_do(state, kind):
    failure = (await task(state)).failure
    assert type(failure) is kind
    assert "ubmit it again" in failure.message


async def test_an_unknown_task_is_not_found():
    with pytest.raises(TaskNotFound):
        await Tasks(Records(None))(a_caller(), "task")


async def test_a_store_that_is_away_is_not_a_lost_task():
    with pytest.raises(QuotaStoreDown):
        await Tasks(Records(QuotaUnavailable("away")))(a_caller(), "task")


@pytest.mark.parametrize(("given", "kept"), [("", "request-1"), ("mine", "mine")])
def test_a_submission_is_found_under_its_own_id_or_the_clients_key(given, kept):
    assert submitted(Asked(request_id="request-1", idempotency_key=given)).idempotency_key == kept
