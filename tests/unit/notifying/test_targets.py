"""notifying.targets: signed webhooks, and a topic whose broker may be away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from holdfast.notifying.posting import NotTaken
from holdfast.notifying.targets import Event, Topic, Webhook
from holdfast.policy.signature import verify
from holdfast.testing import FixedClock
from tests.unit.outbox.fake_broker import FakeBroker

EVENT = Event("m-1", "failing", "holdfast.route.failing", "users", b'{"a":1}')
KEYS = (b"k" * 32, b"o" * 32)


class Posted:
    """Takes what is posted."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, Mapping[str, str], bytes]] = []

    async def __call__(self, url: str, fields: Mapping[str, str], body: bytes) -> None:
        self.posts.append((url, fields, body))


async def test_a_webhook_is_signed_by_each_key() -> None:
    """Each time with the time it is sent at, under the same id: tried again, it is the same message."""
    posted, clock = Posted(), FixedClock()
    hook = Webhook("https://hooks.test/T0/s3cret", KEYS, posted, clock)
    await hook.send(EVENT)
    clock.advance(400)
    await hook.send(EVENT)
    assert hook.name == "https://hooks.test"
    for (url, fields, body), at in zip(posted.posts, (clock() - 400, clock()), strict=True):
        assert (url, fields["webhook-id"], body) == ("https://hooks.test/T0/s3cret", "m-1", EVENT.document)
        for key in KEYS:
            verify([key], fields, body, at, tolerance=1)


async def test_without_keys_a_webhook_is_not_signed() -> None:
    """Not every receiver can check."""
    posted = Posted()
    await Webhook("http://hooks.test", (), posted, FixedClock()).send(EVENT)
    assert set(posted.posts[0][1]) == {"webhook-id", "webhook-timestamp"}


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
async def topic(broker: FakeBroker) -> AsyncIterator[Topic]:
    made = Topic(broker, 0.3)
    yield made
    await made.close()


async def test_a_message_is_keyed_by_its_route(broker: FakeBroker, topic: Topic) -> None:
    """Its header says what it is, without a look into the value."""
    await topic.send(EVENT)
    await topic.send(EVENT)
    message = broker.log[0]
    assert (message.key, message.value, len(broker.log), broker.starts) == ("users", EVENT.document, 2, 1)
    assert dict(message.headers) == {
        "content-type": b"application/json",
        "holdfast-event": b"holdfast.route.failing",
        "holdfast-id": b"m-1",
    }


async def test_a_broker_that_stores_nothing_is_left_alone_in_time(broker: FakeBroker, topic: Topic) -> None:
    """What it holds is taken back, so that the next try does not make two of it."""
    broker.down = True
    with pytest.raises(NotTaken, match=r"not stored within 0\.3 s") as caught:
        await topic.send(EVENT)
    assert not caught.value.final
    broker.down = False
    await topic.send(EVENT)
    assert (len(broker.log), broker.starts) == (1, 2)


@pytest.mark.parametrize("what", ["unreachable", "fail_next", "fatal_next"])
async def test_a_broker_that_fails_is_asked_anew(broker: FakeBroker, topic: Topic, what: str) -> None:
    """At its start, by its report, or with the connection."""
    setattr(broker, what, 1)
    with pytest.raises(NotTaken) as caught:
        await topic.send(EVENT)
    assert not caught.value.final
    setattr(broker, what, 0)
    await topic.send(EVENT)
    assert len(broker.log) == 1


async def test_what_the_broker_refuses_for_what_it_is_is_final(broker: FakeBroker, topic: Topic) -> None:
    """Tried again it would be refused again."""
    broker.too_large = 1
    with pytest.raises(NotTaken, match="too large") as caught:
        await topic.send(EVENT)
    assert caught.value.final


async def test_closing_does_not_wait_for_a_broker(broker: FakeBroker) -> None:
    """What is being published is given up."""
    made = Topic(broker, 30.0)
    broker.down = True
    sending = asyncio.ensure_future(made.send(EVENT))
    await asyncio.sleep(0.02)
    async with asyncio.timeout(3):
        await made.close()
        with pytest.raises(NotTaken):
            await sending
