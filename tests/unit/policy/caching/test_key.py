"""policy.caching.key: what shares an entry, and what is kept away from the cache."""

import re
from collections.abc import Callable
from urllib.parse import unquote_plus, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.policy.caching.key import (
    KeyRules,
    QueryRules,
    cache_key,
    doubtful_path,
    key_of_url,
    keyed_target,
    normal_host,
    normal_path,
    uncacheable_reason,
)
from holdfast.policy.caching.model import Fields

PLAIN = KeyRules()
NO_TRACKING = KeyRules(query=QueryRules(ignore=("utm_*", "fbclid")))
ONLY_ID = KeyRules(query=QueryRules(keep_only=("id", "user_id")))
SORTED = KeyRules(query=QueryRules(sort=True))


def key(target: str, rules: KeyRules = PLAIN, *, host: str = "a.example", method: str = "GET") -> str:
    return cache_key(method, "https", host, target, rules)


def reason(target: str = "/", fields: Fields = (), *, host: str = "a.example", rules: KeyRules = PLAIN) -> str | None:
    return uncacheable_reason("GET", "https", host, target, fields, rules)


# --- the key ---


def test_a_key_reads_like_the_url() -> None:
    """It is shown in Cache-Status and looked for in the store."""
    assert key("/a/b?x=1&y=2") == "https://a.example/a/b?x=1&y=2"


def test_get_and_head_share_a_key_and_nothing_else_does() -> None:
    """RFC 9110, section 9.3.2; methods are case-sensitive (section 9.1)."""
    assert key("/", method="HEAD") == key("/")
    assert len({key("/", method=method) for method in ("GET", "get", "POST", "PUT", "G ET")}) == 5


@pytest.mark.parametrize(
    ("scheme", "host", "normal"),
    [
        ("http", "EXAMPLE.com", "example.com"),
        ("http", "example.com:80", "example.com"),
        ("https", "example.com:443", "example.com"),
        ("https", "example.com:80", "example.com:80"),
        ("http", "example.com.", "example.com"),
        ("http", "example.com.:8080", "example.com:8080"),
        ("http", "example.com:", "example.com"),
        ("http", "[::1]:80", "[::1]"),
        ("http", "[::1]", "[::1]"),
        ("http", "[2001:DB8::1]:8080", "[2001:db8::1]:8080"),
    ],
)
def test_a_host_has_one_normal_form(scheme: str, host: str, normal: str) -> None:
    """RFC 9110, section 4.2.3."""
    assert normal_host(scheme, host) == normal
    assert normal_host(scheme, normal) == normal


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/%7Eann/%41%5f%2d", "/~ann/A_-"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%2fb", "/a%2Fb"),
        ("/%2e%2e/x", "/%2E%2E/x"),
        ("/a/../b", "/a/../b"),
        ("//a//b", "//a//b"),
        ("/a\\b", "/a\\b"),
        ("/%2541", "/%2541"),
        ("/%zz%4", "/%zz%4"),
        ("/%00%0a%3F%23%3b", "/%00%0A%3F%23%3B"),
    ],
)
def test_only_what_means_the_same_everywhere_is_unified_in_a_path(path: str, normal: str) -> None:
    """RFC 3986, section 6.2.2: unreserved characters and the case of hexadecimals; no dots, slashes, delimiters."""
    assert normal_path(path) == normal


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("/a", "/a/"),
        ("/a", "/A"),
        ("/a", "//a"),
        ("/a/b", "/a%2Fb"),
        ("/b", "/a/../b"),
        ("/b", "/a/%2e%2e/b"),
        ("/b", "/./b"),
        ("/a/b", "/a\\b"),
        ("/a", "/a;x"),
        ("/a", "/a%00"),
        ("/a", "/a%20"),
        ("/a?b", "/a%3Fb"),
        ("/a", "/a%23b"),
        ("/a", "/a?"),
        ("/a?x=1&y=2", "/a?y=2&x=1"),
        ("/a?x=1", "/a?x=1&x=1"),
        ("/a?x=1", "/a?x=%31"),
        ("/a?x=a+b", "/a?x=a%20b"),
        ("/\udce9", "/%E9"),
        ("/a b", "/a%20b"),
        ("/a b", "/a\\x20b"),
        ("a.example/x", "/a.example/x"),
    ],
)
def test_what_an_origin_may_tell_apart_is_kept_apart(one: str, other: str) -> None:
    """A key in common would let one poison the other."""
    assert key(one) != key(other)


@pytest.mark.parametrize("other", ["http://a.example/x", "https://b.example/x", "https://a.example:8443/x"])
def test_scheme_host_and_port_are_in_the_key(other: str) -> None:
    """RFC 9111, section 2: at least the whole target URI."""
    assert key_of_url(other, PLAIN) != key_of_url("https://a.example/x", PLAIN)


def test_a_host_cannot_reach_into_the_path() -> None:
    """Whoever calls with what is no host gets a key of its own."""
    assert cache_key("GET", "https", "a/b", "/c", PLAIN) != cache_key("GET", "https", "a", "/b/c", PLAIN)
    assert cache_key("GET", "https", "a", "b/c", PLAIN) != cache_key("GET", "https", "ab", "/c", PLAIN)


def test_the_fragment_is_never_in_the_key() -> None:
    """RFC 9110, section 7.1: it is not sent; where it is, the request is refused."""
    assert key("/a?b#c") == key("/a?b")
    assert reason("/a#c") == "target"


def test_a_url_has_the_key_of_its_request() -> None:
    """What `purge --url` names."""
    assert key_of_url("HTTPS://A.Example:443?x", PLAIN) == key("/?x")
    assert key_of_url("https://a.example#x", PLAIN) == key("/")
    with pytest.raises(ValueError, match="is no URL"):
        key_of_url("/path", PLAIN)


# --- the rules for queries ---


@pytest.mark.parametrize(
    ("rules", "target", "keyed"),
    [
        (NO_TRACKING, "/?a=1&utm_source=x&fbclid=y&b=2", "/?a=1&b=2"),
        (NO_TRACKING, "/?utm_campaign=summer%20sale", "/"),
        (NO_TRACKING, "/?fbclid2=y", "/?fbclid2=y"),
        (NO_TRACKING, "/?UTM_SOURCE=x", "/?UTM_SOURCE=x"),
        (NO_TRACKING, "/?a=1&a=2&a=1", "/?a=1&a=2&a=1"),
        (NO_TRACKING, "/?", "/?"),
        (ONLY_ID, "/?x=1&id=2&y=3", "/?id=2"),
        (ONLY_ID, "/?ID=2&id[]=3&id%5B%5D=4&user.id=5&z=6", "/?ID=2&id[]=3&id%5B%5D=4&user.id=5"),
        (SORTED, "/?b=2&a=1&b=1", "/?a=1&b=2&b=1"),
        (SORTED, "/?a_b=2&a.b=1", "/?a_b=2&a.b=1"),
        (SORTED, "/?a[y]=2&a[x]=1", "/?a[y]=2&a[x]=1"),
        (KeyRules(query=QueryRules(keep_only=())), "/?x=1", "/"),
        (KeyRules(query=QueryRules(keep_only=("id*",))), "/?idx=1&x=1", "/?idx=1"),
    ],
)
def test_the_operator_says_which_parameters_matter(rules: KeyRules, target: str, keyed: str) -> None:
    """Duplicates stay in their order: some origins take the first, some the last. In doubt, a name is kept."""
    assert keyed_target(target, rules.query) == keyed


@pytest.mark.parametrize(
    "query",
    [
        "utm_content=x;id=evil",
        "utm_content=x%3Bid=evil",
        "utm_content=x%26id=evil",
        "utm_content=x%2526id=evil",
        "utm_content=x%C0%A6id=evil",
        "utm_content=x%u0026id=evil",
        "utm_content=x?id=evil",
        "utm_content=x%3Fid=evil",
        "utm_content=x%00id=evil",
        "utm_content=x%0Aid=evil",
        "utm_content=x%23id=evil",
        "utm_source=x&i%64=evil",
        "utm_source=x&+id=evil",
        "utm_source=x&&id=evil",
        'utm_source="x&id=evil"',
    ],
)
def test_a_cloaked_parameter_stays_in_the_key(query: str) -> None:
    """Parameter cloaking: where parsers might disagree, no rule is followed and the query counts as it is."""
    for rules in (NO_TRACKING, ONLY_ID, SORTED):
        assert keyed_target(f"/?{query}", rules.query) == f"/?{query}"


# --- published techniques, and what is said to each ---

POISONING: list[tuple[str, str, str, Fields, str]] = [
    ("the usual request", "a.example", "/a?b=c", [(b"Host", b"a.example"), (b"Cookie", b"x")], ""),
    ("X-Forwarded-Host", "a.example", "/", [(b"X-Forwarded-Host", b"evil")], "host_override"),
    ("the same, twice", "a.example", "/", [(b"X-Forwarded-Host", b"a.example, evil")], "host_override"),
    ("the same, with an underscore", "a.example", "/", [(b"X_Forwarded_Host", b"evil")], "host_override"),
    ("the same, naming the host itself", "a.example", "/", [(b"X-Forwarded-Host", b"a.example")], ""),
    ("Forwarded", "a.example", "/", [(b"Forwarded", b"for=1.2.3.4; Host=evil")], "host_override"),
    ("Forwarded, quoted", "a.example", "/", [(b"Forwarded", b'for=x, host="evil:80"')], "host_override"),
    ("Forwarded, harmless", "a.example", "/", [(b"Forwarded", b"for=1.2.3.4;host=a.example;proto=https")], ""),
    ("X-Host", "a.example", "/", [(b"X-Host", b"evil")], "host_override"),
    ("X-Original-URL", "a.example", "/", [(b"X-Original-URL", b"/admin")], "url_override"),
    ("X-Rewrite-URL", "a.example", "/", [(b"x-rewrite-url", b"/admin")], "url_override"),
    ("method override", "a.example", "/", [(b"X-HTTP-Method-Override", b"POST")], "method_override"),
    ("method override, CGI", "a.example", "/", [(b"X_HTTP_Method_Override", b"POST")], "method_override"),
    ("fat GET", "a.example", "/", [(b"Content-Length", b"7")], "body"),
    ("fat GET, chunked", "a.example", "/", [(b"Transfer-Encoding", b"chunked")], "body"),
    ("no body, said aloud", "a.example", "/", [(b"Content-Length", b"0")], ""),
    ("Upgrade", "a.example", "/", [(b"Upgrade", b"h2c")], "upgrade"),
    ("two hosts", "a.example", "/", [(b"Host", b"a.example"), (b"Host", b"evil")], "host"),
    ("Host beside :authority", "a.example", "/", [(b"host", b"evil")], "host"),
    ("Host in upper case", "A.example", "/", [(b"Host", b"A.example")], "host"),
    ("Host with the usual port", "a.example:443", "/", [(b"Host", b"a.example:443")], "host"),
    ("Host with another port", "a.example:1337", "/", [(b"Host", b"a.example:1337")], ""),
    ("Host with a final dot", "a.example.", "/", [(b"Host", b"a.example.")], "host"),
    ("Host with a path", "a.example/x", "/", [(b"Host", b"a.example/x")], "host"),
    ("Host with user information", "evil@a.example", "/", [], "host"),
    ("no host", "", "/", [], "host"),
    ("absolute target", "a.example", "http://evil/", [], "target"),
    ("backslash", "a.example", "/\\evil", [], "target"),
    ("encoded backslash", "a.example", "/static%5c..%5caccount", [], "path_delimiter"),
    ("dot segments", "a.example", "/static/../account", [], "path_dots"),
    ("encoded dot segments", "a.example", "/static/%2e%2e/account", [], "path_dots"),
    ("encoded slash and dots", "a.example", "/static/..%2faccount", [], "path_dots"),
    ("dots and a path parameter", "a.example", "/static/..;/account", [], "path_dots"),
    ("dots and an encoded parameter", "a.example", "/static/..%3bx/account", [], "path_dots"),
    ("encoded twice", "a.example", "/static/%252e%252e/account", [], "path_delimiter"),
    ("delimiter: newline", "a.example", "/account%0ax.css", [], "path_delimiter"),
    ("delimiter: NUL", "a.example", "/account%00x.css", [], "path_delimiter"),
    ("delimiter: question mark", "a.example", "/account%3fx.css", [], "path_delimiter"),
    ("delimiter: number sign", "a.example", "/account%23x.css", [], "path_delimiter"),
    ("delimiter: raw number sign", "a.example", "/account#x.css", [], "target"),
    ("overlong encoding", "a.example", "/%c0%ae%c0%ae/account", [], "path_encoding"),
    ("not UTF-8", "a.example", "/%ff", [], "path_encoding"),
    ("broken encoding", "a.example", "/%zz", [], "path_encoding"),
    ("raw octets", "a.example", "/\udcff", [], "target"),
    ("a needless encoding", "a.example", "/%61ccount", [], "path_form"),
    ("hexadecimals in lower case", "a.example", "/caf%c3%a9", [], "path_form"),
    ("a per cent sign of its own", "a.example", "/100%25", [], ""),
    ("oversized header", "a.example", "/", [(b"X-Oversized", b"x" * 20_000)], "oversized"),
    ("meta character", "a.example", "/", [(b"X-Meta", b"\x07")], "field_value"),
    # Kept apart by the key; whether it is stored is for what the response says, never for an extension.
    ("path parameter", "a.example", "/account;x.css", [], ""),
    ("static extension", "a.example", "/account/x.css", [], ""),
    ("encoded slash", "a.example", "/account%2Fx.css", [], ""),
    ("empty segment", "a.example", "//account", [], ""),
    # Selects, as if Vary named it (policy.caching.vary).
    ("X-Forwarded-Scheme", "a.example", "/", [(b"X-Forwarded-Scheme", b"http")], ""),
]


@pytest.mark.parametrize(
    ("host", "target", "fields", "token"), [each[1:] for each in POISONING], ids=[each[0] for each in POISONING]
)
def test_what_might_be_read_twice_passes_by_the_cache(host: str, target: str, fields: Fields, token: str) -> None:
    """Cache poisoning and cache deception as published; the token is what Cache-Status says."""
    assert (reason(target, fields, host=host) or "") == token


@pytest.mark.parametrize("method", ["POST", "get", "OPTIONS", "QUERY"])
def test_only_get_and_head_are_answered_from_the_cache(method: str) -> None:
    """RFC 9111, section 2."""
    assert uncacheable_reason(method, "https", "a.example", "/", [], PLAIN) == "method"


def test_a_body_without_framing_fields_is_a_body() -> None:
    """HTTP/2 needs no Content-Length."""
    assert uncacheable_reason("GET", "https", "a.example", "/", [], PLAIN, has_body=True) == "body"


def test_the_operator_can_trust_a_proxy_in_front() -> None:
    """Its fields then select variants; a method override is never trusted."""
    rules = KeyRules(trusted=frozenset({"x-forwarded-host", "x-original-url", "x-http-method-override"}))
    assert reason(fields=[(b"X-Forwarded-Host", b"b"), (b"X-Original-URL", b"/x")], rules=rules) is None
    assert reason(fields=[(b"X-Host", b"evil")], rules=rules) == "host_override"
    assert reason(fields=[(b"X-HTTP-Method-Override", b"PUT")], rules=rules) == "method_override"


@pytest.mark.parametrize(
    ("target", "token"),
    [
        ("/account;x.css", "parameters"),
        ("/account%3Bx.css", "parameters"),
        ("/a%2Fb", "encoded_slash"),
        ("//a", "empty_segment"),
        ("/account/x.css?a;b//c%2F", None),
    ],
)
def test_a_doubtful_path_is_named(target: str, token: str | None) -> None:
    """For rules that would give it a lifetime of their own."""
    assert doubtful_path(target) == token


# --- by construction ---

HOSTS = st.sampled_from(["a", "A", "a.", "a:443", "a:80", "a:0443", "b", "[::1]", "[::1]:443", "a/b", "", "a\\x2f"])
PIECES = ["/", "a", "A", "%61", "%41", "%2f", "%2F", "%2e", ".", "..", ";", "%3b", "%3B", "\\", "%5c", "%00", "%0a"]
MORE = ["?", "%3f", "#", "%23", "%25", "%2561", "%c3%a9", "%C3%A9", "é", "\udcff", " ", "%20", "+", "&", "=", "\x00"]
TARGETS = st.lists(st.sampled_from(PIECES + MORE), max_size=6).map(lambda parts: "/" + "".join(parts)) | st.text()


@given(HOSTS, TARGETS)
@example("a", "/%61")
@example("a:443", "/")
@example("a", "/..%2f")
def test_a_request_that_is_not_refused_has_its_own_bytes_for_a_key(host: str, target: str) -> None:
    """Without rules for the query: two such requests share a key only if host and target are the same bytes."""
    if reason(target, host=host) is None:
        assert key(target, host=host) == f"https://{host}{target}"
        assert not re.search(r"[\\#?\x00-\x1f]|/\.\.?(/|$)", unquote_to_bytes(target.partition("?")[0]).decode())


@given(HOSTS | st.text(), TARGETS)
def test_a_key_can_be_made_of_anything(host: str, target: str) -> None:
    """Printable ASCII; made of its own parts again, it is the same."""
    for rules in (PLAIN, NO_TRACKING, ONLY_ID, SORTED):
        made = cache_key("GET", "https", host, target, rules)
        assert made.isascii()
        assert made.isprintable()
        again = keyed_target(target, rules.query)
        assert keyed_target(again, rules.query) == again
    reason(target, host=host)
    doubtful_path(target)


@given(
    st.text(alphabet="/?#@: \\ab\x00é", max_size=5), TARGETS, st.text(alphabet="/?#@: \\ab\x00é", max_size=5), TARGETS
)
def test_host_and_path_never_run_into_each_other(a: str, x: str, b: str, y: str) -> None:
    """Whatever is called a host."""
    if cache_key("GET", "http", a, x, PLAIN) == cache_key("GET", "http", b, y, PLAIN):
        assert normal_host("http", a) == normal_host("http", b)
        assert keyed_target(x, PLAIN.query) == keyed_target(y, PLAIN.query) or "\udcff" in x + y


# Parsers as they are out there: each gives the parameters in order, as (name, value).


def by_ampersand(query: str) -> list[tuple[str, str]]:
    parts = [part.partition("=") for part in query.split("&") if part]
    return [(unquote_plus(name), unquote_plus(value)) for name, _, value in parts]


def also_by_semicolon(query: str) -> list[tuple[str, str]]:
    return by_ampersand(query.replace(";", "&"))


def decoded_first(query: str) -> list[tuple[str, str]]:
    return by_ampersand(unquote_to_bytes(query).decode("latin-1"))


def cut_at_a_second_question_mark(query: str) -> list[tuple[str, str]]:
    return by_ampersand(query.rpartition("?")[2])


def like_php(query: str) -> list[tuple[str, str]]:
    return [(re.split(r"\[|\0", n.lstrip())[0].replace(".", "_"), f"{n}={v}") for n, v in by_ampersand(query)]


def regardless_of_case(query: str) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in by_ampersand(query)]


PARSERS = [
    *(by_ampersand, also_by_semicolon, decoded_first),
    *(cut_at_a_second_question_mark, like_php, regardless_of_case),
]
NAMES = ["utm_x", "UTM_X", "id", "ID", "i%64", "user.id", "user_id", "x", "id[]", "id%5B%5D", "+id", ""]
VALUES = ["", "=", "=1", "=2", "=1;id=2", "=1%3bid=2", "=1%26id=2", "=1%2526id=2", "=1?id=2", "=%00", "=%C0%A6", "=a#b"]
QUERIES = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES[:4]) | st.sampled_from(VALUES)), max_size=5
).map(lambda pairs: "&".join(name + value for name, value in pairs))


@pytest.mark.parametrize("parser", PARSERS)
@given(query=QUERIES)
@example(query="utm_x=1;id=2")
@example(query="utm_x=1%26id=2")
@example(query="i%64=2")
@example(query="ID=2&user.id=3")
def test_what_a_rule_drops_no_parser_takes_for_something_else(
    parser: Callable[[str], list[tuple[str, str]]], query: str
) -> None:
    """Parameter cloaking: a query and its keyed form differ, whoever parses them, in what may be dropped only.

    Since the keyed form is its own, the same holds for any two queries that share a key.
    """
    sent = query.partition("#")[0]
    for rules, counts in (
        (NO_TRACKING, lambda name: not name.lower().startswith("utm_")),
        (ONLY_ID, lambda name: name in ("id", "user_id")),
    ):
        keyed = keyed_target(f"/?{query}", rules.query).partition("?")[2]
        assert [each for each in parser(sent) if counts(each[0])] == [each for each in parser(keyed) if counts(each[0])]


@given(QUERIES)
def test_sorting_keeps_what_any_parser_takes_for_one_name_in_order(query: str) -> None:
    """The first or the last of them counts, depending on the origin."""
    made = keyed_target(f"/?{query}", SORTED.query).partition("?")[2]
    before, after = like_php(query.partition("#")[0]), like_php(made)
    for name in {each[0].lower() for each in before}:
        assert [e for e in before if e[0].lower() == name] == [e for e in after if e[0].lower() == name]
