"""Comparing counters with the ledger: whatever is under way when they are read, only what is wrong is a difference."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.quota import shard_of, subject_names
from gateway.domain.reconciliation import (
    Charge,
    LedgerCounts,
    OpenReservation,
    ShardCounts,
    Window,
    count_differences,
    lasting,
)
from gateway.domain.usage import Outcome, Used

MONTH, DAY = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 23, tzinfo=UTC)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
BEGINNINGS = {"earlier": MONTH - timedelta(1), "this month": MONTH + timedelta(1), "today": DAY + timedelta(hours=1)}
STAGES = ["in the ledger", "waiting", "waiting, then written", "waiting after it was abandoned", "held",
          "held, then settled", "later"]  # fmt: skip
PROJECT, OTHER = "proj_a", "proj_b"
KEY, _ = SUBJECTS = subject_names("x" + PROJECT, PROJECT)


@dataclass(frozen=True)
class Job:
    """A job that reserved `pictures`; `stage` is where it was when the store was read, and then the ledger."""

    number: int
    project: str
    key: str
    began: str
    pictures: int
    charged: int
    price: int
    stage: str

    @property
    def line(self):
        # One that began later has a later time, as the store sees to.
        time = NOW + timedelta(milliseconds=1) if self.stage == "later" else BEGINNINGS[self.began]
        return Charge(
            event_id=f"job-{self.number}", outcome=Outcome.DELIVERED if self.charged else Outcome.FAILED, time=time,
            project_id=self.project, key_id=self.key + self.project, pictures=self.charged,
            price=self.charged * self.price,
        )  # fmt: skip

    @property
    def opened(self):
        return OpenReservation(
            event_id=self.line.event_id, project_id=self.project, key_id=self.key + self.project,
            today=self.began == "today", this_month=self.began != "earlier", pictures=self.pictures,
            price=self.pictures * self.price,
        )  # fmt: skip

    @property
    def counted(self):
        """What the store counted of it when it was read."""
        held = self.pictures if self.stage.startswith("held") else self.charged
        return 0 if self.stage == "later" else held


def numbered(made):
    return [replace(job, number=at, charged=min(job.charged, job.pictures)) for at, job in enumerate(made)]


one_job = st.builds(
    Job,
    number=st.just(0),
    project=st.sampled_from([PROJECT, OTHER]),
    key=st.sampled_from("xy"),
    began=st.sampled_from(list(BEGINNINGS)),
    pictures=st.integers(1, 10),
    charged=st.integers(0, 10),
    price=st.integers(0, 10**7),
    stage=st.sampled_from(STAGES),
)
jobs = st.lists(one_job, max_size=12).map(numbered)


def subjects_of(project):
    return [name for key in "xy" for name in subject_names(key + project, project)]


def read(jobs, wrong=()):
    """What the store and the ledger say; `wrong` are (subject, window, by how much)."""
    counts = {subject: dict.fromkeys(Window, 0) for project in (PROJECT, OTHER) for subject in subjects_of(project)}
    for job in jobs:
        for subject in subject_names(job.key + job.project, job.project):
            counts[subject][Window.IMAGES_TODAY] += job.counted * (job.began == "today")
            counts[subject][Window.IMAGES_THIS_MONTH] += job.counted * (job.began != "earlier")
            counts[subject][Window.SPEND_THIS_MONTH] += job.counted * (job.began != "earlier") * job.price
    for subject, window, amount in wrong:
        counts[subject][window] += amount
    shards = {}
    for project in (PROJECT, OTHER):
        mine = [job for job in jobs if job.project == project]
        shards[shard_of(project)] = ShardCounts(
            moment=NOW,
            counts={name: counts[name] for name in subjects_of(project)},
            open=[job.opened for job in mine if job.stage.startswith("held")],
            waiting=[job.line for job in mine if job.stage.startswith("waiting")],
        )
    return shards, ledger_of(jobs)


def ledger_of(jobs):
    """The ledger as it is read after the store."""
    unsaid = {job.line.event_id for job in jobs if "abandoned" in job.stage}
    written = [
        replace(job.line, outcome=Outcome.ABANDONED, pictures=0, price=0) if job.line.event_id in unsaid else job.line
        for job in jobs
        if job.stage not in {"waiting", "held"}
    ]
    asked = {job.line.event_id for job in jobs if job.stage.startswith(("held", "waiting"))}
    used = [(line.time, Used(line.project_id, line.key_id, line.pictures, line.price)) for line in written]
    return LedgerCounts(
        day=DAY,
        month=MONTH,
        today=[one for time, one in used if time >= DAY],
        this_month=[one for time, one in used if time >= MONTH],
        lines=[line for line in written if line.time >= NOW or line.event_id in asked],
    )


@given(jobs=jobs)
def test_a_store_that_counts_right_shows_no_difference(jobs):
    assert count_differences(*read(jobs)) == []


@given(
    jobs=jobs,
    subject=st.sampled_from(SUBJECTS),
    window=st.sampled_from(list(Window)),
    by=st.integers(-(10**9), 10**9).filter(bool),
)
def test_what_is_wrong_is_found_alone_and_exactly(jobs, subject, window, by):
    [found] = count_differences(*read(jobs, [(subject, window, by)]))
    assert (found.subject, found.window, found.change) == (subject, window, -by)


JOB = Job(0, PROJECT, "x", "today", 2, 2, 100_000, "in the ledger")


def test_a_counter_that_is_no_number_is_to_be_made_anew():
    shards, ledger = read([JOB])
    shards[shard_of(PROJECT)].counts[KEY][Window.IMAGES_TODAY] = None
    [found] = count_differences(shards, ledger)
    assert (found.counted, found.ledger, found.change) == (None, 2, 2)


def test_a_difference_that_does_not_stay_the_same_is_none():
    key, project = ((subject, Window.IMAGES_TODAY) for subject in SUBJECTS)
    before = count_differences(*read([], [(*key, 5), (*project, 1)]))
    now = count_differences(*read([JOB], [(*key, 5), (*project, 2)]))
    assert [one.subject for one in lasting(before, now)] == [KEY]
