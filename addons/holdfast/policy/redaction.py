"""What is taken out of a captured request before it is stored or published, and how it is put back.

- Header fields by name, whole, in the request and in the last upstream answer.
- Parameters by name, in the query string and wherever a URL is kept: the uri, `referer`, `location` and their kin, in
  their fragments too; and in bodies of HTML forms (a multipart one is masked whole if a part has such a name).
- User and password of an absolute URL. These are cut out, not masked: a URL parser rejects brackets in that place.
- Values in JSON bodies by path (`policy/json_paths.py`), whatever content type the body claims to have.

Names are compared without regard to case. A path segment is never masked: put no secret there, it is in every log.

Whoever configures JSON paths says that bodies hold secrets. So a body in which they cannot be looked up (compressed,
cut short, of another format) is masked whole; `other_bodies="keep"` lets those through that do not claim to be JSON.
A body that holds nothing to mask stays as it was, byte for byte.

`redact` hands out what it took, so that it can be sealed; `restore` is its inverse.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypedDict, cast
from urllib.parse import unquote_plus

from holdfast.errors import PoisonRecord
from holdfast.policy.envelope import CapturedRequest, UpstreamAnswer
from holdfast.policy.json_paths import JsonPath, mask_json, parse_path
from holdfast.policy.wire import HeaderMap, declared_charset, encode_body, first_value

MASK = "[redacted]"
WHOLE_BODY = "body"

DEFAULT_HEADERS = frozenset({
    "authorization", "proxy-authorization", "cookie", "cookie2", "set-cookie", "set-cookie2",
    "authentication-info", "proxy-authentication-info", "x-api-key", "api-key", "apikey", "x-auth-token",
    "x-access-token", "x-session-token", "x-csrf-token", "x-xsrf-token", "x-amz-security-token",
    "x-goog-api-key", "x-goog-iap-jwt-assertion", "x-amzn-oidc-data", "x-amzn-oidc-accesstoken",
    "x-ms-token-aad-access-token", "x-ms-token-aad-id-token", "x-forwarded-access-token",
    "x-auth-request-access-token", "cf-access-jwt-assertion", "x-functions-key", "ocp-apim-subscription-key",
    "x-shopify-access-token", "x-vault-token", "private-token", "job-token", "dpop",
    "x-gitlab-token", "x-telegram-bot-api-secret-token", "sec-websocket-protocol"
})  # fmt: skip
DEFAULT_QUERY = frozenset({
    "access_token", "refresh_token", "id_token", "token", "auth_token", "api_key", "api-key", "apikey",
    "client_secret", "password", "passwd", "secret", "signature", "sig", "x-amz-credential",
    "x-amz-security-token", "x-amz-signature", "x-goog-credential", "x-goog-signature",
    "pwd", "passphrase", "jwt", "session", "sessionid", "code", "auth"
})  # fmt: skip
_URL_FIELDS = ("referer", "location", "content-location", "refresh", "x-original-url", "x-original-uri",
               "x-rewrite-url", "x-forwarded-uri", "origin", "x-forwarded-host")  # fmt: skip
_URL_PARTS = ("uri", "query_string", "backend_url")
_USERINFO = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/?#]*@", re.IGNORECASE)
_NAME_PARTS = re.compile(r"[\[\].]+")
_FORM = "application/x-www-form-urlencoded"
_MULTIPART = "multipart/form-data"
_PART_NAME = re.compile(rb"""\bname\s*=\s*(?:"([^"\r\n]*)"|([^";\s]+))""", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedactionRules:
    """Names in any case. ValueError for a JSON path that cannot be read."""

    headers: frozenset[str] = DEFAULT_HEADERS
    query: frozenset[str] = DEFAULT_QUERY
    json_paths: tuple[str, ...] = ()
    other_bodies: Literal["mask", "keep"] = "mask"
    paths: tuple[JsonPath, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headers", frozenset(name.lower() for name in self.headers))
        object.__setattr__(self, "query", frozenset(name.lower() for name in self.query))
        object.__setattr__(self, "paths", tuple(parse_path(text) for text in self.json_paths))


class MessageSecrets(TypedDict, total=False):
    """What was taken out of a request's or an answer's fields and body (base64), as plain JSON values."""

    headers: dict[str, str | list[str]]
    body: str


class Secrets(MessageSecrets, total=False):
    """All that was taken out of a record: the original of every part that was changed."""

    uri: str
    query_string: str
    backend_url: str
    response: MessageSecrets


class Redacted(NamedTuple):
    """The record without its secrets, the secrets, and their names as they stand in the record's `redacted`."""

    record: CapturedRequest
    secrets: Secrets
    names: tuple[str, ...]


def redact(record: CapturedRequest, rules: RedactionRules) -> Redacted:
    """Take out what the rules name.

    Names look like `header:authorization`, `query:token`, `body:$.user.password` (JSON), `body:password` (a form),
    `body` (all of it), `uri:userinfo`, `header:referer:token`; those of the answer begin with `response.`.
    """
    changes, secrets, names = _redact_message(record, rules)
    for part in _URL_PARTS:
        original = getattr(record, part)
        masked, found = mask_query(original, rules) if part == "query_string" else mask_url(original, rules)
        if masked != original:
            changes[part], secrets[part] = masked, original
        names += [f"{part}:{name}" if name == "userinfo" else f"query:{name}" for name in found]
    if record.response is not None:
        changed, taken, found = _redact_message(record.response, rules)
        if taken:
            changes["response"], secrets["response"] = replace(record.response, **changed), taken
        names += [f"response.{name}" for name in found]
    unique = tuple(dict.fromkeys((*record.redacted, *names)))
    if changes or unique != record.redacted:
        record = replace(record, **changes, redacted=unique)
    return Redacted(record, cast("Secrets", secrets), unique)


def _redact_message(
    message: CapturedRequest | UpstreamAnswer, rules: RedactionRules
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """(fields to replace, `MessageSecrets`, names)."""
    headers, taken, names = mask_headers(message.headers, rules)
    changes: dict[str, Any] = {"headers": headers} if taken else {}
    secrets: dict[str, Any] = {"headers": taken} if taken else {}
    if not _looks_into_bodies(message.headers, rules):
        return changes, secrets, names
    original = message.body_bytes()
    masked, found = mask_body(original, message.headers, rules)
    if masked != original:
        changes["body"], changes["body_encoding"] = encode_body(masked, first_value(message.headers, "content-type"))
        secrets["body"] = base64.b64encode(original).decode("ascii")
    return changes, secrets, names + list(found)


def mask_headers(headers: HeaderMap, rules: RedactionRules) -> tuple[HeaderMap, dict[str, str | list[str]], list[str]]:
    """(masked fields, the originals of those that changed, names)."""
    masked = dict(headers)
    taken: dict[str, str | list[str]] = {}
    names: list[str] = []
    for name, value in headers.items():
        if name in rules.headers:
            masked[name] = MASK
            names.append(f"header:{name}")
        elif name in _URL_FIELDS:
            masked[name], found = _mask_url_field(value, rules)
            names += [f"header:{name}:{each}" for each in found]
        if masked[name] != value:
            taken[name] = value if isinstance(value, str) else list(value)
    return masked, taken, names


def _mask_url_field(value: str | tuple[str, ...], rules: RedactionRules) -> tuple[str | tuple[str, ...], list[str]]:
    if isinstance(value, str):
        return mask_url(value, rules)
    each = [mask_url(one, rules) for one in value]
    return tuple(masked for masked, _ in each), [name for _, names in each for name in names]


def mask_url(url: str, rules: RedactionRules) -> tuple[str, list[str]]:
    """A URL, absolute or not, without user and password (name `userinfo`) and with its parameters masked."""
    if "@" not in url and "=" not in url:
        return url, []
    bare = _USERINFO.sub(r"\1", url)
    names = ["userinfo"] if bare != url else []
    rest, hash_, fragment = bare.partition("#")
    start, mark, query = rest.partition("?")
    query, in_query = mask_query(query, rules)
    fragment, in_fragment = mask_query(fragment, rules)
    return start + mark + query + hash_ + fragment, names + in_query + in_fragment


def mask_query(query: str, rules: RedactionRules) -> tuple[str, list[str]]:
    """A query string or a form with the values of the named parameters masked; and those names, in lower case."""
    names: list[str] = []
    if "=" not in query:
        return query, names
    pieces = [_mask_piece(piece, rules, names) for piece in query.split("&")]
    return "&".join(pieces), names


def _mask_piece(piece: str, rules: RedactionRules, names: list[str]) -> str:
    """One part between ampersands. Some origins split at `;` as well, others do not: a name found behind one masks all
    that follows it, which is right for either.
    """
    at = 0
    for part in piece.split(";"):
        name, equals, _ = part.partition("=")
        found = _secret_name(name, rules) if equals else None
        if found is not None:
            names.append(found)
            return f"{piece[:at]}{name}={MASK}"
        at += len(part) + 1
    return piece


def _secret_name(name: str, rules: RedactionRules) -> str | None:
    """The rule that a parameter's name falls under: `password` covers `user[password]` and `user.password` as well."""
    plain = unquote_plus(name).strip().lower()
    return next((each for each in (plain, *_NAME_PARTS.split(plain)) if each in rules.query), None)


def mask_body(body: bytes, headers: HeaderMap, rules: RedactionRules) -> tuple[bytes, tuple[str, ...]]:
    """(masked body, names); the very same body where there was nothing to mask."""
    if not body:
        return body, ()
    types, media = _types(headers)
    if rules.paths:
        try:
            return _mask_json_body(body, types, rules.paths)
        except ValueError:
            if rules.other_bodies == "mask" or any(each.endswith(("/json", "+json")) for each in media):
                return MASK.encode(), (WHOLE_BODY,)
    if rules.query and _FORM in media:
        return _mask_form_body(body, headers, rules)
    if rules.query and _MULTIPART in media and _names_a_secret(body, headers, rules):
        return MASK.encode(), (WHOLE_BODY,)
    return body, ()


def _looks_into_bodies(headers: HeaderMap, rules: RedactionRules) -> bool:
    """Whether `mask_body` could find anything in one with such fields."""
    return bool(rules.paths) or (bool(rules.query) and not _types(headers)[1].isdisjoint((_FORM, _MULTIPART)))


def _types(headers: HeaderMap) -> tuple[Sequence[str], set[str]]:
    """The fields that say what the body is, and the media types in them."""
    declared = headers.get("content-type", "")
    types = (declared,) if isinstance(declared, str) else declared
    return types, {each.partition(";")[0].strip().lower() for each in types}


def _mask_json_body(
    body: bytes, content_types: Sequence[str], paths: Sequence[JsonPath]
) -> tuple[bytes, tuple[str, ...]]:
    if any(declared_charset(each) != "utf-8" for each in content_types):
        raise ValueError("another charset may read these bytes otherwise")
    masked, hits = mask_json(body.decode("utf-8"), paths)
    return masked.encode("utf-8"), tuple(f"body:{path}" for path in hits)


def _mask_form_body(body: bytes, headers: HeaderMap, rules: RedactionRules) -> tuple[bytes, tuple[str, ...]]:
    if "content-encoding" in headers:  # nothing can be looked up in it, and it may well be a login form
        return MASK.encode(), (WHOLE_BODY,)
    masked, names = mask_query(body.decode("latin-1"), rules)
    return masked.encode("latin-1"), tuple(f"body:{name}" for name in names)


def _names_a_secret(body: bytes, headers: HeaderMap, rules: RedactionRules) -> bool:
    """Whether a part of a form is named like a secret. A compressed body may hold one."""
    named = (each[1] or each[2] for each in _PART_NAME.finditer(body))
    return "content-encoding" in headers or any(name.decode("latin-1").lower() in rules.query for name in named)


def restore(record: CapturedRequest, secrets: Mapping[str, object]) -> CapturedRequest:
    """Put back what `redact` took. PoisonRecord where the secrets are not of its making."""
    changes = _restored(record, secrets)
    for part in _URL_PARTS:
        if part in secrets:
            changes[part] = _text(secrets[part], part)
    if record.response is not None and "response" in secrets:
        answer = _restored(record.response, _object(secrets["response"], "response"))
        changes["response"] = replace(record.response, **answer)
    return replace(record, **changes, redacted=(), sealed=None)


def _restored(message: CapturedRequest | UpstreamAnswer, secrets: Mapping[str, object]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if "headers" in secrets:
        held = _object(secrets["headers"], "headers")
        originals = {name: tuple(value) if isinstance(value, list) else value for name, value in held.items()}
        changes["headers"] = {**message.headers, **originals}
    if "body" in secrets:
        body = base64.b64decode(_text(secrets["body"], "body"))
        content_type = first_value(changes.get("headers", message.headers), "content-type")
        changes["body"], changes["body_encoding"] = encode_body(body, content_type)
    return changes


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise PoisonRecord(f"sealed {name}: expected text")
    return value


def _object(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise PoisonRecord(f"sealed {name}: expected an object")
    return value
