"""uvicorn's HTTP protocol with OpenAI's error object for bytes that are no HTTP request."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.api.errors import encode_unreadable


class OpenAIProtocol(HttpToolsProtocol):
    """Answers what never becomes a request, and so reaches no route."""

    def send_400_response(self, msg: str) -> None:
        """Answer and close; `msg` is uvicorn's own text for the log."""
        self.logger.info(msg)
        content = encode_unreadable()
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\n"
            b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(content)
        )
        self.transport.write(head + content)
        self.transport.close()
