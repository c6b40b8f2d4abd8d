"""Sealing: only who has the key reads it, only in the record it belongs to, and keys never show."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import PoisonRecord
from holdfast.policy.envelope import CapturedRequest, from_json, to_json
from holdfast.policy.redaction import RedactionRules, redact
from holdfast.sealing import Sealer, SealKey, parse_keys, reveal

ID = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
OTHER_ID = "017f22e2-79b0-7cc3-98c4-dc0c0c073990"
KEY = bytes(range(200, 232))
OTHER = bytes(range(32))
B64 = base64.b64encode(KEY).decode()
SECRETS = {"headers": {"authorization": "Bearer x", "cookie": ["a", "b"]}, "body": "AAH/"}
fixed = settings(derandomize=True, deadline=None)


def record(**changes: Any) -> CapturedRequest:
    """A record with secrets in several places."""
    plain = CapturedRequest(
        id=ID,
        timestamp=1.0,
        method="POST",
        uri="/a?token=t",
        path="/a",
        query_string="token=t",
        headers={"authorization": ("x", "y"), "content-type": "application/json"},
        body='{"password": 1.0}',
        remote_addr="192.0.2.7",
        backend_url="http://127.0.0.1:3000",
        error="connection_refused",
        error_reason="refused",
        request_id="r",
        route="a",
    )
    return replace(plain, **changes)


@pytest.mark.parametrize(
    ("text", "kids", "keys"),
    [
        ("", [], []),
        ("  ", [], []),
        (B64, [None], [KEY]),
        (B64.rstrip("="), [None], [KEY]),
        (base64.urlsafe_b64encode(KEY).decode(), [None], [KEY]),
        (KEY.hex(), [None], [KEY]),
        (KEY.hex().upper(), [None], [KEY]),
        (f"2024-a:{B64}", ["2024-a"], [KEY]),
        (f" new:{B64} , old: {OTHER.hex()} ", ["new", "old"], [KEY, OTHER]),
    ],
)
def test_keys_are_read_in_base64_and_hex_with_and_without_names(text: str, kids: list[Any], keys: list[bytes]) -> None:
    """What `openssl rand -base64 32` and `-hex 32` print."""
    parsed = parse_keys(text)
    assert [each.key for each in parsed] == keys
    assert [kid or each.kid for kid, each in zip(kids, parsed, strict=True)] == [each.kid for each in parsed]


def test_a_key_without_a_name_has_the_same_one_everywhere() -> None:
    """Gateway and replayer may write it differently and still mean the same key."""
    assert parse_keys(B64) == parse_keys(KEY.hex())
    assert parse_keys(B64)[0].kid != parse_keys(OTHER.hex())[0].kid


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hunter2hunter2", "seal key 1: .*openssl rand"),
        (f"{B64},", "seal key 2: .*openssl rand"),
        (f"{B64},hunter2!", "seal key 2: is neither base64 nor hex: .*openssl rand"),
        (KEY[:31].hex(), "seal key 1: .*openssl rand"),
        (base64.b64encode(KEY + b"x").decode(), "32 bytes, not 33"),
        (f"hunter2 with space:{B64}", "seal key 1: the name of a seal key"),
        (f":{B64}", "the name of a seal key"),
        (f"{'k' * 65}:{B64}", "the name of a seal key"),
        (f"{B64},{KEY.hex()}", "same name"),
        (f"a:{B64},a:{OTHER.hex()}", "same name"),
    ],
)
def test_a_key_that_is_none_is_refused_without_being_quoted(text: str, message: str) -> None:
    """The message goes to the terminal and the log; it says how to make a key instead."""
    with pytest.raises(ValueError, match=message) as caught:
        parse_keys(text)
    shown = f"{caught.value!r} {caught.value.__cause__!r}"
    assert "hunter2" not in shown
    assert B64[:8] not in shown
    assert KEY.hex()[:8] not in shown


def test_keys_do_not_show() -> None:
    """Neither in a key's own text nor in the sealer's."""
    key = SealKey("a", KEY)
    shown = f"{key!r} {key} {[key]} {Sealer([key])!r}"
    assert "a" in shown
    assert not any(part in shown for part in (repr(KEY)[2:10], KEY.hex(), B64))


def test_without_a_key_there_is_no_sealer() -> None:
    """The caller decides what then happens; it cannot happen by accident."""
    with pytest.raises(ValueError, match="openssl rand"):
        Sealer([])


@fixed
@given(
    st.dictionaries(st.text(), st.text() | st.lists(st.text(alphabet=st.characters())) | st.none(), max_size=4),
    st.binary(min_size=32, max_size=32),
)
def test_what_is_sealed_opens_the_same(secrets: dict[str, object], key: bytes) -> None:
    """Any JSON value, any key."""
    sealer = Sealer([SealKey("k", key)])
    assert sealer.open(ID, json.loads(json.dumps(sealer.seal(ID, secrets)))) == secrets


def test_the_cipher_text_shows_nothing_and_is_never_the_same_twice() -> None:
    """A fresh nonce for every record: one used twice would give the key's stream away."""
    sealer = Sealer([SealKey("k", KEY)])
    one, two = sealer.seal(ID, SECRETS), sealer.seal(ID, SECRETS)
    assert set(one) == {"kid", "nonce", "ciphertext"}
    assert one["nonce"] != two["nonce"]
    assert one["ciphertext"] != two["ciphertext"]
    assert b"Bearer" not in base64.b64decode(one["ciphertext"])


def test_the_first_key_seals_and_all_of_them_open() -> None:
    """Rotation: the new key in front, the old one kept while records under it are left."""
    old, new = SealKey("old", OTHER), SealKey("new", KEY)
    before, after = Sealer([old]), Sealer([new, old])
    assert after.open(ID, before.seal(ID, SECRETS)) == SECRETS
    assert after.seal(ID, SECRETS)["kid"] == "new"
    with pytest.raises(PoisonRecord, match="key 'new', which is not among"):
        before.open(ID, after.seal(ID, SECRETS))


@pytest.mark.parametrize("part", ["nonce", "ciphertext"])
@pytest.mark.parametrize("position", [0, 5, -1])
def test_a_changed_bit_is_noticed(part: str, position: int) -> None:
    """Authenticated encryption: nothing altered is ever replayed."""
    sealer = Sealer([SealKey("k", KEY)])
    sealed = sealer.seal(ID, SECRETS)
    raw = bytearray(base64.b64decode(sealed[part]))
    raw[position] ^= 1
    with pytest.raises(PoisonRecord, match="was changed"):
        sealer.open(ID, {**sealed, part: base64.b64encode(raw).decode()})


@pytest.mark.parametrize(
    "changes",
    [{"nonce": ""}, {"nonce": "AAAA"}, {"nonce": "?"}, {"ciphertext": ""}, {"ciphertext": "\u00e9"}, {"kid": "x"}],
)
def test_a_broken_seal_is_poison_and_nothing_worse(changes: dict[str, str]) -> None:
    """Whatever stands in the record, the consumer quarantines it and goes on."""
    sealer = Sealer([SealKey("k", KEY)])
    with pytest.raises(PoisonRecord):
        sealer.open(ID, {**sealer.seal(ID, SECRETS), **changes})
    with pytest.raises(PoisonRecord):
        sealer.open(ID, {})


def test_a_seal_opens_in_no_other_record() -> None:
    """Moved to another id, read as another schema or under another key's name it is refused."""
    sealer = Sealer([SealKey("k", KEY), SealKey("same", KEY)])
    sealed = sealer.seal(ID, SECRETS)
    for capture_id, changed, schema in ((OTHER_ID, sealed, 1), (ID, sealed, 2), (ID, {**sealed, "kid": "same"}, 1)):
        with pytest.raises(PoisonRecord, match="belongs to another record"):
            sealer.open(capture_id, changed, schema=schema)


def test_a_sealed_record_is_revealed_as_it_was() -> None:
    """Redact, seal, write, read, reveal: field values, query, and the body byte for byte."""
    sealer = Sealer([SealKey("k", KEY)])
    captured = record()
    masked, secrets, names = redact(captured, RedactionRules(json_paths=("$.password",)))
    stored = to_json(replace(masked, sealed=sealer.seal(masked.id, secrets)))
    assert names == ("header:authorization", "body:$.password", "query:token")
    assert b'"x"' not in stored
    assert reveal(from_json(stored), sealer) == captured


def test_a_record_with_nothing_sealed_is_left_alone() -> None:
    """Its `redacted` still says what is missing."""
    sealer = Sealer([SealKey("k", KEY)])
    masked = redact(record(), RedactionRules()).record
    assert reveal(masked, sealer) is masked


def test_what_somebody_with_the_key_sealed_may_still_be_wrong() -> None:
    """A list is no set of secrets."""
    sealer = Sealer([SealKey("k", KEY)])
    with pytest.raises(PoisonRecord, match="holds no secrets"):
        sealer.open(ID, sealer.seal(ID, []))  # type: ignore[arg-type]
