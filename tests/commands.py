"""Commands of glm-gateway in processes of their own that have read it all beforehand: that takes a second each."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["gateway.cli", "tests.commands"])


def run(arguments, env, cwd, timeout):
    """Run a command to its end, as `python -m gateway` would."""
    with tempfile.TemporaryDirectory() as folder:
        said = {number: Path(folder) / str(number) for number in (1, 2)}
        process = _processes.Process(target=_command, args=(arguments, dict(env), str(cwd), said))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout)
        texts = (file.read_text("utf-8") for file in said.values())
        return subprocess.CompletedProcess(arguments, process.exitcode, *texts)


def _command(arguments, env, cwd, said):
    """Become the command: nothing of the tests' own process is here but what was read beforehand."""
    from gateway.__main__ import main  # noqa: PLC0415 - as a new process would

    for number, file in said.items():
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.argv = ["glm-gateway", *arguments]
    main()
