"""One signed POST of a JSON document, by the Standard Webhooks specification.

Redirects are not followed, certificates are checked, and no proxy of the environment is used: tornado's client knows
none. Of the answer only the status is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from importlib.metadata import version
from typing import Protocol
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPClientError

from holdfast.errors import HoldfastError
from holdfast.profile.hints import without_credentials

_GONE = 410  # "no longer interested in receiving webhooks from this source"


class NotTaken(HoldfastError):
    """A receiver has not taken a document. `final`: it never will."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


class Post(Protocol):
    """Sends a document; NotTaken unless it was answered 2xx."""

    def __call__(self, url: str, fields: Mapping[str, str], body: bytes) -> Awaitable[None]:
        """`fields` are those of the signature."""


def poster(timeout: float) -> Post:
    """Posts, each for at most `timeout` seconds from the name's look-up to the last byte of the answer."""

    async def post(url: str, fields: Mapping[str, str], body: bytes) -> None:
        await _post(url, fields, body, timeout)

    return post


async def _post(url: str, fields: Mapping[str, str], body: bytes, within: float) -> None:
    client = AsyncHTTPClient(force_instance=True)
    try:
        sending = client.fetch(
            url,
            method="POST",
            headers={"content-type": "application/json", **fields},
            body=body,
            connect_timeout=within,
            request_timeout=within,
            follow_redirects=False,
            validate_cert=True,
            decompress_response=False,
            user_agent=f"holdfast/{version('holdfast')}",
            streaming_callback=_ignore,
            raise_error=False,
        )
        # Shielded: tornado calls it an error when what it works at is cancelled, as by a stop, and fails afterwards.
        sending.add_done_callback(lambda done: done.cancelled() or done.exception())
        answer = await asyncio.shield(sending)
    except (OSError, HTTPClientError, ValueError) as error:
        raise NotTaken(without_credentials(str(error)) or type(error).__name__) from error
    finally:
        client.close()
    if not 200 <= answer.code < 300:
        raise NotTaken(f"answered {answer.code}", final=answer.code == _GONE)


def parse_receiver(text: str) -> str:
    """The URL, if documents can be posted to it. ValueError otherwise, which does not quote it: it may be a secret."""
    parts = urlsplit(text)
    try:
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or any(character.isspace() for character in text):
        raise ValueError("a receiver is a http or https URL, such as https://hooks.example.com/holdfast")
    return text


def shown(url: str) -> str:
    """What may be said of it in logs: the path of a webhook is often its password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _ignore(_chunk: bytes) -> None:
    """Of the answer's body; it is not kept."""
