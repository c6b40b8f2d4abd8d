"""Which URL names which audit; and how texts are spelt in the tables."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.audit import DeadLetter
from holdfast.audit import rows as r
from holdfast.audit.opening import masked, open_audit
from holdfast.audit.postgres import PostgresAudit
from holdfast.audit.sqlite import SqliteAudit

texts = st.text(st.characters(), max_size=40)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("./file.db", "file.db"),
        ("file.db", "file.db"),
        ("/abs/file.db", "/abs/file.db"),
        ("sqlite:///relative.db", "relative.db"),
        ("sqlite:///a folder/ü.db", "a folder/ü.db"),
        ("sqlite:////abs/path.db", "/abs/path.db"),
    ],
)
def test_a_path_or_an_sqlite_url_names_a_file(url: str, path: str) -> None:
    """Relative to where the replayer was started, unless it begins with a slash."""
    audit = open_audit(url, time.time)
    assert isinstance(audit, SqliteAudit)
    assert audit._path == Path(path)


@pytest.mark.parametrize("url", ["postgresql://me@db:5433/audit?sslmode=require", "postgres://db/audit"])
def test_a_postgresql_url_names_a_database(url: str) -> None:
    """Nothing is connected to yet."""
    assert isinstance(open_audit(url, time.time), PostgresAudit)


@pytest.mark.parametrize(
    "url",
    [
        *("", "sqlite:", "sqlite:/file.db", "sqlite://file.db", "sqlite:///", "sqlite:///folder/", "./folder/"),
        *(":memory:", "sqlite:///:memory:", "file.db?mode=ro", "file:audit.db", "C:\\audit.db", "a\0b"),
        *("mysql://me:hush@db/audit", "postgresql+psycopg://me:hu@sh@db/audit", "://me:hush@db"),
        *("postgres:me:hush@db", "redis://db?password=hush", "postgresql://me:hush@db:port:port/x y"),
        *("postgresql://me:hush/x@db/audit", "postgresql://me:5/hush@db/audit", "postgresql://me:hush%zz@db/audit"),
    ],
)
def test_anything_else_is_refused_with_what_to_write(url: str) -> None:
    """Never with a password."""
    with pytest.raises(ValueError, match="write ") as error:
        open_audit(url, time.time)
    assert "postgresql://user" in str(error.value)
    assert "hush" not in str(error.value)
    assert "sh@" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:hush@db/audit", "postgresql://***@db/audit"),
        ("x://me:a@b/c@db/audit?sslPassword=hush&x=1", "x://***@db/audit?sslPassword=***&x=1"),
        ("x://db/audit", "x://db/audit"),
    ],
)
def test_a_password_is_masked_wherever_it_is(url: str, shown: str) -> None:
    """Also one that holds what ends a password."""
    assert masked(url) == shown


@given(texts, texts)
def test_every_text_can_be_stored_and_comes_back(one: str, other: str) -> None:
    """Also NUL and lone surrogates; two that differ stay different."""
    stored = r.stored(one)
    stored.encode()
    assert "\0" not in stored
    assert r.loaded(stored) == one
    assert (r.stored(other) == stored) == (one == other)


@given(texts, st.binary(max_size=50), st.lists(st.tuples(texts, st.binary(max_size=20)), max_size=4))
def test_every_message_can_be_stored_and_comes_back(name: str, value: bytes, headers: list[tuple[str, bytes]]) -> None:
    """Header fields of one name in their order."""
    letter = DeadLetter(name, name * 2, value, tuple(headers))
    assert r.letter_of(r.lettered(letter)) == letter


@given(texts)
def test_the_number_of_a_key_fits_into_the_tables(key: str) -> None:
    """Signed, 64 bits, the same each time."""
    assert -(1 << 63) <= r.lane(key) < 1 << 63
    assert r.lane(key) == r.lane(key)
