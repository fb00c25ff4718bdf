"""A real receiver of webhooks on a loopback port, that checks signatures as receivers do."""

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook

from gateway.domain.projects import DEFAULT_ID
from tests import servers

NO_CONTENT = 204


@dataclass
class Receiver:
    """What came; `answers` are given in their turn, then 200. None hangs until the receiver ends."""

    url: str
    answers: list = field(default_factory=list)
    posts: list = field(default_factory=list)  # (path, headers by lower-case names, body)
    ended: threading.Event = field(default_factory=threading.Event)

    def verified(self, secret):
        """The events that came, each checked with the secret."""
        return [Webhook(secret).verify(body, headers) for _, headers, body in self.posts]

    def ids(self):
        return [headers["webhook-id"] for _, headers, _ in self.posts]


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        receiver = self.server.receiver
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        answer = receiver.answers.pop(0) if receiver.answers else 200
        receiver.posts.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body.decode()))
        if answer is None:
            receiver.ended.wait()
            return
        self.send_response(answer)
        self.send_header("Location", receiver.url + "/elsewhere")
        said = b"" if answer == NO_CONTENT else b"what it says"
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def do_GET(self):
        self.do_POST()

    def log_message(self, *words):
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """Clients may hang up."""


@contextmanager
def receiving(port=0, answers=()):
    """Receive while the block runs."""
    with _Server(("127.0.0.1", port), _Handler) as server:
        server.receiver = Receiver(f"http://127.0.0.1:{server.server_port}", list(answers))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server.receiver
        finally:
            server.receiver.ended.set()
            server.shutdown()
            thread.join()


def ask_webhook(gateway, method="GET", path="", body=None, project=DEFAULT_ID):
    """Ask the administration API for a project's webhook; commands would take a process each."""
    url = f"{gateway.url}/v1/organization/projects/{project}/webhook{path}"
    headers = {"Authorization": f"Bearer {servers.ADMIN_KEY}"}
    status, _, content = servers.http(method, url, body=body, headers=headers)
    return status, json.loads(content)


def deliveries(gateway):
    """The history of the default project's webhook, oldest first."""
    return ask_webhook(gateway, path="/deliveries?limit=100")[1]["data"]
