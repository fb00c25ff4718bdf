"""A folder that cannot be had is said to be so, whatever the system says of it."""

from pathlib import Path

import pytest

from gateway.adapters.store.objects import Disk
from gateway.service.picture_ports import PictureStoreDown


@pytest.mark.parametrize("below", ["/proc", __file__], ids=["none may be made there", "a file is above it"])
def test_a_folder_that_cannot_be_made(below):
    with pytest.raises(PictureStoreDown, match=Path(below).name):
        Disk(Path(below) / "pictures", room=0)
