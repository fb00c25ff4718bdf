"""The form of a key, its checksum and digest, and the derivation of secrets."""

import hashlib
import hmac
import string
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import ModelNotAllowed
from gateway.domain.keys import ALPHABET, PREFIX, caller_of, compose, derive, digest, id_of
from gateway.domain.quota import Limits
from tests.builders import NOW, a_caller, a_project, a_secret, a_stored_key

ids = st.text(ALPHABET, min_size=12, max_size=12)
randoms = st.text(ALPHABET, min_size=32, max_size=32)
secrets = st.builds(compose, ids, randoms)


def hkdf(master, info, length, salt=b""):
    """RFC 5869 with SHA-256, as its sections 2.2 and 2.3 write it."""
    key = hmac.new(salt or b"\0" * 32, master, hashlib.sha256).digest()
    block, output = b"", b""
    while len(output) < length:
        block = hmac.new(key, block + info + bytes([len(output) // 32 + 1]), hashlib.sha256).digest()
        output += block
    return output[:length]


def test_the_alphabet_is_base_62():
    assert sorted(ALPHABET) == sorted(string.digits + string.ascii_letters)


@given(key_id=ids, random=randoms)
def test_the_id_comes_back_out_of_a_key(key_id, random):
    secret = compose(key_id, random)
    assert secret.startswith(f"sk-glm-{key_id}{random}")
    assert len(secret) == len("sk-glm-") + 12 + 32 + 6
    assert set(secret[len(PREFIX) :]) <= set(ALPHABET)
    assert id_of(secret) == key_id


@given(secret=secrets, data=st.data())
def test_one_wrong_character_is_noticed(secret, data):
    place = data.draw(st.integers(0, len(secret) - 1))
    other = data.draw(st.sampled_from(ALPHABET + "-_ \u00e9\n").filter(lambda char: char != secret[place]))
    assert id_of(secret[:place] + other + secret[place + 1 :]) is None


@given(secret=secrets, data=st.data())
def test_two_swapped_characters_are_noticed(secret, data):
    one, other = sorted(data.draw(st.lists(st.integers(0, len(secret) - 1), min_size=2, max_size=2, unique=True)))
    swapped = secret[:one] + secret[other] + secret[one + 1 : other] + secret[one] + secret[other + 1 :]
    assert id_of(swapped) == (id_of(secret) if swapped == secret else None)


@given(secret=secrets, place=st.integers(0, 56))
def test_a_missing_or_doubled_character_is_noticed(secret, place):
    assert id_of(secret[:place] + secret[place + 1 :]) is None
    assert id_of(secret[:place] + secret[place] + secret[place:]) is None


@pytest.mark.parametrize(
    "text", ["", "sk-glm-", "sk-proj-abc", "sk-admin-" + "a" * 50, "\u00e9" * 57, "sk-glm-" + "0" * 50]
)
def test_other_keys_are_none_of_ours(text):
    assert id_of(text) is None


@pytest.mark.parametrize("around", [" {}", "{} ", "{}\n", "Bearer {}", "{}\0"])
def test_a_key_stands_alone(around):
    assert id_of(around.format(a_secret())) is None


@given(text=st.text())
def test_any_text_is_judged_without_failing(text):
    assert id_of(text) is None


def test_a_digest_is_stable_and_depends_on_both():
    """A changed digest would lock out every key that was ever handed out."""
    known = "f9fb51ad4b34c4672e14843b354bd8a22bcce98c917b899d35b15d790649d0b2"  # HMAC-SHA-256
    assert digest(b"pepper", "sk-glm-x").hex() == known
    assert digest(b"other", "sk-glm-x").hex() != known
    assert digest(b"pepper", "sk-glm-y").hex() != known


def test_derive_is_rfc_5869s_own_example():
    """Appendix A.3: SHA-256, no salt, no info; the first block of its output."""
    known = "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"
    assert derive(b"\x0b" * 22, "").hex() == known
    assert hkdf(b"\x0b" * 22, b"", 42).hex() == known + "9d201395faa4b61a96c8"


@given(master=st.binary(min_size=1, max_size=100), label=st.text(max_size=50))
def test_derive_is_hkdf(master, label):
    assert derive(master, label) == hkdf(master, label.encode(), 32)


def test_every_use_has_a_secret_of_its_own():
    assert len({derive(b"master", label) for label in ("key-digest", "end-user", "signed-url")}) == 3
    assert derive(b"one", "key-digest") != derive(b"two", "key-digest")


ARCHIVED = a_project(archived_at=NOW)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "active"),
        ({"expires_at": NOW + SECOND}, "active"),
        ({"expires_at": NOW}, "expired"),
        ({"expires_at": NOW - SECOND}, "expired"),
        ({"revoked_at": NOW}, "revoked"),
        ({"revoked_at": NOW, "expires_at": NOW + timedelta(days=1)}, "revoked"),
        ({"revoked_at": NOW, "expires_at": NOW - SECOND, "project": ARCHIVED}, "revoked"),
        ({"project": ARCHIVED}, "archived"),
        ({"project": ARCHIVED, "expires_at": NOW - SECOND}, "archived"),
    ],
)
def test_a_key_is_active_until_it_expires_or_is_revoked_or_its_project_is_archived(changes, state):
    assert a_stored_key(**changes).state(NOW) == state


@pytest.mark.parametrize(
    ("changes", "digests"),
    [
        ({}, (b"new",)),
        ({"previous_digest": b"old", "previous_until": NOW + SECOND}, (b"new", b"old")),
        ({"previous_digest": b"old", "previous_until": NOW}, (b"new",)),
        ({"previous_digest": b"old", "previous_until": NOW - SECOND}, (b"new",)),
        ({"previous_digest": b"old"}, (b"new",)),
        ({"previous_until": NOW + SECOND}, (b"new",)),
    ],
)
def test_the_old_secret_is_the_keys_until_its_end(changes, digests):
    assert a_stored_key(digest=b"new", **changes).digests(NOW) == digests


def test_a_caller_is_its_key_and_project():
    limits, others = Limits(images_per_day=1), Limits(concurrent=2, shadow=True)
    project = a_project(id="proj_1", name="one", limits=others)
    changes = {"limits": limits, "cache_scope": "shared", "unwatermarked_allowed": True, "name": "mine"}
    assert caller_of(a_stored_key(project=project, **changes)) == a_caller(
        project_id="proj_1",
        project_name="one",
        key_name="mine",
        key_limits=limits,
        project_limits=others,
        cache_scope="shared",
        unwatermarked_allowed=True,
    )
    assert caller_of(a_stored_key()) == a_caller()


@pytest.mark.parametrize(
    ("of_key", "of_project", "allowed"),
    [
        ((), (), {"a", "b", "c"}),
        (("a", "b"), (), {"a", "b"}),
        ((), ("b", "c"), {"b", "c"}),
        (("a", "b"), ("b", "c"), {"b"}),
        (("a",), ("c",), set()),
    ],
)
def test_a_model_has_to_be_allowed_by_key_and_project(of_key, of_project, allowed):
    caller = caller_of(a_stored_key(models=of_key, project=a_project(models=of_project)))
    assert {model for model in "abc" if caller.allows(model)} == allowed
    for model in "abc":
        if model in allowed:
            caller.require(model, "dall-e-3")
        else:
            with pytest.raises(ModelNotAllowed, match="`default` does not have access to model `dall-e-3`") as failure:
                caller.require(model, "dall-e-3")
            assert failure.value.param == "model"


def test_a_key_is_shown_by_its_ends():
    secret = a_secret()
    key = a_stored_key(secret)
    assert key.redacted == f"{secret[:11]}...{secret[-4:]}"
