"""Encryption of what redaction takes out of a record: AES-256-GCM under a key that only gateway and replayer have.

A record is published where many can read it; its secrets travel in its field `sealed`, so that a replay can still be
the request that was sent. The cipher text is bound to the capture's id, its schema and the key's name: it opens in no
other record. Nonces are 96 random bits: by the usual bound (NIST SP 800-38D) a key is good for 2**32 records.

`HOLDFAST_SEAL_KEY` holds one key or several with commas between: the first seals, all of them open. To rotate, put the
new key in front and drop the old one when the last record under it is gone.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from holdfast.errors import PoisonRecord
from holdfast.policy.envelope import SCHEMA, CapturedRequest
from holdfast.policy.redaction import restore

KEY_BYTES = 32
NONCE_BYTES = 12
HOW_TO_MAKE_A_KEY = "make one with `openssl rand -base64 32`"

_KID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_HEX = re.compile(r"[0-9A-Fa-f]{64}")


@dataclass(frozen=True, slots=True)
class SealKey:
    """A 256-bit key and the name under which records refer to it. The key never shows in `repr`."""

    kid: str
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not _KID.fullmatch(self.kid):
            raise ValueError("the name of a seal key is 1 to 64 letters, digits, `_`, `.` or `-`")
        if len(self.key) != KEY_BYTES:
            raise ValueError(f"a seal key has {KEY_BYTES} bytes, not {len(self.key)}: {HOW_TO_MAKE_A_KEY}")


def parse_keys(text: str) -> tuple[SealKey, ...]:
    """The keys of a comma-separated `[kid:]key`, each key 32 bytes in base64 or hex; none for an empty text.

    ValueError says which key is wrong by its place, and never quotes any of it.
    """
    if not text.strip():
        return ()
    keys = tuple(_parse_key(each.strip(), place) for place, each in enumerate(text.split(","), 1))
    if len({each.kid for each in keys}) < len(keys):
        raise ValueError("two seal keys have the same name, or are the same key")
    return keys


def _parse_key(text: str, place: int) -> SealKey:
    kid, colon, encoded = text.rpartition(":")
    try:
        key = _decode_key(encoded.strip())
        return SealKey(kid.strip() if colon else _default_kid(key), key)
    except ValueError as exc:
        # `from None`: what a decoder says may quote its input.
        raise ValueError(f"seal key {place}: {exc}") from None


def _decode_key(encoded: str) -> bytes:
    if _HEX.fullmatch(encoded):
        return bytes.fromhex(encoded)
    standard = encoded.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except binascii.Error:
        raise ValueError(f"is neither base64 nor hex: {HOW_TO_MAKE_A_KEY}") from None


def _default_kid(key: bytes) -> str:
    """A name that is the same wherever the key is configured; 32 bits of a hash tell nothing of a random key."""
    return hashlib.sha256(b"holdfast seal key id\0" + key).hexdigest()[:8]


class Sealer:
    """Seals with the first of its keys, opens with any. ValueError without keys."""

    def __init__(self, keys: Sequence[SealKey], randbytes: Callable[[int], bytes] = os.urandom) -> None:
        if not keys:
            raise ValueError(f"sealing needs a key: {HOW_TO_MAKE_A_KEY}")
        self._kid = keys[0].kid
        self._ciphers = {each.kid: AESGCM(each.key) for each in keys}
        self._randbytes = randbytes

    def __repr__(self) -> str:
        return f"Sealer(kids={list(self._ciphers)})"

    def seal(self, capture_id: str, secrets: Mapping[str, object], *, schema: int = SCHEMA) -> dict[str, str]:
        """The record's `sealed`: `kid`, `nonce` and `ciphertext`, the last two in base64."""
        nonce = self._randbytes(NONCE_BYTES)
        plain = json.dumps(secrets, separators=(",", ":")).encode("ascii")
        sealed = self._ciphers[self._kid].encrypt(nonce, plain, _bound_to(capture_id, schema, self._kid))
        return {"kid": self._kid, "nonce": _to_text(nonce), "ciphertext": _to_text(sealed)}

    def open(self, capture_id: str, sealed: Mapping[str, str], *, schema: int = SCHEMA) -> dict[str, object]:
        """The secrets. PoisonRecord for a key that is not held, and for whatever was changed or moved since."""
        kid = sealed.get("kid", "")
        cipher = self._ciphers.get(kid)
        if cipher is None:
            raise PoisonRecord(f"sealed with the key {kid[:64]!r}, which is not among those configured")
        try:
            nonce, ciphertext = _from_text(sealed, "nonce"), _from_text(sealed, "ciphertext")
            plain = cipher.decrypt(nonce, ciphertext, _bound_to(capture_id, schema, kid))
        except (InvalidTag, ValueError) as exc:
            raise PoisonRecord("the sealed part was changed, or belongs to another record or another key") from exc
        secrets = json.loads(plain)
        if not isinstance(secrets, dict):
            raise PoisonRecord("the sealed part holds no secrets")
        return secrets


def reveal(record: CapturedRequest, sealer: Sealer) -> CapturedRequest:
    """The record as it was before redaction; unchanged where nothing was sealed (then see its `redacted`)."""
    if record.sealed is None:
        return record
    return restore(record, sealer.open(record.id, record.sealed, schema=record.schema))


def _bound_to(capture_id: str, schema: int, kid: str) -> bytes:
    return json.dumps(["holdfast", schema, kid, capture_id]).encode("ascii")


def _to_text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_text(sealed: Mapping[str, str], name: str) -> bytes:
    return base64.b64decode(sealed.get(name, ""), validate=True)
