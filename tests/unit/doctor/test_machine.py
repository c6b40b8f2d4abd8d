"""What is said about a machine: limits, memory, proxies, file systems, ports, mitmproxy's own options."""

from __future__ import annotations

import errno
import os
import resource
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from holdfast.doctor import listeners, machine, mitmproxy_options, places, ports
from holdfast.outbox.database import APPLICATION_ID


@pytest.mark.parametrize(
    ("soft", "hard", "status"),
    [
        (64, 64, "failing"),
        (512, 512, "warning"),
        (1024, 1024, "ok"),
        (256, 65536, "ok"),
        (1024, resource.RLIM_INFINITY, "ok"),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, "ok"),
    ],
)
def test_the_hard_limit_of_open_files_counts(soft: int, hard: int, status: str) -> None:
    """`holdfast run` raises the soft one to it."""
    assert machine.open_files(soft, hard).status == status


def test_memory_is_the_smaller_of_the_machines_and_the_containers(tmp_path: Path) -> None:
    """Both are asked; a container without a limit says `max`."""
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 9000000 kB\nMemAvailable:    2097152 kB\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert machine._free_memory(meminfo, tmp_path) == 2 << 30
    (tmp_path / "memory.max").write_text(f"{512 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{400 << 20}\n")
    assert machine._free_memory(meminfo, tmp_path) == 112 << 20
    assert machine._free_memory(tmp_path / "none", tmp_path / "none") is None
    assert machine.memory(112 << 20, 0).status == "warning"
    assert machine.memory(2 << 30, 64 << 20).status == "ok"
    assert machine.memory(None, 0).status == "skipped"


@pytest.mark.parametrize(
    ("env", "status"),
    [
        ({}, "ok"),
        ({"http_proxy": ""}, "ok"),
        ({"HTTPS_PROXY": "http://p:1"}, "warning"),
        ({"http_proxy": "http://p:1", "no_proxy": "example.com, 127.0.0.1"}, "ok"),
        ({"http_proxy": "http://p:1", "NO_PROXY": "localhost"}, "ok"),
    ],
)
def test_a_proxy_that_spares_this_machine_is_fine(env: dict[str, str], status: str) -> None:
    """Its address is not repeated: it may hold a password."""
    found = machine.proxy_variables(env)
    assert found.status == status
    assert "http://p:1" not in found.found


@pytest.mark.parametrize(
    ("text", "statuses"),
    [
        ("connection_strategy: lazy\n", ["ok"]),
        ("connection_strategy: eager\nanticache: true\n", ["failing", "warning"]),
        ("anticache: false\nlisten_port: 8888\n", ["ok"]),
        ("map_remote: []\n", ["ok"]),
        ("map_remote:\n  - '|a|b'\n", ["warning"]),
        ("", ["ok"]),
        ("- a\n- b\n", ["failing"]),
        ("{{: ]\n", ["failing"]),
    ],
)
def test_options_of_mitmproxy_that_are_in_the_way_are_told(text: str, statuses: list[str], tmp_path: Path) -> None:
    """Each with its own finding; values that do no harm are left alone."""
    (tmp_path / "config.yaml").write_text(text)
    assert [each.status for each in mitmproxy_options.examined(tmp_path)] == statuses


def test_without_a_configuration_of_mitmproxy_nothing_is_in_the_way(tmp_path: Path) -> None:
    """Which is how most machines are."""
    assert [each.status for each in mitmproxy_options.examined(tmp_path / "none")] == ["ok"]


def test_the_file_system_is_that_of_the_deepest_mount(tmp_path: Path) -> None:
    """Blanks in a mount point are written as \\040."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "23 22 0:30 / /mnt rw - nfs4 server:/export rw\n"
        "24 23 0:31 / /mnt/my\\040disk rw - tmpfs tmpfs rw\n"
    )
    assert places.file_system(Path("/mnt/my disk/a/b"), mounts) == "tmpfs"
    assert places.file_system(Path("/mnt/other"), mounts) == "nfs4"
    assert places.file_system(Path("/mntx"), mounts) == "ext4"
    assert places.file_system(Path("/mnt"), tmp_path / "none") == ""


@pytest.mark.parametrize(
    ("kind", "status"),
    [("ext4", "ok"), ("overlay", "warning"), ("nfs4", "warning"), ("fuse.sshfs", "warning"), ("tmpfs", "warning")],
)
def test_a_file_system_that_does_not_keep_what_it_has_is_warned_of(
    kind: str, status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory, a container's layer, a network."""
    monkeypatch.setattr(places, "file_system", lambda _: kind)
    (found,) = places._database("outbox", tmp_path / "new" / "outbox.db", APPLICATION_ID, 1 << 20)
    assert found.status == status
    assert not (tmp_path / "new").exists()


def test_a_read_only_file_system_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with `--read-only`: no permission helps there."""
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=real.f_flag | os.ST_RDONLY))
    for folder in (tmp_path, tmp_path / "new"):
        (found,) = places._database("audit", folder / "audit.db", APPLICATION_ID, 0)
        assert (found.status, "read-only" in found.found, "another place for audit" in found.advice) == (
            *("failing", True, True),
        )


def test_a_file_in_place_of_a_folder_is_told_as_one(tmp_path: Path) -> None:
    """Of which no permission makes a folder."""
    (tmp_path / "file").touch()
    (found,) = places._recordings(tmp_path / "file")
    assert (found.status, found.found) == ("failing", f"{tmp_path}/file is no folder")


def test_too_little_space_for_what_may_come_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And next to none fails."""
    monkeypatch.setattr(places, "file_system", lambda _: "ext4")
    (found,) = places._database("outbox", tmp_path / "outbox.db", APPLICATION_ID, 1 << 60)
    assert (found.status, "lower its bound" in found.advice) == ("warning", True)
    monkeypatch.setattr(places, "_LITTLE", 1 << 60)
    (found,) = places._database("outbox", tmp_path / "outbox.db", APPLICATION_ID, 0)
    assert found.status == "failing"


@pytest.mark.parametrize(
    ("problem", "told"),
    [(errno.EACCES, "are for root"), (errno.EADDRNOTAVAIL, "no such address"), (errno.EMFILE, "EMFILE")],
)
def test_an_address_that_cannot_be_had_is_told_with_the_reason(
    problem: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A privileged port fails for everybody but root, who makes this test."""
    monkeypatch.setattr(ports, "why_not", lambda *_: problem)
    found = ports._examined("listen", "--listen", "127.0.0.1:80", "/health", {})
    assert found.status == "failing"
    assert told in found.found
    assert found.advice


def test_who_listens_is_found_with_its_number_and_without_its_arguments(tmp_path: Path) -> None:
    """Arguments may hold secrets: only an interpreter's script or module is told."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert ports.why_not("127.0.0.1", port) == errno.EADDRINUSE
        assert listeners.who_listens(port).endswith(f"(process {os.getpid()})")
    assert ports.why_not("127.0.0.1", port) is None
    assert listeners.who_listens(port) == ""
    for arguments, told in [
        (["/usr/bin/redis-server", "--requirepass", "opensesame"], "redis-server"),
        (["/usr/bin/python3", "-u", "/srv/app.py", "--token=opensesame"], "python3 app.py"),
        (["python3.13", "-m", "http.server", "8000"], "python3.13 -m http.server"),
        (["python3", "-c", "print('opensesame')"], "python3"),
    ]:
        (tmp_path / "cmdline").write_bytes("\0".join(arguments).encode() + b"\0")
        assert listeners._command(tmp_path) == told
