"""What `--workers` takes."""

import pytest

from holdfast.workers.starting import LEAST, PER_PROCESSOR, processors, refuse_workers


@pytest.mark.parametrize("count", [0, -2, max(LEAST, PER_PROCESSOR * processors()) + 1, 100_000])
def test_a_number_that_cannot_be_meant_is_refused_with_what_to_write(count: int) -> None:
    """Before anything is started."""
    with pytest.raises(ValueError, match=f"--workers {count}: write 1 to "):
        refuse_workers(count, web=False)


def test_several_under_mitmweb_are_refused() -> None:
    """One is what it always was."""
    refuse_workers(1, web=True)
    refuse_workers(2, web=False)
    with pytest.raises(ValueError, match="leave one of them out"):
        refuse_workers(2, web=True)


def test_several_where_the_kernel_does_not_share_connections_out_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has SO_REUSEPORT, and gives all connections to one socket."""
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(ValueError, match="that takes Linux"):
        refuse_workers(2, web=False)
