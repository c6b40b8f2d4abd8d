"""failure_sink: settings that would put a secret on the disk are refused, and what is redacted is."""

import base64

import pytest

from holdfast.captured import captured_request
from holdfast.failure_sink import FailureSinkSettings, RedactionSettings, redaction_rules
from holdfast.policy.failure import Failure
from holdfast.policy.redaction import redact
from holdfast.testing import make_flow

FAILURE = Failure("connection_refused", "refused")


@pytest.mark.parametrize("name", ["X-Api-Key", "authorization"])
def test_a_redacted_header_cannot_be_the_key(name: str) -> None:
    """The key is stored and published as it is."""
    with pytest.raises(ValueError, match="redacted"):
        FailureSinkSettings(key=f"header:{name}")


def test_a_header_that_the_profile_redacts_cannot_be_the_key_either() -> None:
    """The profile's own names count."""
    with pytest.raises(ValueError, match="redacted"):
        FailureSinkSettings(key="header:x-tenant", redact=RedactionSettings(headers=("X-Tenant",)))
    assert FailureSinkSettings(key="header:x-tenant").key == "header:x-tenant"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"a=1&password=s3cret"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="password"\r\n\r\ns3cret\r\n--x--',
        ),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; NAME=pwd\r\n\r\ns3cret\r\n--x--"),
    ],
)
def test_a_password_in_a_form_does_not_reach_the_record(content_type: str, body: bytes) -> None:
    """Whatever kind of form it is."""
    flow = make_flow("POST", "http://origin.test/", headers={"content-type": content_type}, body=body)
    flow.client_conn.peername = ("127.0.0.1", 1)
    record, secrets, names = redact(captured_request(flow, FAILURE, "id", 0.0, 0), redaction_rules(RedactionSettings()))
    assert b"s3cret" not in record.body_bytes()
    assert names and secrets
    assert base64.b64decode(secrets["body"]) == body


def test_a_form_without_secrets_stays_as_it_was() -> None:
    """An upload is not lost to caution."""
    body = b'--x\r\nContent-Disposition: form-data; name="photo"; filename="a.png"\r\n\r\n\x89PNG\r\n--x--'
    flow = make_flow(
        "POST", "http://origin.test/", headers={"content-type": "multipart/form-data; boundary=x"}, body=body
    )
    flow.client_conn.peername = ("127.0.0.1", 1)
    record, _, names = redact(captured_request(flow, FAILURE, "id", 0.0, 0), redaction_rules(RedactionSettings()))
    assert record.body_bytes() == body
    assert names == ()
