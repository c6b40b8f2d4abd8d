"""notifying.posting: one POST, to a server that answers well, badly, or not at all."""

from __future__ import annotations

import asyncio
import gc

import pytest

from holdfast.notifying.posting import NotTaken, parse_receiver, poster, shown
from holdfast.testing import Answer, Break, MisbehavingOrigin, self_signed

BODY = b'{"type":"test"}'


async def test_a_document_is_posted_as_it_is() -> None:
    """With the fields of its signature, as JSON."""
    async with MisbehavingOrigin(Answer(204)) as receiver:
        await poster(5.0)(f"{receiver.url}/hook?a=b", {"webhook-id": "m-1"}, BODY)
        (request,) = receiver.requests
    assert (request.method, request.target, request.body) == ("POST", "/hook?a=b", BODY)
    assert request.header("webhook-id") == "m-1"
    assert request.header("content-type") == "application/json"
    assert request.header("user-agent").startswith("holdfast/")


@pytest.mark.parametrize("status", [301, 307, 400, 404, 429, 500, 503])
async def test_anything_but_2xx_is_not_taken(status: int) -> None:
    """Redirects are not followed, wherever they lead."""
    async with MisbehavingOrigin(Answer(status, [("location", "/elsewhere")])) as receiver:
        with pytest.raises(NotTaken, match=f"answered {status}") as caught:
            await poster(5.0)(receiver.url, {}, BODY)
        assert len(receiver.requests) == 1
    assert not caught.value.final


async def test_a_receiver_that_is_gone_is_not_asked_again() -> None:
    """410: "no longer interested in receiving webhooks from this source"."""
    async with MisbehavingOrigin(Answer(410)) as receiver:
        with pytest.raises(NotTaken) as caught:
            await poster(5.0)(receiver.url, {}, BODY)
    assert caught.value.final


async def test_a_receiver_that_hangs_is_left_alone_in_time() -> None:
    """The bound is over all of it."""
    async with MisbehavingOrigin(Break("request", "hang")) as receiver:
        async with asyncio.timeout(3):
            with pytest.raises(NotTaken, match=r"[Tt]imeout"):
                await poster(0.2)(receiver.url, {}, BODY)


async def test_a_stop_in_the_middle_is_no_error_of_anybody(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody waits for the answer any more, and nothing is logged when it does not come."""
    async with MisbehavingOrigin(Break("request", "hang")) as receiver:
        posting = asyncio.ensure_future(poster(0.2)(receiver.url, {}, BODY))
        async with asyncio.timeout(3):
            while not receiver.requests:
                await asyncio.sleep(0.005)
        posting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await posting
        await asyncio.sleep(0.3)
        gc.collect()
    assert not caplog.records


@pytest.mark.parametrize("how", ["reset", "fin"])
async def test_a_connection_that_breaks_is_no_answer(how: str) -> None:
    """Nor is one that is refused."""
    async with MisbehavingOrigin(Break("request", how)) as receiver:  # type: ignore[arg-type]
        with pytest.raises(NotTaken):
            await poster(2.0)(receiver.url, {}, BODY)
        async with receiver.refusing():
            with pytest.raises(NotTaken):
                await poster(2.0)(receiver.url, {}, BODY)


async def test_a_certificate_that_is_not_trusted_ends_it() -> None:
    """Before anything is sent."""
    certificate = self_signed("localhost")
    async with MisbehavingOrigin(tls=certificate) as receiver:
        url = f"https://localhost:{receiver.port}/"
        with pytest.raises(NotTaken, match=r"(?i)certificate"):
            await poster(5.0)(url, {}, BODY)
        assert not receiver.requests


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may well be this gateway."""
    async with MisbehavingOrigin() as receiver, MisbehavingOrigin() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        await poster(5.0)(receiver.url, {}, BODY)
        assert (len(receiver.requests), proxy.connections) == (1, 0)


@pytest.mark.parametrize("url", ["https://hooks.test/T0/B0/secret", "http://127.0.0.1:9000", "http://u:p@[::1]:1/x"])
def test_a_receiver_is_a_url(url: str) -> None:
    """http or https."""
    assert parse_receiver(url) == url


@pytest.mark.parametrize(
    "url", ["", "hooks.test", "ftp://s3cret", "http://", "http://a b/s3cret", "http://h:99999/s3cret"]
)
def test_anything_else_is_none(url: str) -> None:
    """What is said of it does not repeat it."""
    with pytest.raises(ValueError, match="is a http or https URL") as caught:
        parse_receiver(url)
    assert "s3cret" not in str(caught.value)


def test_of_a_url_only_the_server_is_shown() -> None:
    """Path and credentials are often what makes it work."""
    assert shown("https://u:p@hooks.test:8443/T0/s3cret?k=v") == "https://hooks.test:8443"
