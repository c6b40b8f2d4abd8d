"""Every error Holdfast raises on purpose; adapters translate library errors into these and chain the cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class HoldfastError(Exception):
    """Base of all errors below."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong with a profile: where it stands (1-based line), its dotted path, and what to do about it."""

    file: str
    line: int
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.path}: {self.message}"


class ProfileError(HoldfastError):
    """A profile cannot be used; carries *all* faults that were found, in the order of the file."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)


class EngineMismatch(HoldfastError):
    """The installed mitmproxy is not what the engine was written against."""


class StoreUnavailable(HoldfastError):
    """The outbox or another store cannot be used right now: try later."""


class BrokerUnavailable(HoldfastError):
    """The broker cannot take the message right now: try later."""


class PoisonRecord(HoldfastError):
    """This one record can never succeed: quarantine it and go on with the rest."""


class CaptureRefused(HoldfastError):
    """A request was not stored; `reason` is the token shown to the client and counted in the metrics."""

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(message or reason)
        self.reason = reason
