"""What is measured and what it is measured against, each one process on a port of its own.

All of them pass requests on to the same origin: an nginx that answers from memory, many times faster than any of them.
The gateway runs the shipped profiles as they are, with their access log; mitmdump runs silent, nginx without a log.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.machine import Cores, python_tool
from tests.bench.nginx import LOOKUP_CONF, MODULES, ORIGIN_CONF, PROXY_CONF
from tests.bench.running import Broken, Missing, Running
from tests.services.process import LOOPBACK, ServiceError, free_port
from tests.services.redis import RedisServer

BODY = b'{"id": 1, "name": "Grace Hopper", "email": "grace@shop.example", "notes": "%s"}\n' % (b"n" * 420)
SLOW = 1.5  # seconds that the origin takes for /stale/
# Program, or file -> Debian packages that bring it.
LUA_MODULE, LUA_REDIS = str(MODULES / "ngx_http_lua_module.so"), "/usr/share/lua/5.1/nginx/redis.lua"
DEBIAN = {
    "wrk": ["wrk"],
    "h2load": ["nghttp2-client"],
    "nginx": ["nginx"],
    LUA_MODULE: ["libnginx-mod-http-lua"],
    LUA_REDIS: ["lua-nginx-redis"],
    "varnishd": ["varnish"],
    "redis-server": ["redis-server"],
    "java": ["openjdk-17-jre-headless", "default-jre-headless"],
    "mvn": ["maven"],
}


def need(program: str) -> str:
    """The path of a program, or Missing with what installs it."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")
    if found is None and not Path(program).is_file():
        raise Missing(f"{Path(program).name} is not installed: apt-get install {DEBIAN[program][0]}")
    return found or program


@dataclass
class World:
    """One run's folder, cores and shared servers, which end with `stack`; what one case has started ends with `own`."""

    folder: Path
    cores: Cores
    stack: ExitStack
    own: ExitStack = field(default_factory=ExitStack)
    short: bool = False
    seconds: int | None = None  # that --seconds asks for
    _made: dict[str, object] = field(default_factory=dict)

    def once[T](self, name: str, make: Callable[[], T]) -> T:
        """The same one for all that ask."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]  # type: ignore[return-value]

    def place(self, name: str) -> Path:
        """A new folder."""
        number = sum(1 for _ in self.folder.glob(f"{name}-*"))
        made = self.folder / f"{name}-{number}"
        made.mkdir(parents=True)
        return made

    def keep(self, running: Running) -> Running:
        """Stop it when the case is over."""
        self.own.callback(running.stop)
        return running

    def certificate(self) -> Path:
        """A PEM file with key and certificate, for all that speak TLS."""
        return self.once("certificate", self._certificate)

    def _certificate(self) -> Path:
        from holdfast.testing import self_signed

        made, file = self_signed(LOOPBACK), self.folder / "server.pem"
        file.write_bytes(made.key + made.certificate)
        file.chmod(0o600)
        return file


# --- what is behind them ---


def origin(world: World) -> Running:
    """nginx with canned answers (see `nginx.ORIGIN_CONF`), on the cores of the load."""

    def make() -> Running:
        slow = SlowOrigin()
        world.stack.callback(slow.close)
        canned = BODY.decode().strip()
        made = _nginx(world, "origin", ORIGIN_CONF, world.cores.load, slow=slow.port, body=canned)
        world.stack.callback(made.stop)
        return made.start()

    return world.once("origin", make)


def redis(world: World) -> RedisServer:
    """Without persistence, on whatever core is free."""

    def make() -> RedisServer:
        need("redis-server")
        server = RedisServer(world.place("redis"), free_port())
        try:
            server.start().wait_ready()
        except ServiceError as error:
            raise Broken(str(error)) from error
        world.stack.callback(server.stop)
        if server.pid:
            os.sched_setaffinity(server.pid, range(os.cpu_count() or 1))
        return server

    return world.once("redis", make)


class SlowOrigin:
    """Answers after a while with something that is stale at once, and may be served so."""

    ANSWER = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        b"Cache-Control: max-age=0, stale-while-revalidate=3600\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    ) + BODY

    def __init__(self) -> None:
        self._socket = socket.create_server((LOOPBACK, 0))
        self.port: int = self._socket.getsockname()[1]
        self.asked = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.recv(1 << 16)
            self.asked += 1
            time.sleep(SLOW if self.asked > 1 else 0)  # the first one only fills the cache
            connection.sendall(self.ANSWER)


# --- what is measured ---


def holdfast(world: World, profile: str, *, shared: bool = False, more: tuple[str, ...] = (), **env: str) -> Running:
    """`holdfast run` with a shipped profile; `shared`: with Redis behind its first level."""
    port, admin, place = free_port(), free_port(), world.place(f"holdfast-{Path(profile).stem}")
    command = [python_tool("python"), "-m", "holdfast", "run", "--profile", profile, "--listen", f"{LOOPBACK}:{port}"]
    command += ["--admin", f"{LOOPBACK}:{admin}", "--upstream", origin(world).url, *more]
    if shared:
        env["REDIS_URL"] = redis(world).url
    running = Running(f"holdfast {Path(profile).stem}", world.cores.pin(world.cores.server, command), port, place, env)
    running.admin = admin
    return world.keep(running)


def holdfast_trying(world: World) -> Running:
    """The profile gateway, but for its circuit: a server that fails is asked each time."""
    file = world.place("profile") / "gateway.yaml"
    file.write_text("version: 1\nextends: gateway\nupstream: {breaker: {max_fails: 0}}\n")
    return holdfast(world, str(file))


def holdfast_tls(world: World, profile: str) -> Running:
    """The same, with a certificate of its own for clients."""
    running = holdfast(world, profile, more=("--", "--certs", f"*={world.certificate()}"))
    running.scheme = "https"
    return running


def bare(world: World, *, tls: bool = False) -> Running:
    """mitmdump in reverse mode, silent."""
    port = free_port()
    command = [python_tool("mitmdump"), "--mode", f"reverse:{origin(world).url}", "--listen-host", LOOPBACK]
    command += ["--listen-port", str(port), "--set", "flow_detail=0", "--set", "termlog_verbosity=error"]
    if tls:
        command += ["--certs", f"*={world.certificate()}"]
    running = Running("bare mitmdump", world.cores.pin(world.cores.server, command), port, world.place("bare"))
    running.scheme = "https" if tls else "http"
    return world.keep(running)


def nginx_proxy(world: World) -> Running:
    """A plain reverse proxy, one worker, connections to the origin kept."""
    return world.keep(_nginx(world, "nginx proxy", PROXY_CONF, world.cores.server, origin=origin(world).port))


def nginx_lookup(world: World) -> Running:
    """What Holdfast is to replace: nginx, one worker, a look-up in Redis by Lua, the origin where there is nothing."""
    for part in ("nginx", LUA_MODULE, LUA_REDIS):
        need(part)
    told = {"origin": origin(world).port, "redis": redis(world).port, "modules": MODULES}
    running = _nginx(world, "nginx + Lua + Redis", LOOKUP_CONF, world.cores.server, **told)
    running.beside = (redis(world).pid or 0,)
    return world.keep(running)


def varnish(world: World) -> Running:
    """Varnish with its own rules and a store in memory."""
    port, place = free_port(), world.place("varnish")
    command = [
        need("varnishd"),
        "-F",
        "-j",
        "none",
        "-a",
        f"{LOOPBACK}:{port}",
        "-b",
        f"{LOOPBACK}:{origin(world).port}",
    ]
    command += ["-s", "malloc,64m", "-n", str(place / "state")]
    return world.keep(Running("Varnish", world.cores.pin(world.cores.server, command), port, place))


def _nginx(world: World, name: str, conf: str, cores: str, **values: object) -> Running:
    port, place = free_port(), world.place(name.split(maxsplit=1)[0])
    text = conf
    for key, value in {"port": port, "place": place, **values}.items():
        text = text.replace(f"<{key}>", str(value))
    file = place / "nginx.conf"
    file.write_text(text)
    command = [need("nginx"), "-p", str(place), "-c", str(file), "-e", "stderr"]
    return Running(name, world.cores.pin(cores, command), port, place)
