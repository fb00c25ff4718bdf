"""uvicorn's HTTP protocol with bounds on what comes before a request, and OpenAI's error object for what is none."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.api.errors import encode_unreadable

LARGEST_HEAD = 64 * 1024  # bytes of request line and headers; usual clients send some hundred
HEAD_SECONDS = 60.0  # from the first byte of a request to the end of its headers
# For the 48 kB between uvicorn's high and low water marks; who reads more slowly holds a picture's bytes for nothing.
UNREAD_SECONDS = 60.0


class OpenAIProtocol(HttpToolsProtocol):
    """Answers what never becomes a request, and so reaches no route."""

    _head_bytes = 0
    _in_head = True
    _head_began = 0.0
    _head_timer: asyncio.TimerHandle | None = None
    _unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it too
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._begin_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._in_head = False
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._end_unread()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read as fast as we write: begin to wait for it."""
        super().pause_writing()
        self._unread_timer = self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        self._end_unread()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        """Count what comes before a request is whole."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD + len(data):
                self._refuse(b"431 Request Header Fields Too Large", "The request's headers are too large.")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Begin to count anew."""
        super().on_message_begin()
        self._begin_head()

    def on_headers_complete(self) -> None:
        """The request is known; its body is bounded by the route."""
        self._in_head = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP; `msg` is uvicorn's own text for the log."""
        self.logger.info(msg)
        self._refuse(b"400 Bad Request", "The request is not valid HTTP.")

    def _begin_head(self) -> None:
        """Count and wait anew. One timer serves all requests of a connection: to set and cancel one takes 2 us."""
        self._in_head, self._head_bytes, self._head_began = True, 0, self.loop.time()
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._look_at_head)

    def _look_at_head(self) -> None:
        self._head_timer = None
        left = self._head_began + HEAD_SECONDS - self.loop.time()
        if self._in_head and left > 0:
            self._head_timer = self.loop.call_later(left, self._look_at_head)
        elif self._in_head:
            self._refuse(b"408 Request Timeout", "The request's headers did not come in time.")

    def _end_unread(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _refuse(self, status: bytes, message: str) -> None:
        """Answer and close."""
        content = encode_unreadable(message)
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nconnection: close\r\n" % status
        self.transport.write(head + b"content-length: %d\r\n\r\n" % len(content) + content)
        self.transport.close()
