"""The shape of the code: imports point inwards, files and functions stay readable."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT, environment

LONGEST_FILE = 300
LONGEST_FUNCTION = 45
FILES = sorted((ROOT / "gateway").rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in FILES]


def test_imports_keep_the_contracts():
    """design.md section 2; the contracts stand in pyproject.toml."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_there_is_something_to_look_at():
    assert len(FILES) > 50


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_file_is_not_too_long(path):
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST_FILE


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_a_function_is_not_too_long(path):
    long = [
        f"{node.name} ({node.end_lineno - node.lineno + 1} lines)"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno - node.lineno + 1 > LONGEST_FUNCTION
    ]
    assert long == []
