"""The floor of every ratio: uvicorn with an ASGI application that reads JSON and answers JSON. `PORT` as argument."""

import sys

import msgspec
import uvicorn


class Asked(msgspec.Struct):
    prompt: str
    model: str = ""


class Answer(msgspec.Struct):
    created: int
    url: str


_decode, _encode = msgspec.json.Decoder(Asked).decode, msgspec.json.Encoder().encode


async def hello(scope, receive, send):
    """Answer with what an answer of the gateway has at the least."""
    if scope["type"] != "http":
        return
    if scope["method"] == "GET":  # whoever waits for it to be there
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        return
    message = await receive()
    asked = _decode(message["body"])
    content = _encode(Answer(created=len(asked.prompt), url="http://127.0.0.1/picture.png"))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


if __name__ == "__main__":
    options = {"loop": "uvloop", "http": "httptools", "lifespan": "off", "access_log": False, "log_level": "error"}
    uvicorn.run(hello, host="127.0.0.1", port=int(sys.argv[1]), backlog=4096, **options)
