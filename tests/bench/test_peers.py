"""Peers that are not installed, or not wholly: the bench is told, instead of a start that fails."""

import pytest

from tests.bench import peers


@pytest.mark.parametrize("written", [None, "half of it"])
@pytest.mark.parametrize(
    ("home", "mark", "peer"),
    [("LITELLM", ".installed-litellm.lock", peers.litellm), ("PORTKEY", ".installed", peers.portkey)],
)
def test_what_is_missing_is_told_with_the_way_to_install_it(tmp_path, monkeypatch, home, mark, peer, written):
    monkeypatch.setattr(peers, home, tmp_path)
    if written:
        (tmp_path / mark).write_text(written, "utf-8")
    upstream = peers.Upstream(url="http://127.0.0.1:1", pid=0)
    with pytest.raises(peers.Missing, match=r"run \.ci/setup bench"), peer(tmp_path, upstream):
        pass
