"""policy.caching.status: the Cache-Status field."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.policy.caching.status import FORWARDED_BECAUSE, CacheStatus, member, with_cache_status


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (CacheStatus(), "holdfast;hit"),
        (CacheStatus(ttl=376.9), "holdfast;hit;ttl=376"),
        (CacheStatus(ttl=-411.5), "holdfast;hit;ttl=-412"),
        (CacheStatus(ttl=math.inf), "holdfast;hit;ttl=999999999999999"),
        (CacheStatus(ttl=math.nan), "holdfast;hit"),
        (CacheStatus("uri-miss"), "holdfast;fwd=uri-miss"),
        (CacheStatus("uri-miss", collapsed=True), "holdfast;fwd=uri-miss;collapsed"),
        (CacheStatus("uri-miss", collapsed=False), "holdfast;fwd=uri-miss;collapsed=?0"),
        (CacheStatus("stale", 304, 60, stored=True), "holdfast;fwd=stale;fwd-status=304;ttl=60;stored"),
        (CacheStatus("miss", stored=False), "holdfast;fwd=miss;stored=?0"),
        (CacheStatus(stored=True, collapsed=True, fwd_status=200), "holdfast;hit"),
        (CacheStatus(key="https://a/b?c"), 'holdfast;hit;key="https://a/b?c"'),
        (CacheStatus(key='a"b\\c'), 'holdfast;hit;key="a\\"b\\\\c"'),
        (CacheStatus(key="x" * 5000), "holdfast;hit"),
        (CacheStatus("bypass", detail="path_dots"), "holdfast;fwd=bypass;detail=path_dots"),
        (CacheStatus("bypass", detail="two words"), 'holdfast;fwd=bypass;detail="two words"'),
        (CacheStatus("bypass", detail="é\n"), 'holdfast;fwd=bypass;detail="%C3%A9%0A"'),
    ],
)
def test_a_member_says_what_the_cache_did(status: CacheStatus, text: str) -> None:
    """RFC 9211, section 2; what has no meaning for a hit is left out, and half a key is none."""
    assert member(status) == text


@pytest.mark.parametrize("because", sorted(FORWARDED_BECAUSE))
def test_a_reason_is_one_of_the_rfc(because: str) -> None:
    """RFC 9211, section 2.2."""
    assert member(CacheStatus(because)) == f"holdfast;fwd={because}"


def test_another_reason_is_refused() -> None:
    """It would be `detail`."""
    with pytest.raises(ValueError, match=r"RFC 9211"):
        CacheStatus("because")


def test_ours_comes_after_what_caches_nearer_to_the_origin_said() -> None:
    """RFC 9211, section 2: the last member is the cache nearest to the client."""
    before = [(b"cache-status", b"Origin; hit"), (b"A", b"1")]
    assert with_cache_status(before, CacheStatus()) == [*before, (b"Cache-Status", b"holdfast;hit")]


@given(st.text(max_size=30), st.text(max_size=30), st.none() | st.floats())
def test_whatever_is_said_the_field_is_well_formed(key: str, detail: str, ttl: float | None) -> None:
    """RFC 9651, sections 3.3.3 and 3.3.4: a URL must not be able to end the string it is shown in."""
    string = r'"(?:[ !#-\[\]-~]|\\["\\])*"'
    token = r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*"
    text = member(CacheStatus("miss", ttl=ttl, key=key, detail=detail))
    assert re.fullmatch(rf"holdfast;fwd=miss(;ttl=-?\d{{1,15}})?;key={string};detail=(?:{string}|{token})", text)
