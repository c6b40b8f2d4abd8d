"""deferring: libraries that are loaded when they are used, and are what they were."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

BEGIN = "import sys; from holdfast.engine.deferring import load_addons; load_addons()\n"
LOADED = "print(*sorted({'flask', 'ldap3.core', 'mitmproxy.addons', 'werkzeug'} & set(sys.modules)))\n"


def said(code: str, engine: str = "") -> str:
    """By a process of its own, for what is loaded stays."""
    command, env = [sys.executable, "-c", BEGIN + code], {**os.environ, "HOLDFAST_ENGINE": engine}
    process = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


def test_mitmproxy_is_loaded_without_them() -> None:
    """And nothing is left that stands in for them."""
    assert said(LOADED) == "mitmproxy.addons"


def test_the_plain_engine_loads_them_with_mitmproxy() -> None:
    """`HOLDFAST_ENGINE=plain`."""
    assert said("import mitmproxy.addons\n" + LOADED, "plain") == "flask ldap3.core mitmproxy.addons werkzeug"


@pytest.mark.parametrize("engine", ["", "plain"])
def test_what_mitmproxy_uses_of_them_is_theirs(engine: str) -> None:
    """Passwords that are asked for by LDAP, and paths that are joined by werkzeug."""
    ldap = "from mitmproxy.addons import maplocal, proxyauth\nprint(proxyauth.ldap3.Connection.__module__)\n"
    path = "print(maplocal.safe_join('/a', 'b'), maplocal.safe_join('/a', '../b'), proxyauth.ldap3.utils.conv.__name__)"
    assert said(ldap + path, engine) == "ldap3.core.connection\n/a/b None ldap3.utils.conv"


@pytest.mark.parametrize("engine", ["", "plain"])
def test_whoever_imports_them_gets_them(engine: str) -> None:
    """In any order; a module once."""
    used = (
        "import werkzeug.wsgi, werkzeug.security, flask, ldap3.core.connection\n"
        "from mitmproxy.addons.onboardingapp import app\nfrom werkzeug import Request\n"
        "print(isinstance(app, flask.Flask), issubclass(flask.Request, Request),"
        " werkzeug.security is sys.modules['werkzeug.security'], ldap3.Connection is ldap3.core.connection.Connection)"
    )
    assert said(used, engine) == "True True True True"
