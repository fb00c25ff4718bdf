"""An upstream that answers at once and costs next to nothing: `python -m tests.bench.upstream --port N [--latency S]`.

It speaks GLM's words at `/api/paas/v4/images/generations`, OpenAI's at `/v1/images/generations`, and looks at neither
key nor order. Every answer names a picture of its own: a real PNG of 2 MB that differs from all others in one label,
so that nothing which knows pictures by their content has less to do than with real ones. `GET /stats` counts. It runs
on one core, which the caller chooses; `--latency` is what a generation takes, for as many at once as come.
"""

import argparse
import asyncio
import io
import json
import random
import resource
import signal
import struct
import time
import zlib

import httptools
import uvloop
from PIL import Image

SIDE = 1280
BACKLOG = 4096  # thousands connect at once
DIGITS = 12  # of a picture's number: every answer has the same length
GLM, OPENAI = b"/api/paas/v4/images/generations", b"/v1/images/generations"
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
_IEND = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


def noise():
    """Draw a PNG of about 2 MB, without its end: six shades of each colour at random, which nothing packs much."""
    shades = bytes(byte % 6 * 41 for byte in range(256))
    pixels = random.Random(8).randbytes(3 * SIDE * SIDE).translate(shades)  # noqa: S311 - not a secret
    file = io.BytesIO()
    Image.frombytes("RGB", (SIDE, SIDE), pixels).save(file, "PNG", compress_type=zlib.Z_HUFFMAN_ONLY)  # in 0.2 s
    return file.getvalue().removesuffix(_IEND)


def label(number):
    """Write the chunk that makes a picture differ from all others."""
    chunk = b"tEXtpicture\0" + number
    return struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))


def head(kind, length):
    """Write the head of a success."""
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n" % (kind, length)


class Answers:
    """What is answered, written out beforehand but for the number, and how often."""

    def __init__(self, origin, latency):
        self.latency = latency
        self.calls = self.pictures = 0
        self._noise = noise()
        self._picture_head = head(b"image/png", len(self._noise) + len(label(bytes(DIGITS))) + len(_IEND))
        url, made = f"{origin}/picture.png?", {"created": int(time.time())}
        ids = dict.fromkeys(("id", "request_id"), "20260115122823" + "0123456789abcdef")
        self._orders = {GLM: _parted(made | ids, url), OPENAI: _parted(made, url)}

    def order(self, path):
        """Answer an order; None where no orders are taken."""
        parts = self._orders.get(path)
        if parts is None:
            return None
        self.calls += 1
        return b"%b%012d%b" % (parts[0], self.calls, parts[1])

    def get(self, path):
        """Answer the parts of a picture or of the counts."""
        if path.startswith(b"/picture.png"):
            self.pictures += 1
            number = path.partition(b"?")[2][:DIGITS].rjust(DIGITS, b"0")
            return self._picture_head, self._noise, label(number) + _IEND
        if path == b"/stats":
            body = json.dumps({"calls": self.calls, "pictures": self.pictures}).encode()
            return head(b"application/json", len(body)), body
        return (NOT_FOUND,)


def _parted(body, url):
    """Write an answer in two parts, between which the number of its picture belongs."""
    content = json.dumps(body | {"data": [{"url": url + "0" * DIGITS}]}).encode()
    before, _, after = (head(b"application/json", len(content)) + content).rpartition(b"0" * DIGITS)
    return before, after


class Connection(asyncio.Protocol):
    """One client's connection. The parser's callbacks are few on purpose: it calls no others."""

    def __init__(self, answers):
        self._answers = answers
        self._path = b""

    def connection_made(self, transport):
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._later = asyncio.get_running_loop().call_later

    def data_received(self, data):
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self):
        self._path = b""

    def on_url(self, url):
        self._path += url

    def on_message_complete(self):
        lasts = self._parser.should_keep_alive()
        if self._parser.get_method() == b"GET":
            self._write(self._answers.get(self._path), lasts)
            return
        answer = self._answers.order(self._path) or NOT_FOUND
        if self._answers.latency:
            self._later(self._answers.latency, self._write, (answer,), lasts)
        else:
            self._write((answer,), lasts)

    def _write(self, parts, lasts):
        if self._transport.is_closing():
            return
        self._transport.writelines(parts)
        if not lasts:
            self._transport.close()


async def serve(port, latency):
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    answers = Answers(f"http://127.0.0.1:{port}", latency)
    await loop.create_server(lambda: Connection(answers), "127.0.0.1", port, backlog=BACKLOG)
    await stop.wait()


def main():
    parser = argparse.ArgumentParser(prog="tests.bench.upstream", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that a generation takes")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(serve(options.port, options.latency))


if __name__ == "__main__":
    main()
