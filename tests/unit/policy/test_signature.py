"""policy.signature: the Standard Webhooks scheme, against the vector that its libraries share."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.signature import NotGenuine, parse_signing_keys, sign, verify

# From the test suites of the specification's own libraries (standard-webhooks/standard-webhooks, libraries/).
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

KEYS = parse_signing_keys(SECRET)
OTHER = parse_signing_keys("whsec_" + base64.b64encode(b"o" * 32).decode())
GENUINE = {"webhook-id": ID, "webhook-timestamp": str(TIMESTAMP), "webhook-signature": SIGNATURE}


def test_a_message_is_signed_as_the_specification_does() -> None:
    """Its published vector."""
    assert sign(KEYS, ID, TIMESTAMP, BODY) == GENUINE


def test_each_key_signs_so_that_keys_can_change() -> None:
    """A list with blanks between; a receiver needs only one of them."""
    fields = sign([*OTHER, *KEYS], ID, TIMESTAMP, BODY)
    first, second = fields["webhook-signature"].split(" ")
    assert second == SIGNATURE != first
    for keys in (KEYS, OTHER):
        verify(keys, fields, BODY, TIMESTAMP)


def test_without_a_key_there_is_no_signature() -> None:
    """Id and time are there all the same."""
    assert sign((), ID, TIMESTAMP, BODY) == {"webhook-id": ID, "webhook-timestamp": str(TIMESTAMP)}


@pytest.mark.parametrize("bad", ["", "a.b", "a b", "ü", "x" * 257])
def test_an_id_that_makes_unclear_what_is_signed_is_refused(bad: str) -> None:
    """The full stop is what stands between the parts."""
    with pytest.raises(ValueError, match="no id of a message"):
        sign(KEYS, bad, TIMESTAMP, BODY)


@pytest.mark.parametrize("listed", [f"v1,abc {SIGNATURE}", f"v2,xyz {SIGNATURE} v1a,xyz", SIGNATURE])
def test_a_genuine_message_is_found_genuine(listed: str) -> None:
    """Among other signatures, and other versions."""
    verify(KEYS, GENUINE | {"webhook-signature": listed}, BODY, TIMESTAMP)


@pytest.mark.parametrize(
    ("changed", "body", "now"),
    [
        ({}, BODY + b" ", TIMESTAMP),
        ({"webhook-id": "msg_other"}, BODY, TIMESTAMP),
        ({"webhook-timestamp": str(TIMESTAMP + 1)}, BODY, TIMESTAMP),
        ({"webhook-timestamp": "hello"}, BODY, TIMESTAMP),
        ({"webhook-timestamp": "-1"}, BODY, TIMESTAMP),
        ({"webhook-timestamp": ""}, BODY, TIMESTAMP),
        ({"webhook-id": ""}, BODY, TIMESTAMP),
        ({"webhook-signature": ""}, BODY, TIMESTAMP),
        ({"webhook-signature": "v1,"}, BODY, TIMESTAMP),
        ({"webhook-signature": SIGNATURE[:8]}, BODY, TIMESTAMP),
        ({"webhook-signature": SIGNATURE.removeprefix("v1,")}, BODY, TIMESTAMP),
        ({"webhook-signature": SIGNATURE.replace("v1,", "v2,")}, BODY, TIMESTAMP),
        ({"webhook-signature": "v1,ü"}, BODY, TIMESTAMP),
        ({}, BODY, TIMESTAMP + 301),
        ({}, BODY, TIMESTAMP - 301),
    ],
)
def test_anything_else_is_not(changed: dict[str, Any], body: bytes, now: float) -> None:
    """Body, id, time and signature belong together, and the time is now."""
    with pytest.raises(NotGenuine):
        verify(KEYS, GENUINE | changed, body, now)


def test_a_message_within_the_tolerance_is_recent() -> None:
    """Five minutes, both ways, unless the receiver says otherwise."""
    for now in (TIMESTAMP - 300, TIMESTAMP + 300):
        verify(KEYS, GENUINE, BODY, now)
    with pytest.raises(NotGenuine, match="more than 10 s"):
        verify(KEYS, GENUINE, BODY, TIMESTAMP + 11, tolerance=10)


def test_a_message_by_another_key_is_not_genuine() -> None:
    """Nor is any, for a receiver without keys."""
    for keys in (OTHER, ()):
        with pytest.raises(NotGenuine, match="no signature by a known key"):
            verify(keys, GENUINE, BODY, TIMESTAMP)


@given(st.binary(), st.integers(0, 2**33), st.binary(min_size=16, max_size=64))
def test_what_is_signed_is_genuine(body: bytes, timestamp: int, key: bytes) -> None:
    """Any body at any time."""
    verify([key], sign([key], ID, timestamp, body), body, timestamp)


# -- keys -----------------------------------------------------------------------------------------------------------


def test_keys_are_listed_with_commas() -> None:
    """Base64 behind `whsec_`; any other text is a key as it stands."""
    assert parse_signing_keys(f" {SECRET} , a plain secret of mine") == (*KEYS, b"a plain secret of mine")
    assert parse_signing_keys("  ") == ()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("too short", 1),
        (f"{SECRET},", 2),
        (f"{SECRET},whsec_*not*base64*at*all*really*no*", 2),
        ("whsec_" + base64.b64encode(b"x" * 23).decode(), 1),
        ("whsec_" + base64.b64encode(b"x" * 65).decode(), 1),
    ],
)
def test_a_key_that_cannot_be_used_is_named_by_its_place(text: str, place: int) -> None:
    """And not quoted: it may be a real one with a typing error."""
    with pytest.raises(ValueError, match=f"webhook key {place}") as caught:
        parse_signing_keys(text)
    assert not any(part and part in str(caught.value) for part in text.replace("whsec_", "").split(","))
