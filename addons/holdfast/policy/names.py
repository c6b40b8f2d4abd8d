"""Names of servers, and which of the addresses behind a name are servers of their own. Pure.

A name is several servers where one family (IPv4 or IPv6) has at least two addresses for it. One address of each is one
server on two families, as with `localhost`: that is connected to by its name, and the system tries them in turn. For
the same reason the two families are never mixed: each server would be there twice.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable

type _Address = ipaddress.IPv4Address | ipaddress.IPv6Address

DNS_PORT = 53


def is_name(host: str) -> bool:
    """Whether it has to be looked up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def servers_behind(found: Iterable[str], before: Collection[str] = (), *, alone: bool = False) -> tuple[str, ...]:
    """The addresses that are servers, those of `before` first, else in their order; none: the name is one server.

    `found` are IP addresses in any order; IPv4 is preferred where both families have two or more. A name that has been
    several stays so with one address left, or what is known of that one would be lost; `alone`: so does any name, as
    whoever connects could not look it up.
    """
    addresses = {ipaddress.ip_address(ip) for ip in found}
    families = [_of_version(addresses, version) for version in (4, 6)]
    several = next((family for family in families if len(family) > 1), None)
    if several is None:
        several = next((family for family in families if family and (alone or set(family) & set(before))), ())
    kept = tuple(ip for ip in before if ip in several)
    return kept + tuple(ip for ip in several if ip not in kept)


def _of_version(addresses: Iterable[_Address], version: int) -> tuple[str, ...]:
    ours = [address for address in addresses if address.version == version]
    return tuple(str(address) for address in sorted(ours, key=lambda address: (int(address), str(address))))


def parse_name_server(text: str) -> tuple[str, int]:
    """`HOST[:PORT]` as (host, port); port 53 where none is given. IPv6 in brackets. ValueError otherwise."""
    host, port = text, ""
    if text.startswith("["):
        host, closed, port = text[1:].partition("]")
        host = host if closed and ":" in host else ""
    elif text.count(":") == 1:
        host, colon, port = text.partition(":")
        port = colon + port
    number = port.removeprefix(":")
    fits = not port or (port[0] == ":" and number.isascii() and number.isdigit() and 1 <= int(number) <= 65535)
    if not host or not fits or (":" in host and is_name(host)):
        raise ValueError(f"{text!r} is no name server: write it like 10.0.0.2:8600, or [::1]:53 for IPv6")
    return host, int(number or DNS_PORT)
