"""The host of the pictures: links that expire, and everything that such hosts were seen to do (section 6)."""

import asyncio
from collections.abc import Iterator, Mapping

from litestar.types import ASGIApp

from gateway.simulator import faults
from gateway.simulator.answers import Answer, Headers, as_json, whole
from gateway.simulator.drawing import as_jpeg, heavier
from gateway.simulator.links import Links
from gateway.simulator.state import State

_PNG = "image/png"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHUNK = 65_536
_PIECES = 20
_REDIRECTED = "redirected"
_PAGE = b"<!doctype html><title>Oops</title><p>This is not the picture you are looking for."


async def fetch(state: State, links: Links, name: str, query: Mapping[str, str], *, authorized: bool) -> ASGIApp:
    """Answers a GET for a picture; needs no key, but notices when one was sent."""
    found = state.gallery.find(name)
    if found is None:
        return _not_found()
    picture, png = found
    picture.fetches += 1
    picture.authorized_fetches += authorized
    if not links.admits(name, query):
        return _forbidden()

    def applies(fault: faults.CdnFault) -> bool:
        return not (isinstance(fault, faults.Redirect) and fault.location is None and _REDIRECTED in query)

    fault = state.switchboard.take(faults.CdnFault, picture.prompt, picture.key_id, applies)
    if fault is None:
        return whole(png, content_type=_PNG, headers=_disposition(query))
    if isinstance(fault, faults.JpegAsPng):
        return whole(await asyncio.to_thread(as_jpeg, png), content_type=_PNG)
    if isinstance(fault, faults.Redirect):
        return _redirect(fault.location or f"{picture.url}&{_REDIRECTED}=1")
    return _refuse(fault) or _misbehave(fault, png)


def _refuse(fault: faults.CdnFault) -> Answer | None:
    match fault:
        case faults.NotFoundThenOk():
            return _not_found()
        case faults.ExpiredSignature():
            return _forbidden()
        case _:
            return None


def _misbehave(fault: faults.CdnFault, png: bytes) -> Answer:
    match fault:
        case faults.NoContentType():
            return whole(png, content_type=None)
        case faults.NotAnImage():
            return whole(_PAGE, content_type=fault.content_type)
        case faults.Heavy():
            return whole(heavier(png, fault.size), content_type=_PNG)
        case faults.Oversize():
            return _oversize(fault)
        case faults.SlowCdn():
            return _slow(fault, png)
        case faults.CdnCut():
            return Answer(content_type=_PNG, pieces=(png[: len(png) // 2],), length=len(png))
        case _:
            raise NotImplementedError(fault)


def _redirect(location: str) -> Answer:
    return whole(b"", status=302, content_type=None, headers=(("location", location),))


def _not_found() -> Answer:
    return as_json({"RetCode": -148654, "ErrMsg": "file not exist"}, status=404)


def _forbidden() -> Answer:
    """Status 403; its words are not documented."""
    return as_json({"RetCode": -1, "ErrMsg": "signature does not match or has expired"}, status=403)


def _slow(fault: faults.SlowCdn, png: bytes) -> Answer:
    step = -(-len(png) // _PIECES)
    pieces = tuple(png[start : start + step] for start in range(0, len(png), step))
    return Answer(content_type=_PNG, pieces=pieces, length=len(png), pause=fault.seconds / len(pieces))


def _oversize(fault: faults.Oversize) -> Answer:
    return Answer(content_type=_PNG, pieces=_zeros(fault.size), length=fault.size if fault.declared else None)


def _zeros(size: int) -> Iterator[bytes]:
    """The first bytes of a PNG, then zeros, made as they are read."""
    yield _PNG_SIGNATURE
    left = size - len(_PNG_SIGNATURE)
    while left:
        piece = min(left, _CHUNK)
        yield bytes(piece)
        left -= piece


def _disposition(query: Mapping[str, str]) -> Headers:
    attachment = query.get("ufileattname")
    return () if attachment is None else (("content-disposition", f'attachment; filename="{attachment}"'),)
