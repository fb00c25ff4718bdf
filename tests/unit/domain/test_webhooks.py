"""What an operator may write about a webhook, and when a delivery is tried again."""

from datetime import timedelta
from itertools import pairwise

import pytest

from gateway.domain.errors import InvalidValue
from gateway.domain.webhooks import TRIES, parse_thresholds, parse_url, wait_before


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/a?token=b",
        "https://8.8.8.8:8443/",
        "https://[2606:4700::1111]/x",
        "https://[64:ff9b::808:808]/",
    ],
)
def test_a_public_https_url_is_taken(url):
    assert parse_url(url, allow_private=False) == url


PRIVATE = [
    "http://hooks.example.com/",
    "https://127.0.0.1/",
    "https://10.1.2.3/",
    "https://[::1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[fe80::1%25eth0]/",
    "https://169.254.169.254/latest/meta-data",
    "https://127.1/",
    "https://2130706433/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[2002:a00:1::]/",
    "https://224.0.0.1/",
    "https://[ff02::1]/",
    "https://localhost/",
    "https://localhost./",
    "https://printer.localhost/",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_what_may_be_inside_the_operators_network_needs_the_setting(url):
    with pytest.raises(InvalidValue, match="allow_private_hosts"):
        parse_url(url, allow_private=False)
    assert parse_url(url, allow_private=True) == url


@pytest.mark.parametrize(
    "url",
    [
        *("", "hooks.example.com", "ftp://hooks.example.com/", "https://", "https://user:word@hooks.example.com/"),
        *("https://hooks.example.com/a b", "https://hooks.example.com/\0", "https://hooks.example.com:99999/"),
        *("https://[::1/", "https://例子.中国/", "https://hooks.example.com/" + "a" * 2000),
    ],
)
def test_what_is_no_url_is_refused(url):
    with pytest.raises(InvalidValue):
        parse_url(url, allow_private=True)


def test_thresholds_are_sorted_and_each_is_there_once():
    assert parse_thresholds("100, 50,80,50") == (50, 80, 100)


@pytest.mark.parametrize("word", ["", "0", "50,", "-1", "1001", "5.5", "a", ",".join(map(str, range(1, 12)))])
def test_what_are_no_thresholds_is_refused(word):
    with pytest.raises(InvalidValue):
        parse_thresholds(word)


def test_all_tries_take_about_a_day():
    waits = [wait_before(number, chance=0.5) for number in range(2, TRIES + 1)]
    assert (len(waits), waits[0]) == (7, timedelta(seconds=5))
    assert all(later > earlier for earlier, later in pairwise(waits))
    assert timedelta(hours=20) < sum(waits, timedelta()) < timedelta(hours=30)


def test_waits_differ_by_chance():
    assert wait_before(2, chance=0.0) == timedelta(seconds=4)
    assert wait_before(2, chance=1.0) == timedelta(seconds=6)
