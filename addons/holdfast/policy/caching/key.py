"""What identifies a resource in the cache, and which requests are kept away from it because they might be read twice.

A cache is poisoned when two requests that the origin tells apart share an entry. So the two halves belong together:

- `cache_key` brings equivalent ways of writing a URL together (RFC 9110, section 4.2.3), so that a purge or an
  invalidation finds the entry whichever way the URL was written;
- `uncacheable_reason` refuses every request that is not already written the usual way, or that an origin might read
  otherwise than the key does. Refused requests go to the origin, are not answered from the cache and fill nothing.

Of two requests that are not refused and have the same key, host and path are the same bytes, and so is the query but
for what the operator's rules drop from it. A rule is followed only where any parser would find the same parameters.
What else the origin is told about its own URL (`X-Forwarded-Proto` and its like) selects, as if Vary named it: see
`vary`. Nothing here looks at file extensions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from urllib.parse import unquote_to_bytes

from holdfast.policy.caching.model import Fields

METHOD_OVERRIDES = frozenset({"x-http-method-override", "x-http-method", "x-method-override"})
URL_OVERRIDES = frozenset(
    {
        *("x-original-url", "x-original-uri", "x-rewrite-url", "x-rewrite-uri", "x-override-url"),
        *("x-forwarded-uri", "x-forwarded-path", "x-http-path-override", "x-http-destinationurl"),
    }
)
HOST_OVERRIDES = frozenset(
    {
        *("x-forwarded-host", "x-forwarded-server", "x-host", "x-original-host", "x-http-host-override"),
        *("x-backend-host", "x-real-host"),
    }
)

_TELLING = (
    frozenset({"transfer-encoding", "content-length", "upgrade", "host", "forwarded"})
    | METHOD_OVERRIDES
    | URL_OVERRIDES
    | HOST_OVERRIDES
)
"""What else a request has in its header does not decide where it goes."""

_DEFAULT_PORTS = {"http": "80", "https": "443"}
_HOST = re.compile(r"(?:\[[0-9a-f:.]+\]|[a-z0-9_~-]+(?:\.[a-z0-9_~-]+)*)(?::[1-9][0-9]{0,4})?")
_TARGET = re.compile(r"/[\x21\x22\x24-\x5b\x5d-\x7e]*")  # visible ASCII but for `#` and the backslash
_TRIPLET = re.compile(r"%([0-9A-Fa-f]{2})")
_PLAIN_PATH = re.compile(r"[0-9A-Za-z_~/-]*")
_BROKEN_TRIPLET = re.compile(r"%(?![0-9A-Fa-f]{2})")
# What ends a path for one server or another, once decoded; and `%xx` that only a second decoding would find.
_DELIMITER = re.compile(r"[\x00-\x1f\x7f?#\\]|%[0-9A-Fa-f]{2}")
_NOT_IN_A_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# RFC 3986, section 2.3, without the dot: decoded, two of them would be a dot segment.
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_~")
_PARAM_NAME = re.compile(r"[A-Za-z0-9_.~-](?:[A-Za-z0-9_.~\[\]-]|%5[BbDd])*")
_PARAM_VALUE = re.compile(r"(?:[A-Za-z0-9_.~!$'()*+,:@/|=\[\]{}-]|%[0-9A-Fa-f]{2})*")
_HIDDEN = re.compile(rb"[\x00-\x1f\x7f&;=?#%]")
_FORWARDED_HOST = re.compile(rb'(?:^|[;,])[ \t]*host[ \t]*=[ \t]*("[^"]*"|[^;,]*)', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class QueryRules:
    """Which parameters do not matter. A name, or the beginning of one and `*`; names are compared as they are written.

    What is ignored must not change what the origin answers, redirects included: whoever asks first decides for all.
    """

    ignore: tuple[str, ...] = ()
    keep_only: tuple[str, ...] | None = None  # None: all
    sort: bool = False  # by name; those of one name stay in their order


@dataclass(frozen=True, slots=True)
class KeyRules:
    """The operator's part of the key."""

    query: QueryRules = field(default_factory=QueryRules)
    trusted: frozenset[str] = frozenset()
    """Override fields (lower case) that a proxy in front sets itself, whatever clients send: they select, as if Vary
    named them, instead of making a request uncacheable."""
    max_header: int = 16 * 1024  # bytes of names and values; larger ones provoke errors at origins with lower limits


# -- the key ----------------------------------------------------------------------------------------------------------


def cache_key(method: str, scheme: str, host: str, target: str, rules: KeyRules) -> str:
    """`https://host/path?query`: printable ASCII without spaces, the same for GET and HEAD.

    Of what no URL has (spaces, controls, other than ASCII, a backslash) the octets appear as `\\x20`.
    """
    where = (_known_origin if len(host) <= _SHORT else _origin)(scheme, host)
    what = _printable(keyed_target(target, rules.query))
    # A target that is no path cannot be mistaken for the end of a host: nothing else here has a space.
    url = f"{where}{'' if what.startswith('/') else ' '}{what}"
    return url if method in ("GET", "HEAD") else f"{_printable(method)} {url}"


def _origin(scheme: str, host: str) -> str:
    plain_scheme = scheme.lower()
    return f"{_printable(plain_scheme)}://{_authority(normal_host(plain_scheme, host))}"


_known_origin = lru_cache(maxsize=256)(_origin)


def key_of_url(url: str, rules: KeyRules) -> str:
    """The key under which a GET for this URL is stored. ValueError if it is no absolute one."""
    scheme, mark, rest = url.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if not (mark and host) or scheme.lower() not in _DEFAULT_PORTS:
        raise ValueError(f"{url!r} is no URL: write it like https://example.com/path")
    return cache_key("GET", scheme, host, rest[len(host) :], rules)


def normal_host(scheme: str, host: str) -> str:
    """In lower case, without a final dot and without the port that goes without saying (RFC 9110, section 4.2.3)."""
    name, colon, port = host.lower().rpartition(":")
    if not colon or "]" in port:
        name, port = host.lower(), ""
    name = name.removesuffix(".")
    return name if port in ("", _DEFAULT_PORTS.get(scheme)) else f"{name}:{port}"


def keyed_target(target: str, rules: QueryRules) -> str:
    """The path in its normal form and what the rules leave of the query; the fragment never."""
    path, mark, query = target.partition("#")[0].partition("?")
    kept = _filtered(query, rules) if mark else None
    path = normal_path(path) or "/"
    return path if kept is None else f"{path}?{kept}"


def normal_path(path: str) -> str:
    """Letters, digits, `-`, `_` and `~` decoded, other percent-encoding in upper case (RFC 3986, section 6.2.2)."""
    return _TRIPLET.sub(_normal_triplet, path)


def _normal_triplet(found: re.Match[str]) -> str:
    char = chr(int(found[1], 16))
    return char if char in _UNRESERVED else found[0].upper()


def _authority(host: str) -> str:
    return re.sub(r"[/?#@]", lambda found: f"\\x{ord(found[0]):02x}", _printable(host))


_IS_PRINTABLE = re.compile(r"[!-\[\]-~]*")


def _printable(text: str) -> str:
    """Visible ASCII as it is, any other octet and the backslash as `\\xNN`: different octets stay different."""
    if _IS_PRINTABLE.fullmatch(text):
        return text
    try:
        octets = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        octets = text.encode("utf-8", "surrogatepass")
    return "".join(chr(each) if 0x20 < each < 0x7F and each != 0x5C else f"\\x{each:02x}" for each in octets)


# -- the query --------------------------------------------------------------------------------------------------------


def _filtered(query: str, rules: QueryRules) -> str | None:
    """None where the rules leave nothing. The whole query as it is where parsers might disagree about its parts."""
    if not (rules.ignore or rules.sort or rules.keep_only is not None):
        return query
    parts = query.split("&")
    if not all(map(_is_plain, parts)):
        return query
    kept = [each for each in parts if not _is_dropped(each.partition("=")[0], rules)]
    if not kept:
        return None
    return "&".join(sorted(kept, key=_folded) if rules.sort else kept)


def _is_plain(part: str) -> bool:
    """Whether every parser finds this one parameter here: nothing in it, decoded or not, looks like a delimiter."""
    name, _, value = part.partition("=")
    if not part or not _PARAM_NAME.fullmatch(name) or not _PARAM_VALUE.fullmatch(value):
        return False
    if _HIDDEN.search(bytes(int(each, 16) for each in _TRIPLET.findall(value))):
        return False
    try:
        unquote_to_bytes(value).decode()
    except UnicodeDecodeError:  # an overlong `&`, perhaps
        return False
    return True


def _is_dropped(name: str, rules: QueryRules) -> bool:
    if any(_fits(name, pattern) for pattern in rules.ignore):
        return True
    # Kept in doubt: `ID`, `id[]` and `user.id` are `id`, `id` and `user_id` to one framework or another.
    return rules.keep_only is not None and not any(
        _fits(_folded(name), _folded(pattern) + "*" * pattern.endswith("*")) for pattern in rules.keep_only
    )


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _folded(part: str) -> str:
    """The name as the most lenient of parsers would have it."""
    name = re.split(r"=|\[|\]|%5[BbDd]|\*", part, maxsplit=1)[0]
    return name.lower().replace(".", "_")


# -- what is kept away ------------------------------------------------------------------------------------------------


def uncacheable_reason(
    method: str, scheme: str, host: str, target: str, fields: Fields, rules: KeyRules, *, has_body: bool = False
) -> str | None:
    """Why this request passes by the cache, as a token; None if it need not.

    `host` is the effective one (Host or :authority), `target` what follows it. Tokens: method, body, upgrade, host,
    target, path_encoding, path_delimiter, path_dots, path_form, method_override, url_override, host_override,
    field_value, oversized.
    """
    if method not in ("GET", "HEAD"):
        return "method"
    telling = [(named, value) for name, value in fields if (named := canonical(name)) in _TELLING]
    return (
        _message_fault(telling, has_body)
        or _host_fault(scheme.lower(), host, telling)
        or _target_fault(target)
        or _override_fault(host, telling, rules)
        or _header_fault(fields, rules)
    )


def doubtful_path(target: str) -> str | None:
    """What in the path one server reads otherwise than the next, though the key keeps it apart from anything else.

    Tokens: encoded_slash, parameters, empty_segment. A lifetime that comes from a rule about paths, and not from the
    response, had better not be given to it: `/account;x.css` may be `/account` (web cache deception).
    """
    path = target.partition("?")[0]
    if "%2f" in path.lower():
        return "encoded_slash"
    if ";" in path or "%3b" in path.lower():
        return "parameters"
    return "empty_segment" if "//" in path else None


def canonical(name: bytes) -> str:
    """In lower case, `_` as `-`: CGI and WSGI do not tell `X_Forwarded_Host` from `X-Forwarded-Host`."""
    return _remembered(name) if len(name) <= _SHORT else _canonical(name)


def _canonical(name: bytes) -> str:
    return name.decode("latin-1").lower().replace("_", "-")


_SHORT = 64
"""Bytes up to which a name is remembered: what clients send must not fill the memory."""
_remembered = lru_cache(maxsize=512)(_canonical)


def _message_fault(named: Sequence[tuple[str, bytes]], has_body: bool) -> str | None:
    """A GET whose body some origins read ("fat GET"), and requests for another protocol."""
    upgrade = None
    for name, value in named:
        if name == "transfer-encoding" or (name == "content-length" and value.strip() != b"0"):
            return "body"
        if name == "upgrade":
            upgrade = "upgrade"
    return "body" if has_body else upgrade


def _host_fault(scheme: str, host: str, named: Sequence[tuple[str, bytes]]) -> str | None:
    """One host, written as every client writes it: origins have answered `Host: EXAMPLE.com` or `:80` otherwise."""
    said = [value.decode("latin-1").strip(" \t") for name, value in named if name == "host"]
    return None if _is_usual(scheme, host) and said in ([], [host]) else "host"


def _is_usual(scheme: str, host: str) -> bool:
    return (_known_as_usual if len(host) <= _SHORT else _known_as_usual.__wrapped__)(scheme, host)


@lru_cache(maxsize=256)
def _known_as_usual(scheme: str, host: str) -> bool:
    return _HOST.fullmatch(host) is not None and normal_host(scheme, host) == host


def _target_fault(target: str) -> str | None:
    if not _TARGET.fullmatch(target):
        return "target"
    path = target.partition("?")[0]
    if _PLAIN_PATH.fullmatch(path):
        return None  # nothing of what follows is in it
    if _BROKEN_TRIPLET.search(path):
        return "path_encoding"
    try:
        decoded = unquote_to_bytes(path).decode()
    except UnicodeDecodeError:
        return "path_encoding"
    if _DELIMITER.search(decoded):
        return "path_delimiter"
    # `..;x` is `..` where parameters are cut off first.
    if any(segment.partition(";")[0].strip() in (".", "..") for segment in decoded.split("/")):
        return "path_dots"
    return None if normal_path(path) == path else "path_form"


def _override_fault(host: str, named: Sequence[tuple[str, bytes]], rules: KeyRules) -> str | None:
    """Fields by which frameworks let a client replace the method, the URL or the host that the key was made of."""
    for name, value in named:
        if name in METHOD_OVERRIDES:
            return "method_override"
        if name in URL_OVERRIDES and name not in rules.trusted:
            return "url_override"
        if _names_another_host(host, name, value) and name not in rules.trusted:
            return "host_override"
    return None


def _names_another_host(host: str, name: str, value: bytes) -> bool:
    if name in HOST_OVERRIDES:
        if value == host.encode("latin-1", "replace"):
            return False
        hosts = value.split(b",")
    elif name == "forwarded":  # RFC 7239, section 5.3
        hosts = [found[1].strip(b'"') for found in _FORWARDED_HOST.finditer(value)]
    else:
        return False
    return any(each.strip(b" \t").decode("latin-1").lower() != host for each in hosts)


def _header_fault(fields: Fields, rules: KeyRules) -> str | None:
    """What is sent to provoke an error page in the name of everybody (CPDoS: header oversize, meta characters)."""
    text = b"".join(chain.from_iterable(fields))  # names too, which have no such octet (RFC 9110, section 5.1)
    if _NOT_IN_A_VALUE.search(text):
        return "field_value"
    return "oversized" if len(text) > rules.max_header else None
