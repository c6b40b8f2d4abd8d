"""From a message to the request: sealed parts, spans, and records that nobody can read."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from holdfast.errors import PoisonRecord
from holdfast.policy.envelope import CapturedRequest, to_json
from holdfast.policy.redaction import RedactionRules, redact
from holdfast.policy.replaying.requests import ReplayRequest, RequestRules
from holdfast.replay.preparing import Preparation
from holdfast.sealing import Sealer, parse_keys
from tests.unit.replay.fakes import held

OLD, NEW = (base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2))
TRACE = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def record(body: str = "x", **headers: str) -> CapturedRequest:
    """As a gateway captures it."""
    return CapturedRequest(
        id="0190b0a0-0000-7000-8000-000000000001",
        timestamp=1.0,
        method="POST",
        uri="/a?b=c",
        path="/a",
        query_string="b=c",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=body,
        remote_addr="127.0.0.1",
        backend_url="http://127.0.0.1:9",
        error_reason="refused",
        error="connection_refused",
        request_id="",
        route="",
    )


def sealed(key: str) -> bytes:
    """Its credentials taken out, and sealed."""
    plain, taken, _ = redact(record(authorization="Bearer secret"), RedactionRules())
    return to_json(replace(plain, sealed=Sealer(parse_keys(key)).seal(plain.id, taken)))


def preparation(keys: str = "", *, spans: bool = True) -> Preparation:
    return Preparation(RequestRules(), lambda: keys, continues_spans=lambda: spans)


async def prepared(made: Preparation, value: bytes) -> dict[bytes, bytes]:
    """The header of the request."""
    request = await made.prepare(value, (), held("1"), 3)
    assert isinstance(request, ReplayRequest)
    return dict(request.headers)


async def test_what_was_sealed_is_opened_and_what_cannot_be_is_poison() -> None:
    """Without any key it is left out: what the profile attaches may take its place."""
    assert (await prepared(preparation(OLD), sealed(OLD)))[b"authorization"] == b"Bearer secret"
    assert b"authorization" not in await prepared(preparation(), sealed(OLD))
    with pytest.raises(PoisonRecord):
        await preparation(NEW).prepare(sealed(OLD), (), held("1"), 1)


async def test_a_key_that_is_changed_while_it_runs_is_used_at_once() -> None:
    """The gateway seals with it already."""
    keys = [OLD]
    made = Preparation(RequestRules(), lambda: keys[0], continues_spans=lambda: True)
    await prepared(made, sealed(OLD))
    keys[0] = f"{NEW},{OLD}"
    for key in (OLD, NEW):
        assert (await prepared(made, sealed(key)))[b"authorization"] == b"Bearer secret"


async def test_the_keys_of_the_environment_count_where_the_profile_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they do for the gateway that seals; blank ones are none."""
    monkeypatch.setenv("HOLDFAST_SEAL_KEY", OLD)
    assert b"authorization" in await prepared(preparation(), sealed(OLD))
    monkeypatch.setenv("HOLDFAST_SEAL_KEY", "  ")
    assert b"authorization" not in await prepared(preparation(), sealed(OLD))


@pytest.mark.parametrize("spans", [True, False])
async def test_a_replay_has_a_span_of_its_own_unless_an_addon_makes_spans(spans: bool) -> None:
    """In the same trace."""
    fields = await prepared(preparation(spans=spans), to_json(record(traceparent=TRACE)))
    _, trace, span, _ = fields[b"traceparent"].decode().split("-")
    assert trace == "a" * 32
    assert (span == "b" * 16) is not spans


async def test_large_records_are_the_same_and_what_is_no_record_is_poison() -> None:
    """They are read in a thread."""
    request = await preparation().prepare(to_json(record("x" * 400_000)), (), held("1"), 1)
    assert isinstance(request, ReplayRequest)
    assert len(request.body) == 400_000
    for value in (b"", b"{", b"[]", b"\xff" * 300_000):
        with pytest.raises(PoisonRecord):
            await preparation().prepare(value, (), held("1"), 1)
