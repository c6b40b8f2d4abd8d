"""Routes: which label a request gets, and which routes are refused when they are configured."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.policy.routes import PARAM_MAX, PATH_MAX, Match, RouteTable, compile_route

fixed = settings(derandomize=True, deadline=None)


def params(target: str, **route: Any) -> dict[str, str] | None:
    """The parameters if the single route matches, None otherwise."""
    found = RouteTable([compile_route("r", **route)], "other").match("GET", "", target)
    assert found.label == ("r" if found.matched else "other")
    return dict(found.params) if found.matched else None


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("^/api/users/(?P<id>[^/]+)$", "/api/users/42", {"id": "42"}),
        ("^/api/users/(?P<id>[^/]+)$", "/api/users/42/", None),
        ("^/api/users/(?P<id>[^/]+)$", "/api/users/", None),
        ("^/api/users/(?P<id>[^/]+)$", "/v1/api/users/42", None),
        ("^/api/users/(?P<id>[^/]+)$", "/api/users/a%2Fb", {"id": "a%2Fb"}),
        ("users", "/api/users/42", {}),
        ("^/a(?P<b>/b)?", "/a", {}),
        ("^/a(?P<b>/b)?", "/a/b", {"b": "/b"}),
        (r"^\*$", "*", {}),
        ("^/(?i:API)$", "/api", {}),
    ],
)
def test_a_pattern_is_searched_in_the_path(pattern: str, path: str, expected: dict[str, str] | None) -> None:
    """`re.search`: it is anchored only where it says so. A group that took no part is no parameter."""
    assert params(path, pattern=pattern) == expected


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("/", "/", {}),
        ("/", "", None),
        ("/api/users", "/api/users", {}),
        ("/api/users", "/api/users/", None),
        ("/api/users", "/API/users", None),
        ("/api/users/", "/api/users/", {}),
        ("/api/users/{id}", "/api/users/42", {"id": "42"}),
        ("/api/users/{id}", "/api/users/", None),
        ("/api/users/{id}", "/api/users/4/2", None),
        ("/api/users/{id}", "/x/api/users/4", None),
        ("/api/users/{id}", "//api/users/4", None),
        ("/api/users/{id}", "/api/users/a%2fb", {"id": "a%2fb"}),
        ("/api/users/{id}", "/api/users/..", {"id": ".."}),
        ("/a/{b}/c/{d}", "/a/1/c/2", {"b": "1", "d": "2"}),
        ("/img/{name}.png", "/img/a.b.png", {"name": "a.b"}),
        ("/img/{name}.png", "/img/aXpng", None),
        ("/v{n}", "/v2", {"n": "2"}),
        ("/files/{rest*}", "/files/a/b/c", {"rest": "a/b/c"}),
        ("/files/{rest*}", "/files/", {"rest": ""}),
        ("/files/{rest*}", "/files", None),
        ("/{all*}", "/a", {"all": "a"}),
        ("/a+b(c)", "/a+b(c)", {}),
        ("/a", "/a\n", None),
    ],
)
def test_a_template_is_the_whole_path(template: str, path: str, expected: dict[str, str] | None) -> None:
    """`{name}` is a segment or the rest of one and never empty, `{name*}` is all that follows."""
    assert params(path, path=template) == expected


SEGMENT = st.text(alphabet="abz09-._~%+(*[$^", min_size=1, max_size=6)


@fixed
@given(st.lists(SEGMENT, max_size=4), SEGMENT)
def test_a_template_without_places_matches_itself_and_with_one_any_segment(parts: list[str], value: str) -> None:
    """No character of a template is taken for regular expression syntax."""
    plain = "/" + "/".join(parts)
    assert params(plain, path=plain) == {}
    prefix = plain.rstrip("/")
    assert params(f"{prefix}/{value}", path=f"{prefix}/{{id}}") == {"id": value}


@pytest.mark.parametrize(
    ("route", "method", "host", "expected"),
    [
        ({}, "GET", "", True),
        ({"methods": ["get", "POST"]}, "GET", "", True),
        ({"methods": ["get", "POST"]}, "POST", "", True),
        ({"methods": ["get", "POST"]}, "HEAD", "", False),
        ({"host": "api.test"}, "GET", "api.test", True),
        ({"host": "API.test."}, "GET", "Api.Test.:8080", True),
        ({"host": "api.test"}, "GET", "www.api.test", False),
        ({"host": "api.test"}, "GET", "", False),
        ({"host": "*.api.test"}, "GET", "a.b.api.test:80", True),
        ({"host": "*.api.test"}, "GET", "api.test", False),
        ({"host": "*.api.test"}, "GET", "xapi.test", False),
        ({"host": "::1"}, "GET", "[::1]:8080", True),
        ({"host": "127.0.0.1"}, "GET", "127.0.0.1:1", True),
    ],
)
def test_methods_and_hosts_narrow_a_route(route: dict[str, Any], method: str, host: str, expected: bool) -> None:
    """Hosts without regard to case, port and final dot (RFC 9110, section 4.2.3)."""
    assert RouteTable([compile_route("r", path="/", **route)], "other").match(method, host, "/").matched is expected


def test_the_first_route_that_matches_wins() -> None:
    """The order of the profile is the order of the table."""
    routes = [compile_route("me", path="/users/me"), compile_route("user", path="/users/{id}")]
    assert RouteTable(routes, "other").match("GET", "", "/users/me") == Match("me", {})
    assert RouteTable(routes[::-1], "other").match("GET", "", "/users/me") == Match("user", {"id": "me"})
    assert RouteTable([], "rest").match("GET", "", "/") == Match("rest", {}, matched=False)


def test_what_is_too_long_is_left_out_rather_than_cut() -> None:
    """A part of a path may match what the whole does not, and a part of an id is another id."""
    assert params("/" + "a" * (PATH_MAX - 1), pattern="^/") == {}
    assert params("/" + "a" * PATH_MAX, pattern="^/") is None
    assert params("/" + "a" * PARAM_MAX, path="/{id}") == {"id": "a" * PARAM_MAX}
    assert params("/x/" + "a" * (PARAM_MAX + 1), path="/{x}/{id}") == {"x": "x"}


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ({"name": "Users", "path": "/"}, "'Users' is no route name: use 1 to 64"),
        ({"name": "", "path": "/"}, "is no route name"),
        ({"name": "a" * 65, "path": "/"}, "is no route name"),
        ({"name": "a\n", "path": "/"}, "is no route name"),
        ({}, "route r: give either a pattern or a path"),
        ({"path": "/", "pattern": "/"}, "give either a pattern or a path"),
        ({"pattern": "(?P<id>"}, "route r: .* is no regular expression: missing \\)"),
        ({"pattern": "(?P<a>)(?P<a>)"}, "redefinition of group name"),
        ({"pattern": "".join(f"(?P<g{n}>.)" for n in range(17))}, "more than 16 named parts"),
        ({"path": ""}, "does not begin with a slash"),
        ({"path": "api"}, "does not begin with a slash"),
        ({"path": "/{a}-{b}"}, "one {name} in each, or use a pattern"),
        ({"path": "/{}"}, "is no segment"),
        ({"path": "/{a-b}"}, "is no segment"),
        ({"path": "/{a"}, "is no segment"),
        ({"path": "/{a}/{a}"}, "redefinition of group name"),
        ({"path": "/{rest*}/x"}, "must be the whole of the last segment"),
        ({"path": "/x{rest*}"}, "must be the whole of the last segment"),
        ({"path": "/", "methods": ["GET,POST"]}, "'GET,POST' is no HTTP method"),
        ({"path": "/", "methods": [""]}, "is no HTTP method"),
        ({"path": "/", "host": "http://a"}, "is no host: write it like"),
        ({"path": "/", "host": "a:80"}, "is no host"),
        ({"path": "/", "host": ""}, "is no host"),
    ],
)
def test_a_route_that_cannot_be_is_refused_with_the_reason(route: dict[str, Any], message: str) -> None:
    """It becomes a fault of the profile at that entry."""
    with pytest.raises(ValueError, match=message):
        compile_route(**{"name": "r", **route})


def test_a_table_needs_different_names_and_a_fit_default() -> None:
    """Two routes of one name could not be told apart in any metric."""
    route = compile_route("a", path="/")
    with pytest.raises(ValueError, match="more than one route is named a"):
        RouteTable([route, route], "other")
    with pytest.raises(ValueError, match="'No Name' is no route name"):
        RouteTable([], "No Name")


@fixed
@given(st.text(max_size=50), st.text(max_size=20), st.text(max_size=20))
def test_no_request_breaks_the_table(path: str, host: str, method: str) -> None:
    """Whatever a client sends, it gets one of the labels, and bounded parameters."""
    table = RouteTable(
        [
            compile_route("a", path="/{id}", host="*.test", methods=["GET"]),
            compile_route("b", pattern="(?P<x>.)(?P<y>.*)", host="::1"),
            compile_route("c", path="/{rest*}"),
        ],
        "other",
    )
    found = table.match(method, host, path)
    assert re.fullmatch("a|b|c|other", found.label)
    assert all(value in path for value in found.params.values())
