"""The picture store in memory, and what is put into it."""

from pathlib import Path

from gateway.domain.picture_urls import PictureFile
from gateway.service.deliver import InMemory
from gateway.service.picture_ports import PictureGone, PictureStoreDown
from tests.builders import an_image


class FakeDownload:
    """Downloaded bytes; in a file when there is a folder for it."""

    def __init__(self, content, media="png", folder=None, size=(1280, 1280)):
        self.image = an_image(content, media, size)
        self.held = content
        self.path = None
        if folder:
            self.path = Path(folder) / f"{self.image.name}.draft"
            self.path.write_bytes(content)

    async def content(self):
        return self.held


class FakePictureStore:
    """Keeps pictures by name. While it is `down` nothing can be put or read; `known_down` is what usable() has seen.

    The next `refusals` pictures are not taken.
    A rendition is the original with its own name before it.
    """

    def __init__(self):
        self.pictures = {}
        self.down = False
        self.known_down = False
        self.refusals = 0
        self.conversions = []

    def usable(self):
        return not self.known_down

    async def put(self, download):
        self._reach()
        if self.refusals:
            self.refusals -= 1
            raise PictureStoreDown("the disk is full")
        self.pictures[download.image.name] = await download.content()
        return download.image

    async def open(self, image, rendition=None, *, found=False):  # noqa: ARG002 - it looks every time
        return await self.find(PictureFile.of(image, rendition))

    async def find(self, file):
        self._reach()
        if file.name not in self.pictures:
            raise PictureGone(file.name)
        held = self.pictures[file.name]
        if file.quality is not None:
            self.conversions.append(str(file))
            held = f"{file.media} {file.quality}: ".encode() + held
        return InMemory(file=file, held=held)

    def _reach(self):
        if self.down:
            raise PictureStoreDown("the disk is gone")
