"""A test that is skipped in CI has not been passed."""

import os
import subprocess
import sys

import pytest

from tests.servers import ROOT

SKIPPED = "import pytest\ndef test_nothing():\n    pytest.skip('for want of a program')\n"


@pytest.mark.parametrize(("ci", "code"), [("true", 1), ("", 0)])
def test_a_skip_fails_in_ci_only(tmp_path, ci, code):
    (tmp_path / "conftest.py").write_text("from tests.conftest import pytest_runtest_makereport", "utf-8")
    (tmp_path / "test_it.py").write_text(SKIPPED, "utf-8")
    env = {**os.environ, "CI": ci, "PYTHONPATH": str(ROOT)}
    options = ["-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout
    assert "for want of a program" in done.stdout or code == 0
