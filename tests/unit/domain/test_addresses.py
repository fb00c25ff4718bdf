"""Whose address a request comes from: only trusted proxies are believed, and nobody can pretend to be one."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.addresses import client_address, is_within, parse_address, parse_networks

TRUSTED = parse_networks(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"])
ADDRESS = st.ip_addresses(v=4).map(str)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7 ", "192.0.2.7"),
        ("192.0.2.7:4711", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
    ],
)
def test_an_address_is_read_as_proxies_write_it(text, address):
    assert parse_address(text) == ip_address(address)


@pytest.mark.parametrize("text", ["", "unknown", "_hidden", "localhost", "1.2.3", "1.2.3.4.5", "[", "10.0.0.0/8"])
def test_what_is_no_address(text):
    assert parse_address(text) is None


@given(forwarded=st.lists(ADDRESS), peer=ADDRESS)
def test_without_trusted_proxies_the_peer_counts(forwarded, peer):
    assert client_address(peer, forwarded, ()) == ip_address(peer)


@given(
    forged=st.lists(ADDRESS | st.text()), client=ADDRESS.filter(lambda text: not is_within(ip_address(text), TRUSTED))
)
def test_what_a_client_writes_itself_does_not_count(forged, client):
    assert client_address("10.0.0.1", [*forged, client], TRUSTED) == ip_address(client)
    assert client_address("10.0.0.1", [*forged, client, "192.0.2.1"], TRUSTED) == ip_address(client)
    assert client_address(client, forged, TRUSTED) == ip_address(client)


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ([], "10.0.0.1"),
        (["10.0.0.9"], "10.0.0.9"),  # a client inside the trusted network
        (["10.0.0.9", "10.0.0.2"], "10.0.0.9"),
        (["198.51.100.1", "203.0.113.1"], "203.0.113.1"),
        (["198.51.100.1", "2001:db8::2"], "198.51.100.1"),
    ],
)
def test_the_last_that_is_no_trusted_proxy_counts(forwarded, address):
    assert client_address("10.0.0.1", forwarded, TRUSTED) == ip_address(address)


def test_empty_entries_say_nothing():
    assert client_address("10.0.0.1", ["198.51.100.1", " ", ""], TRUSTED) == ip_address("198.51.100.1")
    assert client_address("10.0.0.1", ["", "198.51.100.1", "", "10.0.0.2"], TRUSTED) == ip_address("198.51.100.1")
    assert client_address("10.0.0.1", [""], TRUSTED) == ip_address("10.0.0.1")


@pytest.mark.parametrize(
    ("word", "network"),
    [
        ("::ffff:192.0.2.9", "192.0.2.9/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_of_mapped_addresses_is_the_one_of_version_4(word, network):
    """Clients' addresses are read in the same way, so that one is within the other."""
    assert parse_networks([word]) == (ip_network(network),)


def test_an_address_that_cannot_be_read_is_nobodys():
    assert client_address("10.0.0.1", ["198.51.100.1", "unknown"], TRUSTED) is None
    assert client_address(None, ["198.51.100.1"], TRUSTED) is None
