"""flow: what is made of a client's request, of an upstream's response, and of what is stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from holdfast.caching.flow import Asked, answer_from, asked_by, storable, tell, unsaid
from holdfast.policy.caching.model import CacheRules, Fields, StoredResponse
from holdfast.policy.caching.status import CacheStatus
from holdfast.testing import make_flow
from tests.unit.caching.rig import HOST, Named, answer, encoded

NOW = 1_700_000_000.0
ASKED = Asked("GET", "http", HOST, "/a", [], has_body=False)
STORED = StoredResponse(
    200,
    ((b"Content-Type", b"text/plain"), (b"ETag", b'"1"'), (b"Age", b"5"), (b"Cache-Control", b"max-age=60")),
    b"0123456789",
    NOW,
    NOW,
    reason="Fine",
)


# -- asked ------------------------------------------------------------------------------------------------------------


def test_a_request_is_as_the_client_meant_it() -> None:
    """Reverse mode has replaced its host by the upstream's."""
    flow = make_flow("HEAD", "http://upstream.test/a?b", headers=[("Host", "upstream.test"), ("Accept", "x")])
    flow.metadata["holdfast"] = {"original_host": HOST, "route": "user"}
    flow.client_conn.tls = False
    asked = asked_by(flow)
    assert (asked.method, asked.scheme, asked.host, asked.target) == ("HEAD", "http", HOST, "/a?b")
    assert (asked.route, asked.has_body) == ("user", False)
    assert [field for field in asked.fields if field[0] != b"content-length"] == encoded(
        [("Host", HOST), ("Accept", "x")]
    )


@pytest.mark.parametrize(
    ("known", "host", "expected"), [({}, "own.test", "own.test"), ({}, "", ""), ({"original_host": ""}, "o", "o")]
)
def test_without_the_intake_the_host_is_that_of_the_request(known: dict[str, Any], host: str, expected: str) -> None:
    """Or there is none, as with HTTP/1.0."""
    headers = [("Host", "replaced")] if host else []
    flow = make_flow(url=f"http://{host or 'upstream.test'}/", headers=headers, exchange=known)
    assert asked_by(flow).host == expected
    assert asked_by(flow).route == "unrouted"


def test_a_client_that_speaks_tls_asked_for_https() -> None:
    """And a body is one, whatever it says of its length."""
    flow = make_flow(body=b"x")
    flow.client_conn.tls = True
    assert (asked_by(flow).scheme, asked_by(flow).has_body) == ("https", True)


# -- stored -----------------------------------------------------------------------------------------------------------


def test_what_belongs_to_one_connection_or_one_request_is_not_kept() -> None:
    """RFC 9111, section 3.1: nor the request's id, nor how the body was framed."""
    dropped = [("Connection", "x-hop"), ("X-Hop", "1"), ("X-Request-ID", "r"), ("Transfer-Encoding", "chunked")]
    flow = make_flow(response=answer(200, b"one", ("X-A", "1"), ("Date", "x"), *dropped))
    found = storable(flow, ASKED, (NOW, NOW + 1), 7)
    names = [name for name, _ in found.headers if name != b"content-length"]
    assert names == [b"X-A", b"Date", b"Cache-Control"]
    assert (found.status, found.body, found.reason, found.as_of) == (200, b"one", "OK", 7)
    assert (found.request_time, found.response_time, found.tags, found.selecting) == (NOW, NOW + 1, (), ())


def test_what_is_kept_has_a_date_tags_and_what_selects_it() -> None:
    """RFC 9110, section 6.6.1: a missing Date is that of its arrival."""
    flow = make_flow(response=answer(200, b"", ("Vary", "Accept")), exchange={"tags": ["a", "b"]})
    asked = replace(ASKED, fields=encoded([("Accept", "x"), ("Cookie", "c")]))
    found = storable(flow, asked, (NOW, NOW + 1), 0)
    assert dict(found.headers)[b"Date"] == b"Tue, 14 Nov 2023 22:13:21 GMT"
    assert (found.tags, found.selecting) == (("a", "b"), (("accept", "x"),))


@pytest.mark.parametrize(
    ("cc", "target", "cookie", "why"),
    [
        ("", "/a", True, "cookie"),
        ("", "/a", False, None),
        ("", "/a%2Fb", False, "encoded_slash"),
        ("", "/a;b", False, "parameters"),
        ("", "/a//b", False, "empty_segment"),
        ("max-age=9", "/a;b", True, None),
        ("public", "/a;b", True, None),
        ("no-cache", "/a;b", True, None),
    ],
)
def test_what_nothing_is_said_of_is_not_shared_in_doubt(cc: str, target: str, cookie: bool, why: str | None) -> None:
    """Web cache deception: `/account;x.css` may be one user's account."""
    stored = replace(STORED, headers=((b"Cache-Control", cc.encode()),))
    asked = replace(ASKED, target=target, fields=encoded([("Cookie", "c")] if cookie else []))
    assert unsaid(asked, stored, CacheRules(default_lifetime=60)) == why


# -- answered ---------------------------------------------------------------------------------------------------------


def answered(*fields: Named, method: str = "GET", stored: StoredResponse = STORED) -> tuple[Any, Fields]:
    asked = replace(ASKED, method=method, fields=encoded(fields))
    response = answer_from(stored, asked, NOW + 3)
    return response, response.headers.fields


def test_the_whole_has_its_age_and_its_length() -> None:
    """RFC 9111, section 5.1: the age of the stored one and the time since, said once."""
    response, fields = answered()
    assert (response.status_code, response.reason, response.content) == (200, "Fine", b"0123456789")
    assert (response.headers.get_all("age"), response.headers["content-length"]) == (["8"], "10")
    assert (b"Content-Type", b"text/plain") in fields
    assert (response.timestamp_start, response.timestamp_end) == (NOW + 3, NOW + 3)


@pytest.mark.parametrize(
    ("fields", "method", "status", "body", "length"),
    [
        ([], "HEAD", 200, b"", "10"),
        ([("If-None-Match", '"1"')], "GET", 304, b"", None),
        ([("If-None-Match", '"1"'), ("Range", "bytes=0-1")], "GET", 304, b"", None),
        ([("If-None-Match", '"2"'), ("Range", "bytes=0-1")], "GET", 206, b"01", "2"),
        ([("If-None-Match", '"1"')], "HEAD", 304, b"", None),
        ([("Range", "bytes=0-1")], "HEAD", 200, b"", "10"),
        ([("Range", "bytes=99-")], "GET", 416, b"", "0"),
    ],
)
def test_a_part_a_header_or_a_304_is_made_of_it(
    fields: list[Named], method: str, status: int, body: bytes, length: str | None
) -> None:
    """RFC 9110, section 13.2.2: conditions first, then the range; a 416 has no age."""
    response, _ = answered(*fields, method=method)
    assert (response.status_code, response.content) == (status, body)
    assert response.headers.get("content-length") == length
    assert ("age" in response.headers) is (status != 416)
    assert response.reason == ("Fine" if status == 200 else "")


def test_a_204_has_no_length() -> None:
    """RFC 9110, section 8.6."""
    response, _ = answered(stored=replace(STORED, status=204, body=b""))
    assert "content-length" not in response.headers


def test_what_is_said_comes_behind_what_caches_nearer_to_the_origin_said() -> None:
    """RFC 9211, section 2."""
    response = answer(200, b"", ("Cache-Status", "other;hit"))
    tell(response, CacheStatus(fwd="miss"))
    assert response.headers.get_all("cache-status") == ["other;hit", "holdfast;fwd=miss"]
