"""A simulator on a real loopback port, and the words of a plain call to it."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from gateway.simulator import SimulatorOptions, create_simulator

KEY_ID = "0123456789abcdef0123456789abcdef"
KEY = f"{KEY_ID}.AbCdEfGh12345678"
OTHER_KEY = f"{KEY_ID[::-1]}.AbCdEfGh12345678"
BASE = "/api/paas/v4"
SYNC = f"{BASE}/images/generations"
ASYNC = f"{BASE}/async/images/generations"
BEARER = {"Authorization": f"Bearer {KEY}"}


def a_body(**fields: Any) -> dict[str, Any]:
    """A call's body; a field given as None is left out."""
    body = {"model": "glm-image", "prompt": "一只猫", **fields}
    return {name: value for name, value in body.items() if value is not None}


@contextmanager
def serve(options: SimulatorOptions) -> Iterator[str]:
    """Runs a simulator under uvicorn with uvloop and httptools; gives its address."""
    config = uvicorn.Config(
        create_simulator(options), loop="uvloop", http="httptools", log_config=None, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until(lambda: server.started)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def until(holds: Any, seconds: float = 5.0) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.005)
