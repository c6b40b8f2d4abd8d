"""The router addon: settings that are checked when they are read, and one label for every request."""

from __future__ import annotations

import json
from typing import Any, cast

import msgspec
import pytest

from holdfast.exchange import exchange_of
from holdfast.router import Router, RouterSettings
from holdfast.testing import make_flow, run_addon

ROUTES = {
    "routes": [
        {"name": "user", "pattern": "^/api/users/(?P<id>[^/]+)$"},
        {"name": "users", "path": "/api/users", "methods": ["GET", "POST"]},
        {"name": "shop", "path": "/{rest*}", "host": "shop.test"},
    ]
}


def router(settings: dict[str, Any]) -> Router:
    """A router as the profile makes it; it asks nothing of the gateway."""
    return Router(msgspec.convert(settings, RouterSettings), cast(Any, None))


@pytest.mark.parametrize(
    ("method", "target", "host", "route", "params"),
    [
        ("GET", "/api/users/42", "a.test", "user", {"id": "42"}),
        ("GET", "/api/users/42?x=/y", "a.test", "user", {"id": "42"}),
        ("GET", "/api/users/?x", "a.test", "other", {}),
        ("POST", "/api/users?a=b", "a.test", "users", {}),
        ("DELETE", "/api/users", "a.test", "other", {}),
        ("DELETE", "/api/users", "Shop.Test:8080", "shop", {"rest": "api/users"}),
        ("OPTIONS", "*", "a.test", "other", {}),
        ("GET", "/api/users/a%2Fb", "a.test", "user", {"id": "a%2Fb"}),
    ],
)
async def test_a_request_gets_the_name_of_its_route(
    method: str, target: str, host: str, route: str, params: dict[str, str]
) -> None:
    """By its path alone, without the query."""
    flow = make_flow(method)
    flow.request.path, flow.request.headers["Host"] = target, host
    await run_addon(router(ROUTES), flow, "requestheaders")
    assert exchange_of(flow)["route"] == route
    assert exchange_of(flow)["route_params"] == params


async def test_the_host_is_the_one_that_the_client_asked_for() -> None:
    """Reverse mode has replaced the Host field by then; intake has kept the first."""
    flow = make_flow(headers={"Host": "127.0.0.1:3000"}, exchange={"original_host": "shop.test"})
    await run_addon(router(ROUTES), flow, "requestheaders")
    assert exchange_of(flow)["route"] == "shop"


async def test_a_route_that_was_given_before_is_kept() -> None:
    """An addon of the user's own may know better."""
    flow = make_flow(url="http://origin.test/api/users/1", exchange={"route": "mine"})
    await run_addon(router(ROUTES), flow, "requestheaders")
    assert flow.metadata["holdfast"] == {"route": "mine"}


async def test_bytes_that_are_no_text_become_text_that_json_can_hold() -> None:
    """Parameters go into tags, logs and records."""
    flow = make_flow()
    flow.request.path = b"/api/users/\xff\xc3\xa9"  # type: ignore[assignment]
    await run_addon(router(ROUTES), flow, "requestheaders")
    params = exchange_of(flow)["route_params"]
    assert params == {"id": "\xff\xc3\xa9"}
    assert json.dumps(params, ensure_ascii=False).encode("utf-8")


async def test_a_reload_takes_effect_with_the_next_request() -> None:
    """The table is swapped as a whole."""
    addon = router(ROUTES)
    addon.reload(msgspec.convert({"default": "rest"}, RouterSettings))
    flow = await run_addon(addon, make_flow(url="http://origin.test/api/users/1"), "requestheaders")
    assert exchange_of(flow)["route"] == "rest"


async def test_the_parameters_are_the_flows_own() -> None:
    """A plain dictionary: mitmproxy writes metadata to flow files, and another addon may add to it."""
    addon = router({})
    one, two = make_flow(), make_flow()
    await run_addon(addon, one, "requestheaders")
    exchange_of(one)["route_params"]["added"] = "x"
    await run_addon(addon, two, "requestheaders")
    assert exchange_of(two)["route_params"] == {}
    assert type(exchange_of(two)["route_params"]) is dict


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"routes": [{"name": "a"}]}, r"either a pattern or a path - at `\$.routes\[0\]`"),
        ({"routes": [{"name": "a", "path": "/", "pattern": "/"}]}, "either a pattern or a path"),
        ({"routes": [{"path": "/"}]}, "missing required field `name`"),
        ({"routes": [{"name": "a", "path": "/"}, {"name": "b", "pattern": "("}]}, r"missing \).*routes\[1\]"),
        ({"routes": [{"name": "a", "path": "/"}, {"name": "a", "path": "/b"}]}, "more than one route is named a"),
        ({"routes": [{"name": "a", "path": "/", "method": "GET"}]}, "unknown field `method`"),
        ({"default": "No"}, "is no route name"),
    ],
)
def test_a_wrong_setting_is_refused_where_it_stands(settings: dict[str, Any], message: str) -> None:
    """The profile turns the place into a line number."""
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(settings, RouterSettings)


def test_every_setting_is_documented() -> None:
    """The reference of profiles is generated from these lines."""
    schemas = msgspec.json.schema_components([RouterSettings], ref_template="{name}")[1]
    for schema in schemas.values():
        assert all(field.get("description") for field in schema["properties"].values())
