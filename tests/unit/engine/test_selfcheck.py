"""engine.selfcheck: another mitmproxy is refused at start with a sentence that says what to install."""

import pytest
from mitmproxy.proxy.layers import http

from holdfast.engine import selfcheck
from holdfast.errors import EngineMismatch


def test_the_installed_mitmproxy_fits() -> None:
    """What the lock file names is what the engine was written against."""
    selfcheck.check_engine()


def test_another_version_is_refused_with_the_supported_one() -> None:
    """The message names the version that was found and the one to install."""
    with pytest.raises(EngineMismatch, match=r"13\.0\.0.*mitmproxy~=12\.2"):
        selfcheck.check_engine("13.0.0")


def test_a_method_with_other_parameters_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed signature is found before it becomes a hang."""

    def other(self: object) -> None: ...

    changed = tuple((other if f is http.HttpStream.send_response else f, p) for f, p in selfcheck.EXPECTED)
    monkeypatch.setattr(selfcheck, "EXPECTED", changed)
    with pytest.raises(EngineMismatch, match="takes"):
        selfcheck.check_engine()


def test_a_state_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream's states are overridden by name."""
    monkeypatch.delattr(http.HttpStream, "state_errored")
    with pytest.raises(EngineMismatch, match="state_errored is missing"):
        selfcheck.check_engine()
