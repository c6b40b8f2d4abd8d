"""A changed profile takes over while the gateway serves: how it is noticed, what it changes, and when it is refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from holdfast.testing import Answer, Break, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import ROUTER, Front, Gateway, environment, profile, until
from tests.e2e.live import change, entry_of, held, outcomes, put, quiet, write
from tests.services.process import free_port

FRONTS: tuple[Front, ...] = get_args(Front.__value__)


async def health_at(client: raw.RawClient, path: str) -> bool:
    """Whether the gateway itself answers here."""
    return (await client.request("GET", path)).body.startswith(b'{"status"')


# -- how it is noticed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("front", FRONTS)
async def test_sighup_has_the_profile_read_again(tmp_path: Path, front: Front) -> None:
    """Under every front end, on a connection that is kept; `GET /config` shows what holds now."""
    async with MisbehavingOrigin() as origin:
        made = quiet(profile(origin.url))
        async with Gateway(tmp_path, origin.url, front=front, made=made) as gateway:
            async with raw.RawClient(gateway.port) as client:
                assert await health_at(client, "/health")
                await change(gateway, lambda made: put(made, "admin.health_path", "/up"))
                assert await health_at(client, "/up")
                assert not await health_at(client, "/health")
            assert (await gateway.admin("/config")).json()["admin"]["health_path"] == "/up"
            assert "profile taken over" in gateway.log()
            assert "changed=admin.health_path" in gateway.log()
            since = (await gateway.metrics())["holdfast_profile_loaded_timestamp_seconds",]
            assert since == pytest.approx((await gateway.admin("/health")).json()["profile"]["since"])
            assert await gateway.terminate() == 0


def in_place(file: Path, text: str) -> None:
    file.write_text(text)


def replaced(file: Path, text: str) -> None:
    new = file.with_name(".profile.yaml.swp")
    new.write_text(text)
    new.replace(file)


def with_the_old_time(file: Path, text: str) -> None:
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    replaced(file, text)
    os.utime(file, ns=times)


def another_folder(file: Path, text: str) -> None:
    """As Kubernetes does it for a ConfigMap: a link to a link to a folder, and the second is replaced."""
    folder = file.parent / f"..{len(list(file.parent.iterdir()))}"
    folder.mkdir()
    (folder / "it.yaml").write_text(text)
    link, data = file.parent / "..new", file.parent / "..data"
    link.symlink_to(folder.name)
    link.replace(data)
    if not file.is_symlink():
        file.unlink()
        file.symlink_to("..data/it.yaml")


@pytest.mark.parametrize("how", [in_place, replaced, with_the_old_time, another_folder])
async def test_a_changed_file_is_noticed(tmp_path: Path, how: Any) -> None:
    """However it has come to hold something else; `touch` is no change."""
    async with Gateway(tmp_path) as gateway, raw.RawClient(gateway.port) as client:
        file = Path(gateway.profile)
        for number, path in enumerate(("/one", "/two"), 1):
            how(file, file.read_text() + f"# {path}\n" if path == "x" else with_health_path(file, path))

            async def noticed(number: int = number) -> bool:
                return await outcomes(gateway) == (number, 0)

            await until(noticed, within=8, what="the change to be noticed")
            assert await health_at(client, path)
        if how is in_place:
            os.utime(file)
            await asyncio.sleep(2.5)
            assert await outcomes(gateway) == (2, 0)


def with_health_path(file: Path, path: str) -> str:
    made = yaml.safe_load(file.read_text())
    made["admin"]["health_path"] = path
    return yaml.safe_dump(made)


async def test_what_a_profile_extends_is_watched_as_well(tmp_path: Path) -> None:
    """Also a file that could not be read when the profile was refused for it."""
    base = tmp_path / "base.yaml"
    base.write_text("version: 1\nadmin: {health_path: /one}\n")
    made = profile("http://127.0.0.1:9") | {"extends": "./base.yaml"}
    async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
        assert await health_at(client, "/one")

        async def says(ok: int, rejected: int) -> bool:
            return await outcomes(gateway) == (ok, rejected)

        base.write_text("version: 1\nadmin: {health_path: /two}\n")
        await until(lambda: says(1, 0), within=8, what="the base to be read again")
        assert await health_at(client, "/two")
        base.unlink()
        await until(lambda: says(1, 1), within=8, what="the missing base to be told")
        base.write_text("version: 1\nadmin: {health_path: /three}\n")
        await until(lambda: says(2, 1), within=8, what="the base that is back")
        assert await health_at(client, "/three")


async def test_a_half_written_file_is_not_read(tmp_path: Path) -> None:
    """Three writes with pauses between them: neither half is ever told as a fault."""
    async with Gateway(tmp_path) as gateway, raw.RawClient(gateway.port) as client:
        file = Path(gateway.profile)
        text = with_health_path(file, "/up")
        cut = len(text) // 3
        for until_here in (cut, 2 * cut, len(text)):
            file.write_text(text[:until_here] + ("\n  {" if until_here < len(text) else ""))
            await asyncio.sleep(0.3)

        async def taken() -> bool:
            return await outcomes(gateway) != (0, 0)

        await until(taken, within=8, what="the whole file to be read")
        assert await outcomes(gateway) == (1, 0)
        assert await health_at(client, "/up")


async def test_a_profile_that_is_not_watched_changes_only_when_asked(tmp_path: Path) -> None:
    """`watch: false`, and it can be switched on without a restart."""
    async with Gateway(tmp_path, made=quiet(profile("http://127.0.0.1:9"))) as gateway:
        write(gateway, held(gateway) | {"watch": True})
        await asyncio.sleep(2.5)
        assert await outcomes(gateway) == (0, 0)
        await change(gateway, lambda made: put(made, "admin.health_path", "/up"))
        await change(gateway, lambda made: put(made, "admin.health_path", "/down"), hup=False)


async def test_a_storm_of_signals_is_weathered(tmp_path: Path) -> None:
    """From the first moment of the start on: many become few, and the last state of the file holds."""
    async with MisbehavingOrigin() as origin:
        gateway = Gateway(tmp_path, origin.url, made=quiet(profile(origin.url)))
        gateway.launch()
        await until(lambda: b"chain loaded" in gateway.log_file.read_bytes(), within=20, what="the start")
        for _ in range(300):
            gateway.send(signal.SIGHUP)
        async with gateway_of(gateway), raw.RawClient(gateway.port) as client:
            for number in range(200):
                write(gateway, held(gateway) | {"shutdown_grace": f"{number + 1}s"})
                gateway.send(signal.SIGHUP)
                if number % 20 == 0:
                    assert (await client.request("GET", "/api/users")).status == 200

            async def last_one_holds() -> bool:
                return bool((await gateway.admin("/config")).json()["shutdown_grace"] == "200s")

            await until(last_one_holds, within=8, what="the last state of the file")
            ok, rejected = await outcomes(gateway)
            assert 0 < ok <= 501 and rejected == 0


class gateway_of:  # noqa: N801  # reads like the harness's own
    """Waits for a gateway that was launched, and kills it at the end."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    async def __aenter__(self) -> None:
        await until(self.gateway.is_ready, within=20, what="the gateway to be ready")

    async def __aexit__(self, *_: object) -> None:
        self.gateway.kill()


async def test_a_terminal_that_is_closed_ends_the_gateway(tmp_path: Path) -> None:
    """SIGHUP without a terminal is about the profile; with one that is gone it means what it always has."""
    port, admin = free_port(), free_port()
    master_end, slave_end = pty.openpty()
    command = [
        "setsid",
        "--ctty",
        sys.executable,
        "-m",
        "holdfast",
        "run",
        "--listen",
        str(port),
        "--admin",
        str(admin),
    ]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment(tmp_path), stdin=slave_end, stdout=slave_end, stderr=slave_end
    )
    os.close(slave_end)
    said = b""
    try:
        os.set_blocking(master_end, False)

        def serves() -> bool:
            nonlocal said
            with contextlib.suppress(BlockingIOError):
                said += os.read(master_end, 65536)
            return b"admin listens" in said and b" serving " in said

        await until(serves, within=20, what="the gateway on its terminal")
        process.send_signal(signal.SIGHUP)
        await until(lambda: serves() and b"profile taken over" in said, within=8, what="the profile to be read")
        os.close(master_end)
        await until(lambda: process.poll() is not None, within=8, what="the end")
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


# -- what keeps winning ---------------------------------------------------------------------------------------------


async def test_the_command_line_goes_on_winning(tmp_path: Path) -> None:
    """--upstream, --listen and --admin over what the file says, before and after."""
    async with MisbehavingOrigin() as origin:
        gateway = Gateway(tmp_path, made=quiet(profile("http://127.0.0.1:9", listen="127.0.0.1:1")))
        gateway.args = ["--upstream", origin.url, "--listen", str(gateway.port), "--admin", str(gateway.admin_port)]
        async with gateway, raw.RawClient(gateway.port) as client:
            await change(gateway, lambda made: made.update(listen="127.0.0.1:2", admin={"health_path": "/up"}))
            await change(gateway, lambda made: put(made, "upstream.servers", ["http://127.0.0.1:11"]))
            assert (await client.request("GET", "/api/users")).status == 200
            config = (await gateway.admin("/config")).json()
            assert config["listen"] == str(gateway.port)
            assert config["upstream"]["servers"] == [origin.url]


async def test_the_mode_of_mitmdump_goes_on_winning(tmp_path: Path) -> None:
    """Where it names a server of its own; the profile's other keys hold for that one."""
    async with MisbehavingOrigin(Break("request", "hang")) as origin:
        made = quiet(profile("http://127.0.0.1:9"))
        gateway = Gateway(tmp_path, origin.url, front="mitmdump", made=made)
        async with gateway, raw.RawClient(gateway.port) as client:
            await change(gateway, lambda made: put(made, "upstream.servers", ["http://127.0.0.1:11"]))
            await change(gateway, lambda made: put(made, "upstream.retry.attempts", 2))
            assert (await client.request("GET", "/api/users")).status == 503
            assert len(origin.requests) == 2


# -- when it is refused ---------------------------------------------------------------------------------------------

BAD = """
version: 1
listne: 127.0.0.1:8080
upstream:
  servers: [http://127.0.0.1:3000]
  deadline: soon
addons:
  - router: {routes: [{name: user, pattern: "("}]}
  - nobody_knows_me
"""


async def test_a_bad_profile_is_told_with_all_its_faults_and_the_old_one_stays(tmp_path: Path) -> None:
    """In the log, in /health, as a metric; and all of that is over once the file is right again."""
    async with MisbehavingOrigin() as origin, Gateway(tmp_path, made=profile(origin.url)) as gateway:
        file, good = Path(gateway.profile), Path(gateway.profile).read_text()
        file.write_text(BAD)

        async def verdicts(ok: int, rejected: int) -> bool:
            return await outcomes(gateway) == (ok, rejected)

        await until(lambda: verdicts(0, 1), within=8, what="the verdict")
        async with raw.RawClient(gateway.port) as client:
            assert (await client.request("GET", "/api/users")).status == 200
            assert b"profile" not in (await client.request("GET", "/health")).body
        health = (await gateway.admin("/health")).json()
        assert (health["status"], health["profile"]["status"]) == ("degraded", "failing")
        faults = health["profile"]["faults"]
        places = [re.sub(r"^.*profile\.yaml:(\d+): ([^:]*):.*$", r"\1 \2", fault, flags=re.S) for fault in faults]
        router = "8 addons.router.routes[0]"
        assert places == ["3 listne", "6 upstream.deadline", router, "9 addons.nobody_knows_me"]
        for fault in faults:
            assert fault.split('"')[0] in gateway.log(200).replace("\\", "")
        assert "profile not taken over, the old one stays" in gateway.log(200)
        assert (await gateway.metrics())["holdfast_profile_last_reload_successful",] == 0
        assert (await gateway.admin("/config")).json()["upstream"]["deadline"] == "2s"
        await asyncio.sleep(2.5)  # it is told once
        assert await verdicts(0, 1)
        file.write_text(good)
        await until(lambda: verdicts(1, 1), within=8, what="the good one")
        assert (await gateway.admin("/health")).json()["profile"]["status"] == "ok"
        assert (await gateway.metrics())["holdfast_profile_last_reload_successful",] == 1


async def test_what_needs_a_restart_is_refused_as_a_whole(tmp_path: Path) -> None:
    """Each such key is a fault with its place, and the harmless change beside them does not hold either."""
    gateway = Gateway(tmp_path, made=quiet(profile("http://127.0.0.1:9")))
    async with gateway, raw.RawClient(gateway.port) as client:
        good = held(gateway)

        def edit(made: dict[str, Any]) -> None:
            made["listen"] = "127.0.0.1:1"
            made["admin"] |= {"listen": "127.0.0.1:2", "token": "secret token", "health_path": "/up"}
            made["addons"][1] = {"metrics": {"buckets": [1, 2]}}
            entry_of(made, "failure_sink").update(
                outbox="other.db", broker="file:///tmp/x.jsonl", topic="other", kafka={"acks": "all"}
            )

        await change(gateway, edit, refused=True)
        faults = (await gateway.admin("/health")).json()["profile"]["faults"]
        paths = [fault.split(": ")[1] for fault in faults]
        sink = "addons.failure_sink"
        assert sorted(paths) == sorted(
            ["listen", "admin.listen", "admin.token", "addons.metrics.buckets"]
            + [f"{sink}.{key}" for key in ("outbox", "broker", "topic", "kafka.acks")]
        )
        lines = Path(gateway.profile).read_text().splitlines()
        for fault, path in zip(faults, paths, strict=True):
            number = int(re.match(r".*profile\.yaml:(\d+): ", fault)[1])  # type: ignore[index]
            assert path.rpartition(".")[2] in lines[number - 1]
            assert "needs a restart" in fault
        assert "secret token" not in gateway.log(200)
        assert await health_at(client, "/health") and not await health_at(client, "/up")
        write(gateway, good)
        await change(gateway, lambda made: put(made, "admin.health_path", "/up"))
        assert await health_at(client, "/up")


async def test_a_route_that_no_router_names_is_a_fault(tmp_path: Path) -> None:
    """What the check of a whole profile says at the start it says later as well."""
    made = quiet(profile("http://127.0.0.1:9", upstream__routes={"user": {"deadline": "1s"}}))
    async with Gateway(tmp_path, made=made) as gateway:
        await change(gateway, lambda made: made["addons"].remove(ROUTER), refused=False)
        await change(gateway, lambda made: made["addons"].insert(0, {"router": {"routes": []}}), refused=True)
        assert "upstream.routes.user" in gateway.log()


async def test_a_file_of_authorities_that_cannot_be_used_is_a_fault(tmp_path: Path) -> None:
    """It would only show with the next connection to a server."""
    async with Gateway(tmp_path, made=quiet(profile("https://127.0.0.1:9"))) as gateway:
        await change(gateway, lambda made: put(made, "upstream.ca_file", "missing.pem"), refused=True)
        assert "upstream.ca_file" in gateway.log()
        await change(gateway, lambda made: put(made, "upstream.ca_file", None))
        await change(gateway, lambda made: put(made, "upstream.verify_tls", False))


async def not_ready(gateway: Gateway) -> bool:
    """/readyz answers, and with 503."""
    return (await gateway.admin("/readyz")).status_code == 503


async def test_a_stop_is_not_disturbed_by_a_signal(tmp_path: Path) -> None:
    """SIGHUP while the gateway drains: nothing is read any more, and the requests in flight end well."""
    async with MisbehavingOrigin(Answer(delay=1, body=b"worth it")) as origin:
        made = quiet(profile(origin.url, upstream__response_timeout="5s", upstream__deadline="8s"))
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            await client.send(raw.head("GET", "/slow"))
            await origin.wait_for(1)
            gateway.send(signal.SIGTERM)
            await until(lambda: not_ready(gateway), what="the stop to begin")
            for _ in range(10):
                gateway.send(signal.SIGHUP)
                await asyncio.sleep(0.02)
            assert (await client.answer()).body == b"worth it"
            assert await gateway.ended(8) == 0
            assert "profile taken over" not in gateway.log()
