"""What tells one recording from another, and file names made from that which are safe on every system.

A name is the method and the path, `get.api.users.3`, wherever that is unmistakable: segments of small letters, digits,
`-` and `_`, no query, no header field that counts. Everything else gets a readable part and a digest of all of it,
`get.api.users~7d3a9c550d1f5a2b`. Neither holds a letter whose case a file system could lose, a separator, or a name
that a system keeps for itself; and no two keys that differ have the same plain name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.policy.redaction import RedactionRules, mask_query
from holdfast.policy.wire import wire_text

type Pairs = tuple[tuple[str, str], ...]

_PLAIN_PATH = re.compile(r"(?:/[a-z0-9_-]+)+|/?")
_PLAIN_METHOD = re.compile(r"[A-Z]+")
_PLAIN_FOLDER = re.compile(r"[a-z0-9_-]{1,64}")
_OTHER = re.compile(r"[^a-z0-9_-]+")
_LONGEST = 80  # characters of the readable part
_DIGEST = 16
# Windows opens a device by these, whatever their ending.
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))})


@dataclass(frozen=True, slots=True)
class RecordingKey:
    """Of a request, without its secrets. `method` is GET also for HEAD; path and query are wire text.

    `when` are the header fields that count and that the request has, lower-case names in order; `body` the SHA-256 of
    its body in hexadecimal, empty where that does not count.
    """

    method: str
    path: str
    query: str = ""
    when: Pairs = ()
    body: str = ""

    @property
    def target(self) -> str:
        """Path and query, as the request had them."""
        return f"{self.path}?{self.query}" if self.query else self.path


def key_of(
    method: str,
    target: str,
    fields: Sequence[tuple[bytes, bytes]],
    *,
    counting: Sequence[str] = (),
    rules: RedactionRules,
    body: bytes = b"",
) -> RecordingKey:
    """The key of a request. `counting` names header fields; `body` is empty where the body does not count."""
    path, _, query = target.partition("?")
    lower = [(wire_text(name).lower(), wire_text(value).strip()) for name, value in fields]
    held = [(name, ", ".join(v for n, v in lower if n == name)) for name in sorted({c.lower() for c in counting})]
    present = {name for name, _ in lower}
    return RecordingKey(
        method="GET" if method == "HEAD" else method,
        path=path,
        query=mask_query(query, rules)[0],
        when=tuple((name, value) for name, value in held if name in present),
        body=hashlib.sha256(body).hexdigest() if body else "",
    )


def file_name(key: RecordingKey) -> str:
    """Without its ending; at most a hundred characters of a-z, 0-9, `.`, `-`, `_`, `~`."""
    method = key.method.lower()
    plain = _PLAIN_METHOD.fullmatch(key.method) and method not in _DEVICES and _PLAIN_PATH.fullmatch(key.path)
    first = f"{method}-" if method in _DEVICES else method
    readable = ".".join(filter(None, (_slug(each) for each in (first, *key.path.split("/")))))
    if plain and not (key.query or key.when or key.body) and len(readable) <= _LONGEST:
        return readable
    whole = repr((key.method, key.path, key.query, key.when, key.body))
    return f"{readable[:_LONGEST].rstrip('.') or 'x'}~{_digest(whole)}"


def is_plain(name: str) -> bool:
    """Whether the name alone says which request it is for."""
    return "~" not in name


def named_method(name: str) -> str:
    """The method, as far as the name of a file tells: in lower case."""
    return re.split(r"[.~]", name, maxsplit=1)[0]


def plain_path(name: str) -> str:
    """The path of a plain name."""
    return "/" + "/".join(name.split(".")[1:])


def likeness(name: str, other: str) -> int:
    """How much two names are alike: the segments that they share, less those that one has more."""
    one, two = (each.partition("~")[0].split(".") for each in (name, other))
    return sum(a == b for a, b in zip(one, two, strict=False)) - abs(len(one) - len(two))


def folder_name(route: str) -> str:
    """The folder of a route: its name, unless a file system might take that for something else."""
    if _PLAIN_FOLDER.fullmatch(route) and route not in _DEVICES:
        return route
    return f"{_slug(route)[:_LONGEST] or 'x'}~{_digest(route)}"


def _slug(text: str) -> str:
    return _OTHER.sub("-", text.lower()[: 2 * _LONGEST])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
