"""Gives every request the name of its route.

What the operator gets: metrics, logs and rules by route, `user` rather than one series for every id in a URL, and the
named parts of the path (`id`) for surrogate tags. It comes first in the chain: whatever follows may ask for the route.
It decides on the path alone, as the client sent it (see `policy/routes.py` on what is and is not normalised).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from holdfast.exchange import exchange_of, route_of
from holdfast.gateway import WouldDo
from holdfast.policy.routes import Route, RouteTable, compile_route
from holdfast.policy.wire import wire_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mitmproxy.http import HTTPFlow

    from holdfast.gateway import Gateway


class RouteSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One route: a name, and which requests have it. Exactly one of `pattern` and `path`."""

    name: Annotated[str, Meta(description="The label: 1 to 64 of a-z, 0-9, `_`, `.`, `-`.")]
    pattern: Annotated[
        str | None,
        Meta(description="A regular expression, searched in the path without its query; named groups are parameters."),
    ] = None
    path: Annotated[
        str | None,
        Meta(description="A template for the whole path: `/api/users/{id}`, and `/files/{rest*}` for all below."),
    ] = None
    methods: Annotated[tuple[str, ...], Meta(description="Only these methods; none listed: any.")] = ()
    host: Annotated[
        str | None, Meta(description="Only this host of the client's request, `*.example.com` for all below one.")
    ] = None

    def __post_init__(self) -> None:
        self.route()

    def route(self) -> Route:
        """Compiled; ValueError says what is wrong."""
        return compile_route(self.name, pattern=self.pattern, path=self.path, methods=self.methods, host=self.host)


class RouterSettings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which requests belong to which route; the first that matches wins."""

    routes: Annotated[tuple[RouteSettings, ...], Meta(description="The routes, in the order they are tried.")] = ()
    default: Annotated[str, Meta(description="The label of a request that no route matches.")] = "other"

    def __post_init__(self) -> None:
        self.table()

    def table(self) -> RouteTable:
        """Compiled; ValueError says what is wrong."""
        return RouteTable([each.route() for each in self.routes], self.default)


class Router:
    """Sets `route` and `route_params` in the exchange."""

    Settings = RouterSettings

    def __init__(self, settings: RouterSettings, gateway: Gateway) -> None:
        self.gateway = gateway
        self._table = settings.table()

    def reload(self, settings: RouterSettings) -> None:
        """Swap the table; requests that have their route keep it."""
        self._table = settings.table()

    def route_for(self, method: str, host: str, target: str) -> tuple[str, Mapping[str, str]]:
        """The label and the parameters of a request that nobody has sent."""
        match = self._table.match(method, host, _raw_path(target))
        return match.label, match.params

    async def would_do(self, flow: HTTPFlow) -> WouldDo:
        """The label that `route_for` gave it."""
        params = exchange_of(flow).get("route_params", {})
        named = "".join(f", {name}={value}" for name, value in params.items())
        return WouldDo(True, f"labels it `{route_of(flow)}`{named}")

    def requestheaders(self, flow: HTTPFlow) -> None:
        exchange = exchange_of(flow)
        if "route" in exchange:
            return
        request = flow.request
        # Reverse mode has put the upstream's name into the Host field by now; intake keeps what the client sent.
        host = exchange.get("original_host") or request.host_header or ""
        match = self._table.match(request.method, host, _raw_path(request.path))
        exchange["route"] = match.label
        exchange["route_params"] = dict(match.params)


def _raw_path(target: str) -> str:
    """The path of a request target. mitmproxy's text holds stray bytes as surrogates, which no JSON or log can."""
    path = target.partition("?")[0]
    return path if path.isascii() else wire_text(path.encode("utf-8", "surrogateescape"))
