"""Addons come, go and change places while the gateway serves, whoever wrote them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from holdfast.testing import Answer, MisbehavingOrigin
from tests.e2e import raw
from tests.e2e.harness import Gateway, profile, until
from tests.e2e.live import OWN, Made, banner, change, entry_of, held, life, outcomes, put, quiet, write


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder on the gateway's PYTHONPATH with addons of one's own."""
    (tmp_path / "own_addons.py").write_text(OWN)
    return tmp_path


async def test_addons_come_go_and_change_places(own: Path) -> None:
    """Each lives as under mitmproxy; one whose entry is the same stays the same object."""
    async with MisbehavingOrigin() as origin:
        made = quiet(profile(origin.url))
        made["addons"] += [banner("a", "one"), banner("b", "two")]
        async with Gateway(own, made=made) as gateway, raw.RawClient(gateway.port) as client:

            async def stamp() -> str | None:
                return (await client.request("GET", "/")).header("x-banner")

            assert await stamp() == "ab"
            await change(gateway, lambda made: made["addons"].insert(4, made["addons"].pop()))
            assert await stamp() == "ba"
            assert "addons_in_order" in gateway.log()
            await change(gateway, lambda made: made["addons"].append(banner("c", "three")))
            assert await stamp() == "bac"
            assert life(own)[:2] == ["made a", "made b"] and life(own).count("made a") == 1
            assert life(own)[-3:] == ["made c", "load c", "running c"]
            await change(gateway, lambda made: entry_of(made, "one").update(text="A"))
            assert await stamp() == "bAc"
            assert life(own)[-4:] == ["made A", "load A", "done a", "running A"]
            async with raw.RawClient(gateway.port) as other:
                await other.send(raw.head("GET", "/held-c"))
                await asyncio.sleep(0.1)
                await change(gateway, lambda made: made["addons"].pop())
                assert (await stamp(), life(own)[-1]) == ("bA", "running A")
                assert (await other.answer()).header("x-banner") == "bA"
            await until(lambda: life(own)[-1] == "done c", what="the end of an addon that was busy")
            assert life(own)[-2] == "was busy c"
            assert await gateway.terminate() == 0
            assert sorted(life(own)[-2:]) == ["done A", "done b"]


@pytest.mark.parametrize("where", ["__init__", "load", "configure"])
async def test_an_addon_that_refuses_leaves_everything_as_it_was(own: Path, where: str) -> None:
    """Whatever of it raises; what else the profile changes does not hold either."""
    async with MisbehavingOrigin() as origin:
        made = quiet(profile(origin.url))
        made["addons"].append(banner("a", "one"))
        async with Gateway(own, made=made) as gateway, raw.RawClient(gateway.port) as client:
            good = held(gateway)

            def edit(made: Made) -> None:
                made["addons"][4] = banner("A", "one")
                made["addons"] += [banner("b", "two"), banner("c", "three", fail=where)]
                put(made, "upstream.servers", ["http://127.0.0.1:11"])
                put(made, "limits.buffer_body", "1KiB")
                put(made, "upstream.keep_host_header", True)

            await change(gateway, edit, refused=True)
            (fault,) = (await gateway.admin("/health")).json()["profile"]["faults"]
            assert "addons.three: " in fault and "broken on purpose" in fault
            for _ in range(2):
                answer = await client.request("POST", "/api/users", body=bytes(5000))
                assert (answer.status, answer.header("x-banner")) == (200, "a")
            assert origin.requests[-1].header("host") != "gateway.test"
            if where != "__init__":
                await until(lambda: {"done b", "done A"} <= set(life(own)), what="those that had been loaded to end")
            assert "done a" not in life(own) and not [w for w in life(own) if w.startswith("running") and "a" not in w]
            write(gateway, good)
            await change(gateway, lambda made: made["addons"].append(banner("b", "two")))
            assert (await client.request("GET", "/")).header("x-banner") == "ab"


async def test_counters_of_somebodys_addon_go_on(own: Path) -> None:
    """It registers them with the gateway's registry in its constructor, and is made anew for new settings."""
    async with MisbehavingOrigin() as origin:
        made = quiet(profile(origin.url))
        made["addons"].append({"use": "own_addons:Counting", "name": "counting", "with": {"label": "a"}})
        async with Gateway(own, made=made) as gateway, raw.RawClient(gateway.port) as client:
            for label in ("b", "a", "a"):
                await client.request("GET", "/")
                await change(gateway, lambda made, label=label: entry_of(made, "counting").update(label=label))
            await client.request("GET", "/")
            figures = await gateway.metrics()
            counted = {k[1]: v for k, v in figures.items() if k[0] == "own_requests_total"}
            assert counted == {"label=a": 3, "label=b": 1}
            await change(gateway, lambda made: made["addons"].pop())
            assert not [k for k in await gateway.metrics() if k[0].startswith("own_")]


async def test_new_settings_are_handed_to_an_addon_that_takes_them(own: Path) -> None:
    """And taken back where it does not want them."""
    async with MisbehavingOrigin() as origin:
        made = quiet(profile(origin.url))
        made["addons"].append({"use": "own_addons:Stubborn", "name": "stubborn", "with": {"number": 2}})
        async with Gateway(own, made=made) as gateway, raw.RawClient(gateway.port) as client:
            await change(gateway, lambda made: entry_of(made, "stubborn").update(number=9))
            assert (await client.request("GET", "/")).header("x-number") == "9"
            await change(gateway, lambda made: entry_of(made, "stubborn").update(number=11), refused=True)
            assert "too many" in gateway.log()
            assert (await client.request("GET", "/")).header("x-number") == "9"


async def test_the_failure_sink_can_be_taken_out_and_put_back(tmp_path: Path) -> None:
    """Without it nothing is captured, with it again everything is, in the same outbox; no metric is there twice."""
    async with (
        Gateway(tmp_path, made=quiet(profile("http://127.0.0.1:9"))) as gateway,
        raw.RawClient(gateway.port) as client,
    ):
        sinks = [entry for entry in held(gateway)["addons"] if "failure_sink" in entry]
        ids = [(await client.request("POST", "/", body=b"x")).capture_id]
        await change(gateway, lambda made: made["addons"].pop())
        assert (await client.request("POST", "/", body=b"x")).capture_id is None
        assert (await gateway.admin("/captures")).status_code == 404
        await change(gateway, lambda made: made["addons"].extend(sinks))

        async def captured() -> bool:
            ids.append((await client.request("POST", "/", body=b"x")).capture_id)
            return ids[-1] is not None

        await until(captured, what="the outbox to be open again")
        listed = {each["id"] for each in await gateway.captures()}
        assert listed == {each for each in ids if each}
        assert (await gateway.metrics())["holdfast_outbox_records", "state=pending"] == len(listed)


async def test_an_addon_may_ask_for_a_reload(own: Path) -> None:
    """By the command `holdfast.reload`, which mitmweb's users have as well."""
    async with MisbehavingOrigin() as origin:
        made = quiet(profile(origin.url))
        made["addons"].append(banner("a"))
        async with Gateway(own, made=made) as gateway, httpx.AsyncClient(base_url=gateway.url) as client:
            assert (await client.get("/reload")).status_code == 200

            async def done() -> bool:
                return await outcomes(gateway) == (1, 0)

            await until(done, what="the reload")
            assert "profile taken over" in gateway.log() and "changed=nothing" in gateway.log()


async def test_an_addon_that_has_gone_is_not_called_by_an_event_that_began_before(own: Path) -> None:
    """The event waits at an earlier addon while a later one goes: `done` is the last that one hears."""
    async with MisbehavingOrigin() as origin:
        made = quiet(profile(origin.url))
        made["addons"] += [banner("a", "one"), banner("b", "two")]
        async with Gateway(own, made=made) as gateway, raw.RawClient(gateway.port) as client:
            await client.send(raw.head("GET", "/held-a"))
            await asyncio.sleep(0.1)  # until it is held
            await change(gateway, lambda made: made["addons"].pop())
            assert life(own)[-1] == "done b"
            answer = await client.answer()
            assert (answer.status, answer.header("x-banner")) == (200, "a")
            assert life(own)[-2:] == ["done b", "was busy a"]


async def test_spooling_is_switched_off_under_an_upload_that_is_spooled(tmp_path: Path) -> None:
    """It was promised to be captured when it began, and is; the next one is not."""
    async with MisbehavingOrigin(Answer(503)) as origin:
        made = quiet(profile(origin.url, limits={"buffer_body": "1KiB"}, upstream__read_timeout="5s"))
        entry_of(made, "failure_sink").update(spool={"max_body": "1MiB"})
        async with Gateway(tmp_path, made=made) as gateway, raw.RawClient(gateway.port) as client:
            await client.send(raw.head("POST", "/", length=40_000) + bytes(20_000))
            await asyncio.sleep(0.3)
            await change(gateway, lambda made: entry_of(made, "failure_sink").update(spool=None))
            await client.send(bytes(20_000))
            captured = await client.answer()
            assert captured.capture_id
            refused = await client.request("POST", "/", body=bytes(40_000))
            assert refused.header("holdfast-capture") == "failed; reason=too_large"
            assert len(raw.body_of((await gateway.exported())[captured.capture_id])) == 40_000
            await change(gateway, lambda made: entry_of(made, "failure_sink").update(spool={"max_body": "1MiB"}))
            assert (await client.request("POST", "/", body=bytes(40_000))).capture_id
