"""What the store wants of a Redis, and that its list of commands is whole."""

from __future__ import annotations

import re

import pytest

from holdfast.stores import redis_scripts
from holdfast.stores.redis_wants import COMMANDS, eviction_notice, fills_up, memory_in, parse_version


@pytest.mark.parametrize(
    ("policy", "bound", "notice", "fills"),
    [
        ("allkeys-lru", 1, True, False),
        ("allkeys-random", 1, True, False),
        ("allkeys-lru", 0, False, False),
        ("volatile-lru", 1, False, False),
        ("noeviction", 1, False, True),
        ("noeviction", 0, False, False),
    ],
)
def test_only_a_policy_that_takes_any_key_is_warned_of(policy: str, bound: int, notice: bool, fills: bool) -> None:
    """Without a bound nothing is evicted, and nothing is refused."""
    memory = {"maxmemory_policy": policy, "maxmemory": bound}
    assert bool(eviction_notice(memory)) == notice
    assert fills_up(memory) == fills


def test_the_numbers_of_info_are_numbers() -> None:
    """As a policy is judged by them."""
    info = b"# Memory\r\nused_memory:1036\r\nmaxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\nlua:1:\xff\r\n"
    memory = memory_in(info)
    assert memory == {"used_memory": 1036, "maxmemory": 0, "maxmemory_policy": "allkeys-lru", "lua": "1:\ufffd"}
    assert not eviction_notice(memory)


def test_every_command_of_the_scripts_is_asked_for() -> None:
    """INFO is not among them: the store does without."""
    text = " ".join(str(value) for name, value in vars(redis_scripts).items() if name.isupper())
    called = set(re.findall(r"redis\.p?call\('([A-Z]+)'", text)) - {"INFO"}
    assert called
    assert called <= {command[0] for command in COMMANDS}


def test_a_version_is_compared_by_its_numbers() -> None:
    """10 is newer than 9."""
    assert parse_version("10.0.1") > parse_version("9.9") > (6, 2)
    assert parse_version("7.2.4-rc1") == (7, 2)
