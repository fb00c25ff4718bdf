"""Downloads under way are never lost to a full disk, and leave nothing behind."""

import hashlib
import os
import resource
import subprocess
import sys
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.glm.drafts import Drafts, open_drafts
from tests.servers import ROOT, environment, wait_until


@contextmanager
def largest_file(size):
    """Let this process write no larger files: what a full disk does in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def check(draft, content):
    assert draft.content() == content
    assert (draft.bytes, draft.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    with draft.view() as seen:
        assert bytes(seen[: len(content) + 1]) == content


def test_a_draft_is_a_file_until_its_block_ends(tmp_path):
    with open_drafts(tmp_path) as drafts:
        with drafts.draft() as draft:
            draft.write(b"one")
            draft.write(b"two")
            check(draft, b"onetwo")
            assert draft.path.read_bytes() == b"onetwo"
            path = draft.path
        assert not path.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize("room", [0, 1, 99_999, 100_000, 100_001, 250_000])
def test_a_disk_that_fills_up_costs_no_byte(tmp_path, room):
    content = os.urandom(300_000)
    with open_drafts(tmp_path) as drafts, drafts.draft() as draft:
        with largest_file(room):
            for place in range(0, len(content), 100_000):
                draft.write(content[place : place + 100_000])
        assert draft.path is None
        check(draft, content)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "lock"] == []


@given(pieces=st.lists(st.binary(max_size=20), max_size=8))
def test_without_a_folder_everything_is_in_memory(pieces):
    with Drafts(None).draft() as draft:
        for piece in pieces:
            draft.write(piece)
        assert draft.path is None
        check(draft, b"".join(pieces))


def test_a_folder_that_cannot_be_made_or_is_gone_is_done_without(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with open_drafts(tmp_path / "file") as drafts, drafts.draft() as draft:
        draft.write(b"fox")
        check(draft, b"fox")
    with open_drafts(tmp_path / "here") as drafts:
        (tmp_path / "here").rename(tmp_path / "there")
        with drafts.draft() as draft:
            draft.write(b"fox")
            check(draft, b"fox")


CHILD = """
import sys, time
from pathlib import Path
from gateway.adapters.glm.drafts import open_drafts
with open_drafts(Path(sys.argv[1])) as drafts, drafts.draft() as draft:
    draft.write(b"half a picture")
    time.sleep(600)
"""


def test_what_a_killed_process_left_goes_at_the_next_start_and_what_a_living_one_has_stays(tmp_path):
    def halves():
        return [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"half a picture"]

    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    children = [subprocess.Popen(command, cwd=ROOT, env=environment()) for _ in range(2)]
    try:
        wait_until(lambda: len(halves()) == 2, what="both downloads")
        children[0].kill()
        children[0].wait()
        assert len(halves()) == 2
        with open_drafts(tmp_path):
            assert len(halves()) == 1
            assert children[1].poll() is None
    finally:
        for child in children:
            child.kill()
            child.wait()
