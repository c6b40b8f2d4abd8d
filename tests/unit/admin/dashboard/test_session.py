"""admin.dashboard.session: what a browser holds is signed, for one purpose and a time."""

import pytest

from holdfast.admin.dashboard.session import LASTS, NOBODY, TOLD_FOR, Sessions, Tries
from holdfast.testing import FixedClock


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def sessions(clock: FixedClock) -> Sessions:
    return Sessions(clock)


def test_a_session_lasts_twelve_hours(sessions: Sessions, clock: FixedClock) -> None:
    """And not a second longer."""
    cookie = sessions.open()
    assert sessions.holder(cookie)
    clock.advance(LASTS - 1)
    assert sessions.holder(cookie)
    clock.advance(1)
    assert sessions.holder(cookie) is None
    assert LASTS == 12 * 3600


@pytest.mark.parametrize("given", ["", "~", "x", "9999999999.abc~", "9999999999.abc~abc", "ä~ö", "~" * 1000, "nan.x~y"])
def test_what_this_process_has_not_signed_is_no_session(sessions: Sessions, given: str) -> None:
    """Whatever it looks like."""
    assert sessions.holder(given) is None
    assert sessions.noted(given) is None
    assert not sessions.is_form_token(given, NOBODY)


def test_nothing_of_a_session_can_be_changed(sessions: Sessions) -> None:
    """Neither its end nor its name."""
    value, _, mac = sessions.open().rpartition("~")
    until, _, name = value.partition(".")
    assert sessions.holder(f"{int(until) + 1}.{name}~{mac}") is None
    assert sessions.holder(f"{until}.{name}x~{mac}") is None
    assert sessions.holder(f"{value}~{mac}")


def test_the_session_of_another_process_opens_nothing(clock: FixedClock) -> None:
    """The secret is made at the start."""
    assert Sessions(clock).holder(Sessions(clock).open()) is None


def test_what_is_signed_for_one_purpose_is_nothing_for_another(sessions: Sessions) -> None:
    """A note or a form's token is no session."""
    note = sessions.note("done", good=True)
    assert sessions.holder(note) is None
    assert sessions.noted(sessions.open()) is None
    assert sessions.holder(f"9999999999.x~{sessions.form_token('9999999999.x')}") is None


def test_a_session_that_was_ended_opens_nothing(sessions: Sessions) -> None:
    """Wherever else its cookie may be; others go on."""
    ended, other = sessions.open(), sessions.open()
    sessions.end(ended)
    sessions.end(ended)
    sessions.end("rubbish")
    assert sessions.holder(ended) is None
    assert sessions.holder(other)


def test_the_list_of_ended_sessions_is_bounded(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the bound everybody is signed out: an ended session must not come back."""
    monkeypatch.setattr("holdfast.admin.dashboard.session._MOST_ENDED", 2)
    cookies = [sessions.open() for _ in range(4)]
    for cookie in cookies[:3]:
        sessions.end(cookie)
    assert [sessions.holder(cookie) for cookie in cookies] == [None] * 4
    assert sessions.holder(sessions.open())


def test_a_form_belongs_to_its_session(sessions: Sessions) -> None:
    """A token of somebody else's page is none."""
    mine, theirs = (sessions.holder(sessions.open()) or "" for _ in range(2))
    assert sessions.is_form_token(sessions.form_token(mine), mine)
    assert not sessions.is_form_token(sessions.form_token(theirs), mine)
    assert not sessions.is_form_token(sessions.form_token(NOBODY), mine)
    assert not sessions.is_form_token("ö", mine)


def test_a_note_is_told_for_a_while(sessions: Sessions, clock: FixedClock) -> None:
    """With any text in it."""
    cookie = sessions.note("Purged: <b>ö</b>~\n\ud800", good=False)
    assert sessions.noted(cookie) == ("Purged: <b>ö</b>~\n\ud800", False)
    assert cookie.isascii() and not set(cookie) & set(' ",;\\')
    clock.advance(TOLD_FOR)
    assert sessions.noted(cookie) is None


def test_after_five_wrong_tokens_an_address_has_to_wait() -> None:
    """Until the first of them is a minute old; others need not."""
    tries = Tries(most=5, span=60.0)
    for second in range(5):
        assert tries.wait("1.2.3.4", second) == 0
        tries.failed("1.2.3.4", second)
    assert tries.wait("1.2.3.4", 5.0) == 55
    assert tries.wait("5.6.7.8", 5.0) == 0
    assert tries.wait("1.2.3.4", 60.0) == 0


def test_the_addresses_that_are_remembered_are_bounded() -> None:
    """The one that was heard of longest ago makes room."""
    tries = Tries(most=1, addresses=2)
    for second, address in enumerate(("a", "b", "a", "c")):
        tries.failed(address, second)
    assert [tries.wait(address, 4.0) > 0 for address in "abc"] == [True, False, True]
