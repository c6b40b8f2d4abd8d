"""Tests of profiles as they are played: a real chain, scripted servers, a real client, a time that is moved."""

from __future__ import annotations

import logging

import pytest

from tests.unit.rehearsal.played import misses, played

HEAD = """\
version: 1
extends: sidecar
upstream: {retry: {budget: null}}
tests:
"""

# A test that holds of HEAD. Each shows one thing that servers, steps or expectations can say.
HOLDS = {
    "refused": """
    request: GET /
    upstream: [{fail: refused, times: 2}, 200]
    expect: {status: 200, attempts: 3, upstream: 1}
""",
    "refused after an answer": """
    request: GET /
    upstream: [503, refused, 200]
    expect: {status: 200, attempts: 3, upstream: 2}
""",
    "refused on a connection that was kept": """
    steps:
      - {request: GET /, expect: {status: 200}}
      - {upstream: refused, request: GET /, expect: {captured: {error: connection_refused}}}
      - {upstream: 200, wait: 31s, request: GET /, expect: {status: 200}}
""",
    "closed": "{request: GET /, upstream: [closed, 200], expect: {status: 200, fate: retried}}",
    "garbage": "{request: GET /, upstream: garbage, expect: {captured: {error: http_protocol_error}}}",
    "truncated": "{request: GET /, upstream: [truncated, {body: whole}], expect: {body: whole, upstream: 2}}",
    "stalled": "{request: GET /, upstream: stalled, expect: {status: 503}}",
    "a bearable delay": "{request: GET /, upstream: {delay: 3s, body: late}, expect: {body: late, attempts: 1}}",
    "a delay that is not": "{request: GET /, upstream: [{delay: 8s}, 200], expect: {status: 200, fate: retried}}",
    "an answer": """
    request: HEAD /api/users/1?a=b
    upstream: {status: 404, headers: {X-A: b}, json: {a: 1}}
    expect:
      {status: 404, headers: {X-A: b, Content-Type: application/json}, body: "", route: user, fate: ok,
       upstream: [{method: HEAD, path: "/api/users/1?a=b", headers: {Host: {matches: .}}}]}
""",
    "an answer without a body": "{request: DELETE /api/users/1, upstream: 204, expect: {status: 204, body: ''}}",
    "a request with everything": """
    request: {method: PUT, path: /api/users/1, headers: {Host: shop.example, X-A: b}, body: text}
    expect:
      upstream: [{method: PUT, headers: {X-A: b, X-Forwarded-Host: shop.example}, body: text}]
""",
    "the gateway's own health": "{request: GET /health, expect: {status: 200, upstream: 0, route: health}}",
    "a later delivery": """
    steps:
      - upstream: refused
        request: {method: POST, path: /api/users, json: {a: 1}}
        expect: {status: 503, captured: {error: connection_refused}}
      - wait: 1m
      - upstream: 200
        expect: {delivered: {server: 1, method: POST, json: {a: 1}, headers: {Holdfast-Replay: {present: true}}}}
      - request: GET /
        expect: {upstream: 1}
""",
    "a dead letter": "{request: POST /api/users, upstream: [503, 400], expect: {captured: true, delivered: false}}",
}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """All of them in one go, as they come in a profile."""
    lines = []
    for name, text in HOLDS.items():
        short = text.startswith("{")
        lines.append(f"  - {{name: {name}, {text[1:]}" if short else f"  - name: {name}\n{text.strip('\n')}")
    return played(tmp_path_factory.mktemp("played"), HEAD + "\n".join(lines) + "\n")


@pytest.mark.parametrize("name", HOLDS)
def test_a_test_that_holds_passes(results, name):
    """Whatever servers, steps and expectations say."""
    assert misses(results[name]) == []
    assert results[name].told


def test_a_test_takes_well_below_a_second(results):
    """So that twenty of them take seconds, those with timeouts among them."""
    assert sum(result.seconds for result in results.values()) < len(results)


def test_each_test_begins_with_nothing(tmp_path):
    """Nothing cached, no circuit open, nothing captured, whatever came before."""
    found = played(
        tmp_path,
        """
version: 1
extends: gateway
upstream: {breaker: {max_fails: 1}, retry: {attempts: 1}}
tests:
  - name: first
    steps:
      - {upstream: {headers: {Cache-Control: max-age=600}}, request: GET /api/users/1}
      - {upstream: reset, request: GET /api/users/2, expect: {fate: captured}}
      - {request: GET /api/users/3, expect: {upstream: 0, captured: {error: destination_unavailable}}}
  - name: second
    steps:
      - {request: GET /api/users/1, expect: {cache: miss, upstream: 1}}
      - {upstream: 503, request: GET /api/users/2, expect: {captured: true}}
      - {upstream: [{status: 503, times: 3}, 200], expect: {delivered: true}}
""",
    )
    assert {name: misses(result) for name, result in found.items()} == {"first": [], "second": []}


def test_several_servers_of_every_kind_are_played(tmp_path):
    """http, https with a certificate that is checked, h2c; each with a part of its own, by number or by URL."""
    found = played(
        tmp_path,
        """
version: 1
upstream:
  servers: [https://a.example, {url: "https://b.example:8443", backup: true}]
  routes: {grpc: {servers: ["h2c://c.example:9000"]}}
addons:
  - router: {routes: [{name: grpc, path: /grpc}]}
tests:
  - name: the backup
    servers: {1: refused, https://b.example:8443: {headers: {X-From: b}}}
    request: GET /
    expect: {status: 200, headers: {X-From: b}, attempts: 2, upstream: [{server: "https://b.example:8443"}]}
  - name: a route of its own
    servers: {3: {body: from c}}
    upstream: 503
    request: GET /grpc
    expect: {status: 200, body: from c, upstream: [{server: 3}]}
  - name: the wrong one
    request: GET /
    expect: {upstream: [{server: 2}]}
""",
    )
    assert misses(found["the backup"]) == []
    assert misses(found["a route of its own"]) == []
    assert misses(found["the wrong one"]) == ["20 expect.upstream[0].server: expected server 2, got server 1"]
    assert found["the backup"].told == [
        "step 1: GET /: 200, fate retried, route other, attempt 1: https://a.example:443 connection_refused, "
        "attempt 2: https://b.example:8443 200"
    ]


def test_what_did_not_come_is_told_with_its_line_and_its_step(tmp_path):
    """And with what happened instead, and what was logged."""
    found = played(
        tmp_path,
        HEAD
        + """\
  - name: wrong
    steps:
      - request: GET /
      - upstream: 500
        request: GET /
        expect:
          status: 503
          headers:
            X-A: b
          captured: true
      - expect: {delivered: true}
""",
    )["wrong"]
    assert misses(found) == [
        "11 steps[1].expect.status: expected 503, got 500",
        "13 steps[1].expect.headers.X-A: expected b, got nothing",
        "14 steps[1].expect.captured: expected a capture, got none",
        "15 steps[2].expect.delivered: expected a capture, got none so far",
    ]
    assert [miss.step for miss in found.misses] == [2, 2, 2, 3]
    assert [line.split(",")[0] for line in found.told] == ["step 1: GET /: 200", "step 2: GET /: 500"]
    assert any("status=500 fate=ok" in line for line in found.log)


def test_a_purge_reaches_what_it_names(tmp_path):
    """Paths, tags, everything; soft ones leave what may still serve in need."""
    found = played(
        tmp_path,
        """
version: 1
extends: cache
tests:
  - name: purges
    upstream: {headers: {Cache-Control: max-age=600}, body: kept}
    steps:
      - {request: GET /api/users/1}
      - {purge: {paths: [/api/users/2]}, request: GET /api/users/1, expect: {cache: hit}}
      - {purge: {paths: [/api/users/1]}, request: GET /api/users/1, expect: {cache: miss}}
      - {purge: {all: true}, request: GET /api/users/1, expect: {cache: miss}}
      - {purge: {tags: [users], soft: true}, upstream: reset, request: GET /api/users/1, expect: {cache: stale}}
""",
    )
    assert misses(found["purges"]) == []


def test_a_test_begins_without_recordings_and_makes_its_own(tmp_path, monkeypatch):
    """The understudy's folder is one of the test's."""
    monkeypatch.chdir(tmp_path)
    found = played(
        tmp_path,
        """
version: 1
extends: sidecar
addons: [understudy]
tests:
  - name: recorded
    steps:
      - {upstream: {json: {a: 1}}, request: GET /api/users/1}
      - wait: 1s
        upstream: refused
        request: GET /api/users/1
        expect: {status: 200, json: {a: 1}, captured: false, headers: {Holdfast-Understudy: {present: true}}}
  - {name: not recorded, upstream: refused, request: GET /api/users/1, expect: {status: 503}}
""",
    )
    assert {name: misses(result) for name, result in found.items()} == {"recorded": [], "not recorded": []}
    assert [file.name for file in tmp_path.iterdir()] == ["p.yaml"]


def test_a_purge_that_cannot_be_is_told(tmp_path):
    """It is the test's fault, not the end of the others."""
    text = "version: 1\nextends: cache\ntests: [{name: a, purge: {tags: ['*']}, request: GET /}]\n"
    (miss,) = misses(played(tmp_path, text)["a"])
    assert miss.startswith('3 purge: expected a purge, got "*" is no tag')


def test_an_addon_of_ones_own_is_played_and_what_it_raises_is_told(tmp_path, monkeypatch):
    """In its place in the chain."""
    (tmp_path / "played_own.py").write_text(
        "class Polite:\n"
        "    def response(self, flow):\n"
        "        flow.response.headers['X-Polite'] = 'yes'\n"
        "        if flow.request.path == '/bad': raise RuntimeError('no manners')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = played(
        tmp_path,
        """
version: 1
addons: [{use: "played_own:Polite"}]
tests:
  - {name: good, request: GET /, expect: {headers: {X-Polite: "yes"}}}
  - {name: bad, request: GET /bad, expect: {headers: {X-Polite: "no"}}}
""",
    )
    assert misses(found["good"]) == []
    assert any("no manners" in line for line in found["bad"].log)


def test_logging_is_as_it_was_afterwards(tmp_path):
    """Whoever plays tests from a program has logs of their own."""
    before = list(logging.getLogger().handlers), logging.getLogger("holdfast").propagate
    played(tmp_path, "version: 1\ntests: [{name: a, request: GET /}]\n")
    assert (list(logging.getLogger().handlers), logging.getLogger("holdfast").propagate) == before
