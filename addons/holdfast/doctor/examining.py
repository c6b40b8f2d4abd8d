"""Runs all examinations at once, each on a thread of its own and for a bounded time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from holdfast.doctor import (
    clock,
    kafka_cluster,
    machine,
    mitmproxy_options,
    places,
    ports,
    postgres_audit,
    redis_server,
    upstreams,
    wording,
)
from holdfast.doctor.case import Case, case_of
from holdfast.doctor.finding import Finding, Job

BOUND = 15.0  # seconds for an examination; each question that it asks gets PATIENCE
_MEND = "correct that in the profile"
_NO_THREAD = "could not be examined: this machine allows us no more threads"
_THREADS = "allow more: `ulimit -u`, TasksMax= in a systemd unit, --pids-limit with Docker"
_ANYWHERE = (machine.jobs, mitmproxy_options.jobs, wording.jobs)
_WITH_PROFILE: Mapping[str, Callable[[Case], Sequence[Job]]] = {
    "ports": ports.jobs,
    "outbox": places.jobs,
    "redis": redis_server.jobs,
    "kafka": kafka_cluster.jobs,
    "audit": postgres_audit.jobs,
    "upstream": upstreams.jobs,
}


def examine(name: str, env: Mapping[str, str], bound: float = BOUND) -> list[Finding]:
    """All findings about this profile in this environment, in an order that stays. Raises nothing."""
    clocks = clock.Watch()
    case = case_of(name, env)
    jobs = [job for make in _ANYWHERE for job in make(case)]
    if case.profile is None:
        jobs += [Job(each, _skipped(each)) for each in _WITH_PROFILE]
    else:
        jobs += [job for name in _WITH_PROFILE for job in _made(name, case)]
    found = _all_at_once(jobs, bound)
    return [*found, *clock.findings(clocks, case.clocks)]


def _made(name: str, case: Case) -> Sequence[Job]:
    """A value that only its addon can judge may keep a job from being made; it is a finding, too."""
    try:
        return _WITH_PROFILE[name](case)
    except ValueError as error:
        told = str(error)
        return [Job(name, lambda: [Finding(name, "failing", told, _MEND)])]


def _skipped(name: str) -> Callable[[], list[Finding]]:
    return lambda: [Finding(name, "skipped", "the profile cannot be loaded", "mend the profile first")]


def _all_at_once(jobs: Sequence[Job], bound: float) -> list[Finding]:
    """On threads that the end of the process does not wait for: a library may not come back at all."""
    results: list[list[Finding] | None] = [None] * len(jobs)

    def run(number: int) -> None:
        results[number] = _examined(jobs[number])

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(len(jobs))]
    for number, thread in enumerate(threads):
        try:
            thread.start()
        except RuntimeError:  # a user or a container may have so many threads and no more
            threads = threads[:number]
            results[number:] = [[Finding(job.name, "failing", _NO_THREAD, _THREADS)] for job in jobs[number:]]
            break
    deadline = time.monotonic() + bound
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"could not be examined within {bound:g} s"
    advice = "see whether what it depends on answers, and try again"
    return [
        finding
        for job, found in zip(jobs, results, strict=True)
        for finding in ([Finding(job.name, "failing", late, advice)] if found is None else found)
    ]


def _examined(job: Job) -> list[Finding]:
    try:
        return list(job.examine())
    except ValueError as error:  # with what to write instead
        return [Finding(job.name, "failing", str(error), _MEND)]
    except Exception as error:  # noqa: BLE001 # whatever a library trips over is a finding about this machine
        told = f"could not be examined: {type(error).__name__}: {error}"
        return [Finding(job.name, "failing", told, "see to that, and try again")]
