"""What a mistaken profile is told: the line, the path and what to do, for every mistake at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast.errors import Fault, ProfileError
from holdfast.profile.load import load_profile
from tests.unit.profile.standins import HERE

# (profile, "line: path" of its only fault, a part of the message)
MALFORMED = [
    # YAML itself
    ("version: 1\nlisten: [\n", "3: profile", "is not valid YAML"),
    ("version: 1\n\tlisten: x\n", "2: profile", "is not valid YAML"),
    ("version: 1\na: b: c\n", "2: profile", "mapping values are not allowed here"),
    ("version: 1\n--- \nversion: 1\n", "2: profile", "expected a single document in the stream"),
    ("version: 1\nlisten: *nowhere\n", "2: profile", "undefined alias"),
    ("version: 1\nlog: &x {level: *x}\n", "2: profile", "an alias inside what it stands for"),
    ("version: 1\nlisten: '\x07'\n", "2: profile", "special characters are not allowed"),
    ("- version: 1\n", "1: profile", "expected a mapping that begins with 'version: 1'; found a list"),
    ("just words\n", "1: profile", "found 'just words'"),
    ("version: 1\n? [a]\n: b\n", "2: profile", "a list or a mapping cannot be a key"),
    ("version: 1\nlog:\n  level: info\n  level: debug\n", "4: log.level", "given twice, first on line 3"),
    ("version: 1\nlog: !!set {level: info}\n", "2: log", "the tag 'tag:yaml.org,2002:set' means nothing"),
    ("version: 1\nlisten: !env 8080\n", "2: listen", "the tag '!env' means nothing in a profile"),
    ("version: 1\n<<: [1]\n", "2: <<", "expected a mapping, or a list of mappings"),
    # keys
    ("", "1: version", "begin every profile with 'version: 1'"),
    ("\nlisten: 127.0.0.1:1\n", "2: version", "is missing"),
    ("version: 2\n", "1: version", "expected 1; found 2"),
    ("version: one\n", "1: version", "expected 1; found 'one'"),
    ("version: 1\nlisten_on: x\n", "2: listen_on", "did you mean 'listen'?"),
    ("version: 1\naddon: [metrics]\n", "2: addon", "did you mean 'addons'?"),
    ("version: 1\nzzz: 1\n", "2: zzz", "unknown key: known are version, extends, listen, admin"),
    ("version: 1\nsource: x\n", "2: source", "unknown key"),
    ("version: 1\nupstream:\n  conect-timeout: 5s\n", "3: upstream.conect-timeout", "did you mean 'connect_timeout'?"),
    ("version: 1\nupstream:\n  braker: {max_fails: 3}\n", "3: upstream.braker", "did you mean 'breaker'"),
    ("version: 1\nupstream: {retry: {budge: 20%}}\n", "2: upstream.retry.budge", "did you mean 'budget'"),
    ("version: 1\nupstream: {servers: [{weight: 2}]}\n", "2: upstream.servers[0].url", "is missing"),
    ("version: 1\nupstream: {breaker: {fail_timeout: 0s}}\n", "2: upstream.breaker.fail_timeout", "more than"),
    # types and bounds
    ("version: 1\nlisten: example\n", "2: listen", "'example' is not an address to listen on: write HOST:PORT"),
    ("version: 1\nlisten: null\n", "2: listen", "expected a text, for example 127.0.0.1:8080; found null"),
    ("version: 1\nlisten: [a]\n", "2: listen", "for example 127.0.0.1:8080; found a list"),
    ("version: 1\nadmin: true\n", "2: admin", "a mapping with the keys listen, token, health_path; found true"),
    ("version: 1\nadmin:\n", "2: admin", "found nothing"),
    ("version: 1\nadmin: {listen: '0.0.0.0:9900'}\n", "2: admin", "set admin.token, e.g. ${HOLDFAST_ADMIN_TOKEN}"),
    ("version: 1\nadmin: {health_path: health}\n", "2: admin.health_path", 'it starts with "/"'),
    ("version: 1\nadmin:\n  token: [hunter2]\n", "3: admin.token", "expected a text; found a list"),
    ("version: 1\nupstream:\n  servers: []\n", "3: upstream.servers", "expected at least 1 entry; found 0"),
    ("version: 1\nupstream:\n  servers: http://h\n", "3: upstream.servers", "a list, such as [http://127.0.0.1:3000]"),
    ("version: 1\nupstream:\n  servers:\n  - h:1\n", "4: upstream.servers[0]", "write it like http://127.0.0.1:3000"),
    ("version: 1\nupstream: {servers: ['http://h/x']}\n", "2: upstream.servers[0]", "has a path"),
    ("version: 1\nupstream:\n  deadline: 0s\n", "3: upstream.deadline", "of more than 0s, such as 5s; found '0s'"),
    ("version: 1\nupstream:\n  deadline: 5 days\n", "3: upstream.deadline", "'5 days' is not a duration"),
    ("version: 1\nupstream: {deadline: true}\n", "2: upstream.deadline", "'true' is not a duration"),
    ("version: 1\nupstream: {deadline: }\n", "2: upstream.deadline", "such as 5s; found nothing"),
    (
        "version: 1\nupstream: {retry: {attempts: 21}}\n",
        "2: upstream.retry.attempts",
        "from 1 to 20, for example 3; found 21",
    ),
    ("version: 1\nupstream: {retry: {attempts: 1.5}}\n", "2: upstream.retry.attempts", "a whole number"),
    ("version: 1\nupstream: {retry: {on: [502, rest]}}\n", "2: upstream.retry.on[1]", "did you mean 'reset'?"),
    ("version: 1\nupstream: {retry: {on: [500]}}\n", "2: upstream.retry.on[0]", "one of connect, reset, timeout, 502"),
    ("version: 1\nupstream: {retry: {methods: [get]}}\n", "2: upstream.retry.methods[0]", "upper case, as in GET"),
    ("version: 1\nupstream: {retry: {backoff: {base: 2s}}}\n", "2: upstream.retry.backoff", "`max` (1s) is shorter"),
    ("version: 1\nlimits: {buffer_body: 10M}\n", "2: limits.buffer_body", "'10M' is not a size: the units are B, KB"),
    ("version: 1\nlimits: {max_body: 0}\n", "2: limits.max_body", "a size of more than 0, such as 10MiB or null"),
    ("version: 1\nlog: {access: maybe}\n", "2: log.access", "expected true or false; found 'maybe'"),
    ("version: 1\nlog:\n  level: warn\n", "3: log.level", "did you mean 'warning'?"),
    # the environment
    ("version: 1\nlisten: ${NOWHERE}\n", "2: listen", "the environment variable NOWHERE is not set"),
    ("version: 1\nlisten: ${NOWHERE:?}\n", "2: listen", "holds a ${ that is no reference"),
    ("version: 1\nlisten: ${HUNTER2}\n", "2: listen", "'${HUNTER2}' is not an address"),
    ("version: 1\nupstream: {deadline: '${HUNTER2}'}\n", "2: upstream.deadline", "found '${HUNTER2}'"),
    ("version: 1\nlog: {level: ${EMPTY}}\n", "2: log.level", "found '${EMPTY}', which is empty"),
    # extends
    ("version: 1\nextends: minimum\n", "2: extends", "no shipped profile 'minimum': did you mean 'minimal'?"),
    ("version: 1\nextends: ./nowhere.yaml\n", "2: extends", "cannot be read: No such file or directory"),
    ("version: 1\nextends: p.yaml\n", "2: extends", "goes round in a circle: p.yaml -> p.yaml"),
    ("version: 1\nextends: [minimal]\n", "2: extends", "expected a text or null"),
    ("version: 1\nextends: ${NOWHERE}\n", "2: extends", "the environment variable NOWHERE is not set"),
    # addons
    ("version: 1\naddons: metrics\n", "2: addons", "expected a list: write '- metrics'"),
    ("version: 1\naddons: {metrics: }\n", "2: addons", "found a mapping with the key 'metrics'"),
    ("version: 1\naddons:\n  - [metrics]\n", "3: addons[0]", "expected an addon: write '- metrics'"),
    ("version: 1\naddons:\n  -\n", "3: addons[0]", "found nothing"),
    ("version: 1\naddons:\n  - on_error: open\n", "3: addons[0]", "names no addon"),
    ("version: 1\naddons: [metricz]\n", "2: addons.metricz", "no addon named 'metricz': did you mean 'metrics'?"),
    ("version: 1\naddons: [zzz]\n", "2: addons.zzz", "known are router, metrics, catcher, tagger"),
    ("version: 1\naddons: [metrics, metrics]\n", "2: addons.metrics", "stands here twice, first on line 2"),
    (
        "version: 1\naddons:\n  - router:\n    routes: []\n",
        "4: addons[0]",
        "'routes' stands beside 'router': indent it",
    ),
    ("version: 1\naddons:\n  - metrics:\n    onerror: open\n", "4: addons[0]", "did you mean 'on_error'?"),
    ("version: 1\naddons:\n  - metrics: {}\n    on_error: shut\n", "4: addons.metrics.on_error", "one of open, closed"),
    ("version: 1\naddons:\n  - metrics: {x: 1}\n", "3: addons.metrics.x", "unknown key: there are none here"),
    ("version: 1\naddons:\n  - metrics: true\n", "3: addons.metrics", "expected a mapping of settings; found true"),
    ("version: 1\naddons:\n  - metrics: false\n", "3: addons.metrics", "does not inherit: it has none"),
    ("version: 1\naddons:\n  - tagger\n", "3: addons.tagger.tags", "is missing: it wants a mapping"),
    ("version: 1\naddons:\n  - tagger: {tags: {a: b}}\n", "3: addons.tagger.tags.a", "expected a list, such as [a, b]"),
    (
        "version: 1\naddons:\n  - router:\n      routes:\n        - {name: a, pattern: a}\n        - name: b\n",
        "6: addons.router.routes[1].pattern",
        "is missing: it wants a text",
    ),
    ("version: 1\naddons:\n  - catcher: {answer: 202}\n", "3: addons.catcher", "`answer: 202` needs `routes`"),
    ("version: 1\naddons:\n  - catcher: {answer: 404}\n", "3: addons.catcher.answer", "one of 202, 503; found 404"),
    ("version: 1\naddons:\n  - catcher: {ratio: 0}\n", "3: addons.catcher.ratio", "a number of more than 0"),
    ("version: 1\naddons:\n  - catcher: {budget: 60%}\n", "3: addons.catcher.budget", "a share of at most 50%"),
    ("version: 1\naddons:\n  - catcher: {routes: {x: {answr: 1}}}\n", "3: addons.catcher.routes.x.answr", "'answer'?"),
    (
        "version: 1\naddons:\n  - catcher: {words: {a: b}}\n",
        "3: addons.catcher.words",
        "a text or a list, such as [a, b] or null",
    ),
    (
        "version: 1\naddons:\n  - catcher: {anything: [{a: '${NO}'}]}\n",
        "3: addons.catcher.anything[0].a",
        "NO is not set",
    ),
    # other people's addons
    ("version: 1\naddons:\n  - use: nowhere_at_all:X\n", "3: addons.X", "No module named 'nowhere_at_all'"),
    (f"version: 1\naddons:\n  - use: {HERE}:Baner\n", "3: addons.Baner", "has no attribute 'Baner'"),
    ("version: 1\naddons:\n  - use: ':X'\n", "3: addons.X", 'write it as "package.module:Class"'),
    ("version: 1\naddons:\n  - use:\n", "3: addons[0].use", "expected a name; found nothing"),
    ("version: 1\naddons:\n  - use: metrics\n    wiht: {}\n", "4: addons[0].wiht", "did you mean 'with'?"),
    (f"version: 1\naddons:\n  - use: {HERE}:Banner\n", "3: addons.Banner.with", "missing a required argument: 'text'"),
    (
        f"version: 1\naddons:\n  - use: {HERE}:Banner\n    with: {{text: a, colour: b}}\n",
        "4: addons.Banner.with",
        "unexpected keyword argument 'colour'",
    ),
    (f"version: 1\naddons:\n  - use: {HERE}:Banner\n    with: hello\n", "4: addons.Banner.with", "found 'hello'"),
    (f"version: 1\naddons:\n  - {HERE}:ready_made: {{a: 1}}\n", "3: addons.ready_made", "takes no settings"),
    (
        f"version: 1\naddons:\n  - use: {HERE}:Catcher\n    with: {{anwser: 1}}\n",
        "4: addons.Catcher.with.anwser",
        "'answer'?",
    ),
    (
        f"version: 1\naddons:\n  - use: {HERE}:Banner\n    with: {{text: '${{NO}}'}}\n",
        "4: addons.Banner.with.text",
        "NO is",
    ),
]


@pytest.mark.parametrize(("text", "where", "message"), MALFORMED)
def test_a_mistake_is_told_with_its_line_its_path_and_what_to_do(faults, text, where, message):
    """One mistake, one fault, in its place."""
    found = faults(text, env={"HUNTER2": "hunter2", "EMPTY": ""})
    assert [fault[: len(f"p.yaml:{where}: ")] for fault in found] == [f"p.yaml:{where}: "]
    assert message in found[0]
    assert "hunter2" not in found[0]


def test_all_faults_are_told_at_once_in_the_order_of_the_file(faults):
    """Nobody wants to start a gateway eleven times to find eleven mistakes."""
    found = faults(
        """\
version: 1
lisen: 127.0.0.1:80
admin: {listen: 0.0.0.0:9900, helth_path: /}
upstream:
  servers: [ftp://a, "http://b", c]
  deadline: soon
  retry:
    attempts: 0
    on: [conect, 502]
addons:
  - metricz
  - router: {routes: [{name: a}]}
  - catcher: {answer: 1, retry_after: 0}
    on_error: maybe
"""
    )
    assert [fault.split(": ")[0] + ": " + fault.split(": ")[1] for fault in found] == [
        "p.yaml:2: lisen",
        "p.yaml:3: admin.helth_path",
        "p.yaml:3: admin",
        "p.yaml:5: upstream.servers[0]",
        "p.yaml:5: upstream.servers[2]",
        "p.yaml:6: upstream.deadline",
        "p.yaml:8: upstream.retry.attempts",
        "p.yaml:9: upstream.retry.on[0]",
        "p.yaml:11: addons.metricz",
        "p.yaml:12: addons.router.routes[0].pattern",
        "p.yaml:13: addons.catcher.answer",
        "p.yaml:13: addons.catcher.retry_after",
        "p.yaml:14: addons.catcher.on_error",
    ]


def test_a_fault_in_the_base_names_the_base(faults):
    """The line is of use only in the right file."""
    found = faults("version: 1\nextends: base.yaml\nlisen: x\n", base="version: 1\n\nlog: {level: loud}\n")
    assert [fault.split(": ")[0] for fault in found] == ["p.yaml:3", "base.yaml:3"]


@pytest.mark.parametrize("key", ["token: [hunter2]", "token: {hunter2: 1}"])
def test_a_secret_is_not_repeated(faults, key):
    """A fault ends up in logs and tickets."""
    assert "hunter2" not in faults(f"version: 1\nadmin: {{{key}}}\n")[0]


def test_credentials_in_a_server_url_are_not_repeated(faults):
    """`http://user:password@host` is refused, and must not be shown."""
    assert faults("version: 1\nupstream: {servers: ['http://me:hunter2@h']}\n") == [
        "p.yaml:2: upstream.servers[0]: 'http://***@h' holds credentials, and the gateway passes on those of the "
        "client: write it like http://127.0.0.1:3000 or https://backend.example"
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "sidecart",
            "there is no shipped profile 'sidecart': did you mean 'sidecar'? (there are cache, debug, gateway,",
        ),
        (
            "zzz",
            "there is no shipped profile 'zzz': (there are cache, debug, gateway, kafka, minimal, sidecar, webhook;",
        ),
        ("", "there is no shipped profile ''"),
        ("./nowhere.yaml", "'nowhere.yaml' cannot be read: No such file or directory"),
        ("/", "'/' cannot be read: Is a directory"),
        ("a\0b/c", "cannot be read"),
    ],
)
def test_a_profile_that_cannot_be_found_is_told_with_what_there_is(name, message):
    """A name is a shipped profile's, unless it has a slash or a file's ending."""
    with pytest.raises(ProfileError) as caught:
        load_profile(name, env={})
    (fault,) = caught.value.faults
    assert (fault.file, fault.line, fault.path) == (name, 0, "profile")
    assert message in fault.message


def test_a_pipe_is_no_profile(tmp_path: Path):
    """Nobody may ever write to it; but the shell's own is written to."""
    pipe = tmp_path / "p.yaml"
    os.mkfifo(pipe)
    with pytest.raises(ProfileError, match="cannot be read: this is no regular file"):
        load_profile(str(pipe), env={})
    reading, writing = os.pipe()
    os.write(writing, b"version: 1\nextends: minimal\n")
    os.close(writing)
    assert load_profile(f"/dev/fd/{reading}", env={}).extends == "minimal"
    os.close(reading)


def test_a_file_that_is_no_utf_8_is_told_with_its_line(tmp_path: Path):
    """Bytes of another encoding, somewhere in the middle."""
    file = tmp_path / "p.yaml"
    file.write_bytes(b"version: 1\n# fine\n# \xff\n")
    with pytest.raises(ProfileError) as caught:
        load_profile(str(file), env={})
    assert caught.value.faults == (Fault(str(file), 3, "profile", "is not UTF-8 text"),)


def test_a_huge_file_is_not_read(tmp_path: Path):
    """A log given in place of a profile."""
    file = tmp_path / "p.yaml"
    file.write_text("#" * (1024 * 1024 + 1))
    with pytest.raises(ProfileError, match="larger than a profile may be"):
        load_profile(str(file), env={})
