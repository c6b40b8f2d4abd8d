"""A real PostgreSQL; started by root it becomes the `postgres` user, as which it has to run."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

from tests.services.process import LOOPBACK, Service, ServiceError, leash

USER = "postgres"


def binary(program: str) -> str:
    """The path of one of PostgreSQL's programs: from the PATH, or from where Debian keeps each version's."""
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: float(path.parts[4]))
    found = str(installed[-1]) if installed else shutil.which(program)
    if found is None:
        raise ServiceError(f"no {program} found: install Debian's postgresql")
    return found


def as_server_user(*command: str) -> list[str]:
    """The command as the `postgres` user where this is root, unchanged elsewhere."""
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--", *command]


class PostgresServer(Service):
    """One PostgreSQL with the superuser `postgres` and no password. As root, `data`'s parents must be passable."""

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": SIGTERM would wait for every client to leave

    @property
    def url(self) -> str:
        """postgresql://user@host:port/database."""
        return f"postgresql://{USER}@{self.address}/postgres"

    @property
    def cluster(self) -> Path:
        """The database's own folder."""
        return self.data / "cluster"

    def prepare(self) -> None:
        """initdb, once."""
        if (self.cluster / "PG_VERSION").exists():
            return
        self.cluster.mkdir(mode=0o700)
        if os.geteuid() == 0:
            user = pwd.getpwnam(USER)
            os.chown(self.cluster, user.pw_uid, user.pw_gid)
        done = subprocess.run(
            as_server_user(
                *(binary("initdb"), "--pgdata", str(self.cluster), "--username", USER, "--auth", "trust"),
                *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
            ),
            cwd="/",  # the user it becomes may not be allowed into ours
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise ServiceError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def command(self) -> list[str]:
        """The server in the foreground, on TCP only; without fsync, since no test pulls its plug."""
        settings = [f"listen_addresses={LOOPBACK}", f"port={self.port}", "unix_socket_directories=", "fsync=off"]
        options = [part for setting in settings for part in ("-c", setting)]
        # Becoming another user takes the leash off, so it is put on again behind that.
        return as_server_user(*leash(), binary("postgres"), "-D", str(self.cluster), *options)

    def answers(self) -> bool:
        """Whether it takes connections."""
        probe = [binary("pg_isready"), "--quiet", "--host", LOOPBACK, "--port", str(self.port)]
        return subprocess.run(probe, check=False, stdin=subprocess.DEVNULL).returncode == 0
