"""Signed webhooks by the Standard Webhooks specification, version 1.0.0, with symmetric keys (`v1`, HMAC-SHA256).

Signed is `ID.TIMESTAMP.BODY`. There is a signature for each key, so that a receiver finds its own while keys change.
The time is passed in, in seconds since the epoch. https://github.com/standard-webhooks/standard-webhooks
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

PREFIX = "whsec_"
TOLERANCE = 300.0  # seconds that a message may be old, or ahead of the receiver's clock
_KEY_BYTES = range(24, 65)  # "at least 24 bytes (192 bits, 512 maximum)"
_SHORTEST = 16  # characters of a secret in plain text
_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")  # a full stop would make it unclear what is signed
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


class NotGenuine(ValueError):
    """A message whose signature, or whose time, does not show that it is from whoever has the key."""


def parse_signing_keys(text: str) -> tuple[bytes, ...]:
    """The keys of a comma-separated list; none for an empty text.

    `whsec_` and base64 (24 to 64 bytes), or any other text of at least 16 characters, whose bytes in UTF-8 are the key.
    ValueError says which one is wrong by its place, and never quotes any of it.
    """
    if not text.strip():
        return ()
    return tuple(_parse_key(each.strip(), place) for place, each in enumerate(text.split(","), 1))


def _parse_key(text: str, place: int) -> bytes:
    if not text.startswith(PREFIX):
        if len(text) < _SHORTEST:
            raise ValueError(f"webhook key {place}: a secret has at least {_SHORTEST} characters")
        return text.encode()
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""  # what the decoder says may quote its input
    if len(key) not in _KEY_BYTES:
        raise ValueError(
            f"webhook key {place}: behind {PREFIX} stand 24 to 64 bytes in base64: make one with "
            "`openssl rand -base64 32`"
        )
    return key


def sign(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The header fields of a message; without keys all but the signature. ValueError for an id that cannot be signed.

    `message_id` stays the same each time the message is sent, `timestamp` is when it is sent this time.
    """
    if not _ID.fullmatch(message_id):
        raise ValueError(f"{message_id!r} is no id of a message: it has 1 to 256 letters, digits, `_` and `-`")
    fields = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
    if keys:
        signed = " ".join(f"v1,{_signature(key, message_id, str(timestamp), body)}" for key in keys)
        fields["webhook-signature"] = signed
    return fields


def verify(
    keys: Sequence[bytes], headers: Mapping[str, str], body: bytes, now: float, tolerance: float = TOLERANCE
) -> None:
    """NotGenuine unless one of the signatures is by one of the keys, and the message is recent.

    `headers` has lower-case names. Signatures of other versions than `v1` are passed over.
    """
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not _ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(timestamp):
        raise NotGenuine("no webhook-id or no webhook-timestamp, or one that is not well-formed")
    if abs(now - int(timestamp)) > tolerance:
        raise NotGenuine(f"sent more than {tolerance:g} s ago, or ahead of its time")
    expected = [_signature(key, message_id, timestamp, body).encode() for key in keys]
    listed = headers.get("webhook-signature", "").split()
    given = [each.removeprefix("v1,").encode() for each in listed if each.startswith("v1,")]
    # Every pair is compared: how long it takes says nothing of which one fits.
    if not sum(hmac.compare_digest(ours, theirs) for ours in expected for theirs in given):
        raise NotGenuine("no signature by a known key")


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> str:
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return base64.b64encode(digest).decode()
