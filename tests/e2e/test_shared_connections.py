"""Connections to servers are shared by all clients: how many there are, and what a client sees of that."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from holdfast.testing import Answer, Certificate, MisbehavingOrigin, self_signed
from tests.e2e import raw
from tests.e2e.harness import Gateway, profile

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    """For TLS upstreams."""
    return self_signed()


@pytest_asyncio.fixture(params=["plaintext", "tls"], scope="module", loop_scope="module")
async def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> AsyncIterator[tuple[Gateway, MisbehavingOrigin]]:
    """One gateway for all that follows."""
    tls, folder = request.param == "tls", tmp_path_factory.mktemp(request.param)
    async with MisbehavingOrigin(tls=certificate if tls else None) as origin:
        made = profile(origin.url, upstream__ca_file=str(certificate.write(folder)) if tls else None)
        async with Gateway(folder, origin.url, made=made, env={"HOLDFAST_ENGINE": ""}) as gateway:
            yield gateway, origin


async def test_fifty_clients_one_after_the_other_use_one_connection(shared: tuple[Gateway, MisbehavingOrigin]) -> None:
    """It outlives the client that it was opened for."""
    gateway, origin = shared
    origin.plan = Answer(body=b"well")
    before = origin.connections
    for _ in range(50):
        async with raw.RawClient(gateway.port) as client:
            answer = await client.request("GET", "/api/users")
            assert (answer.status, answer.body) == (200, b"well")
    assert origin.connections - before == 1
