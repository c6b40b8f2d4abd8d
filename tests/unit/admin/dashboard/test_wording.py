"""admin.dashboard.wording, looking and html_page: text of anybody's, times, addresses of the page."""

import pytest
from tornado.httputil import HTTPHeaders

from holdfast.admin.dashboard.html_page import is_our_own, own_place
from holdfast.admin.dashboard.looking import Looking, parse_looking
from holdfast.admin.dashboard.wording import Moment, body_text, shown

NOON = 1_767_268_800.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a < b & \"c\" 'd'", "a &lt; b &amp; &quot;c&quot; &#x27;d&#x27;"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x00\x1b[31m\r", "��[31m�"),
        ("\u202eevil\u2066", "�evil�"),  # turns the direction of what follows
        ("half \ud800", "half �"),
        ("Grüße 東京", "Grüße 東京"),
        (b"\xff<", "�&lt;"),
        (42, "42"),
        (None, "None"),
    ],
)
def test_text_is_shown_as_text(text: object, expected: str) -> None:
    """No markup, no control characters, nothing that has no UTF-8."""
    assert shown(text).replace("&#39;", "&#x27;") == expected
    shown(text).encode()


@pytest.mark.parametrize(
    ("at", "utc", "ago"),
    [
        (NOON - 14.4, "11:59:45 UTC", "14s ago"),
        (NOON, "12:00:00 UTC", "0s ago"),
        (NOON + 600, "12:10:00 UTC", "in 10m"),
        (NOON - 86_400, "2025-12-31 12:00:00 UTC", "1d ago"),
        (1e300, "1e+300", "in "),
    ],
)
def test_a_time_is_utc_and_an_age(at: float, utc: str, ago: str) -> None:
    """With the day where it is another; a number that no calendar has is shown as it is."""
    moment = Moment(at, NOON)
    assert moment.utc == utc
    assert moment.ago.startswith(ago)


def test_a_body_is_shown_as_far_as_it_is_text() -> None:
    """Its beginning, and how much there is."""
    assert body_text(b"short") == "short"
    assert body_text(b"\xff\x00") == "(2 bytes, not text)"
    assert body_text(b"x" * 5000).endswith("x\n… (5000 bytes in all)")
    assert body_text(b"cut", truncated=True) == "cut\n… (3 bytes kept, the rest was cut off)"
    assert body_text("é".encode() * 3000).startswith("é" * 1999)
    assert body_text(b"x" + "é".encode() * 3000).startswith("x" + "é" * 1999 + "\n")  # cut within a character
    assert body_text(b"\x89PNG" + bytes(range(256)) * 20) == "(5124 bytes, not text)"
    assert body_text("é".encode()[:1], truncated=True) == "\n… (1 byte kept, the rest was cut off)"


def test_what_was_chosen_stays_chosen() -> None:
    """An address leads to the same view again."""
    looking = Looking(route="a&b=c", state="dead", table=True, paused=True)
    given = dict(looking.pairs())
    assert parse_looking(given.get) == looking
    assert looking.url(state="") == "/?route=a%26b%3Dc&table=on&refresh=off"
    assert (
        parse_looking(given.get, "/page/captures").url(route="", table=False) == "/page/captures?state=dead&refresh=off"
    )
    assert Looking().url() == "/"
    assert Looking(route="\ud800").url() == "/?route=%3F"
    with pytest.raises(ValueError, match="is no state"):
        parse_looking(lambda name, default: "gone" if name == "state" else default)


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ("/", "/"),
        ("/?route=users&state=dead", "/?route=users&state=dead"),
        ("/page/captures/0189", "/page/captures/0189"),
        ("//evil.example/", "/"),
        ("https://evil.example/", "/"),
        ("https://evil.example/page/purge", "/"),
        ("http://[evil/", "/"),
        ("/page/\\evil.example", "/"),
        ("////evil.example/page/purge", "/"),
        ("/\\evil.example", "/"),
        ("/page/../\r\nSet-Cookie: a=b", "/"),
        ("/metrics", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
def test_nobody_is_sent_to_another_place(asked: str, place: str) -> None:
    """What follows the sign-in is one of our pages."""
    assert own_place(asked) == place


@pytest.mark.parametrize(
    ("fields", "ours"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:9900"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "none"}, False),
        ({"Origin": "http://127.0.0.1:9900"}, True),
        ({"Origin": "https://127.0.0.1:9900"}, True),  # something in front of it may speak TLS
        ({"Origin": "http://127.0.0.1:8080"}, False),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://["}, False),
        ({}, False),
    ],
)
def test_a_form_comes_from_our_own_page(fields: dict[str, str], ours: bool) -> None:
    """As the browser says, which a page cannot make it say; another port is another page."""
    assert is_our_own(HTTPHeaders({"Host": "127.0.0.1:9900"} | fields)) is ours
