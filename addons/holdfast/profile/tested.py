"""The cases of `tests:`, held against their settings classes and against the profile that they are about.

Tests belong to the file they stand in: who extends a profile changes what its tests promise. `inherited` takes those
of the extended profiles too; a test of the same name then stands for theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence as Several

from holdfast.errors import Fault
from holdfast.policy.endpoint import parse_endpoint
from holdfast.profile.cases import CaseSettings, ExpectSettings, ReceivedSettings, StepSettings
from holdfast.profile.check import BAD, Check
from holdfast.profile.hints import found
from holdfast.profile.nodes import Node, Scalar, Sequence, Table, join
from holdfast.profile.settings import Profile

PATH = "tests"


def is_in_tests(path: str) -> bool:
    """Whether a fault is one of the tests."""
    return path == PATH or path.startswith((f"{PATH}[", f"{PATH}."))


def cases_of(node: Node | None, faults: list[Fault]) -> list[tuple[str, Node]]:
    """The tests of one file, each with its path."""
    if node is None or (isinstance(node, Scalar) and node.is_null() and not node.problem):
        return []
    if not isinstance(node, Sequence):
        faults.append(node.where.fault(PATH, f"expected a list of tests; found {found(node)}"))
        return []
    return [(f"{PATH}[{index}]", item) for index, item in enumerate(node.items)]


def laid_over(base: Several[tuple[str, Node]], own: Several[tuple[str, Node]]) -> list[tuple[str, Node]]:
    """The inherited tests, but for those whose name has one here, then these."""
    names = {_name_of(node) for _, node in own} - {None}
    return [*((path, node) for path, node in base if _name_of(node) not in names), *own]


def check_cases(tests: Several[tuple[str, Node]], check: Check) -> tuple[CaseSettings, ...]:
    """Those that are in order; what is wrong with the others is in `check`."""
    made: list[CaseSettings] = []
    seen: dict[str, int] = {}
    for path, node in tests:
        if not isinstance(node, Table):
            check.fault(node.where, path, f"expected a test, a mapping with the key name; found {found(node)}")
            continue
        given = {"file": node.where.file, "lines": dict(_lines(node, ""))}
        case = check.struct(node, CaseSettings, path, given)
        if case is BAD:
            continue
        if case.name in seen:
            check.fault(
                node.where, join(path, "name"), f"{case.name!r} is the name of the test on line {seen[case.name]}"
            )
        seen[case.name] = node.where.line
        made.append(case)
    return tuple(made)


def unfit_cases(profile: Profile, tests: Several[tuple[str, Node]]) -> list[Fault]:
    """What a test asks of a profile that cannot give it: a server, a cache, captures."""
    has = {entry.target for entry in profile.addons}
    anything = any(":" in entry.target for entry in profile.addons)  # anybody's addon may be a cache or a sink
    servers = server_urls(profile)
    paths = {(node.where.file, _name_of(node)): path for path, node in tests}
    faults: list[Fault] = []
    for case in profile.tests:
        base = paths[case.file, case.name]
        for inside, step in steps_of(case):
            told = [(f"servers.{name}", server_fault(name, servers)) for name in step.servers]
            told += [(f"expect.{at}.server", server_fault(name, servers)) for at, name in _servers_in(step.expect)]
            told += [] if anything else list(_unmet(step, has))
            told = [(join(inside, at), why) for at, why in told]
            faults += [Fault(case.file, line_of(case, at), join(base, at), why) for at, why in told if why]
    return faults


def steps_of(case: CaseSettings) -> list[tuple[str, StepSettings]]:
    """Each step with its path inside the test; what stands beside `steps` is a step without a request."""
    if not case.steps:
        return [("", case)]
    first = StepSettings(upstream=case.upstream, servers=case.servers)
    return [("", first), *((f"steps[{index}]", step) for index, step in enumerate(case.steps))]


def line_of(case: CaseSettings, path: str) -> int:
    """Where this path of the test stands, or what it belongs to."""
    while path and path not in case.lines:
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    return case.lines.get(path, 0)


def server_urls(profile: Profile) -> list[str]:
    """Every server of the profile once, those for all routes first. A test counts them from 1."""
    sections = [profile.upstream, *profile.upstream.routes.values()]
    return list(dict.fromkeys(str(parse_endpoint(s.url)) for section in sections for s in section.each_server()))


def server_number(name: str, urls: Several[str]) -> int:
    """Which one a test means. ValueError if there is none."""
    if name.isascii() and name.isdigit() and 1 <= int(name) <= len(urls):
        return int(name)
    return list(urls).index(str(parse_endpoint(name))) + 1


def server_fault(name: str, urls: Several[str]) -> str:
    """Why a test cannot mean this server; empty if it can."""
    try:
        server_number(name, urls)
    except ValueError:
        there = ", ".join(f"{number} ({url})" for number, url in enumerate(urls, 1))
        return f"the profile has no server {name!r}: there are {there}"
    return ""


def _servers_in(expect: ExpectSettings | None) -> Iterator[tuple[str, str]]:
    if expect is None:
        return
    listed = expect.upstream if isinstance(expect.upstream, tuple) else ()
    for at, received in [*((f"upstream[{i}]", each) for i, each in enumerate(listed)), ("delivered", expect.delivered)]:
        if isinstance(received, ReceivedSettings) and received.server is not None:
            yield at, received.server


def _unmet(step: StepSettings, has: set[str]) -> Iterator[tuple[str, str]]:
    needs = "this profile has no addon {}"
    if step.purge and "cache" not in has:
        yield "purge", needs.format("cache")
    if step.expect is None:
        return
    if step.expect.cache and "cache" not in has:
        yield "expect.cache", needs.format("cache")
    if step.expect.captured and "failure_sink" not in has:
        yield "expect.captured", needs.format("failure_sink")
    if step.expect.delivered is not None and not {"replayer", "failure_sink"} <= has:
        yield "expect.delivered", needs.format("replayer" if "replayer" not in has else "failure_sink")


def _name_of(node: Node) -> str | None:
    name = node.entries.get("name") if isinstance(node, Table) else None
    return name.text if isinstance(name, Scalar) else None


def _lines(node: Node, path: str) -> Iterator[tuple[str, int]]:
    yield path, node.where.line
    if isinstance(node, Sequence):
        for index, item in enumerate(node.items):
            yield from _lines(item, f"{path}[{index}]")
    elif isinstance(node, Table):
        for key, item in node.entries.items():
            yield from _lines(item, join(path, key))
