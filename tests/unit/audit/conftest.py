"""An empty audit of either store, with a clock that stands still."""

from tests.contract.audit_cases import audit, clock, place

__all__ = ["audit", "clock", "place"]
