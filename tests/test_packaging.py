"""What is shipped: the wheel, the locked requirements, the image and the compose file keep what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
# (instruction, rest) of the Dockerfile, continuation lines joined.
DOCKERFILE = re.findall(
    r"^([A-Z]+) (.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " "), flags=re.M
)


# --- the wheel ---


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built as `pip install .` builds it, with the locked build tools."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(folder)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(ROOT)]
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(next(folder.glob("holdfast-*.whl")))


def test_the_wheel_brings_the_package_its_types_and_the_shipped_profiles(wheel: zipfile.ZipFile) -> None:
    """An installed Holdfast knows its profiles without the checkout."""
    names = set(wheel.namelist())
    assert {"holdfast/py.typed", "holdfast/interpreter.py", "holdfast/__main__.py"} <= names
    shipped = {f"holdfast/_profiles/{file.name}" for file in (ROOT / "profiles").glob("*.yaml")}
    assert "holdfast/_profiles/sidecar.yaml" in shipped
    assert shipped <= names
    assert {"holdfast/admin/dashboard/dashboard.css", "holdfast/admin/dashboard/templates/base.html"} <= names


def test_the_wheel_brings_nothing_else(wheel: zipfile.ZipFile) -> None:
    """No tests, no scripts, no caches; and nothing at the top of site-packages but `holdfast`."""
    dist_info = f"holdfast-{PROJECT['version']}.dist-info/"
    assert {name for name in wheel.namelist() if not name.startswith(("holdfast/", dist_info))} == set()
    assert not [name for name in wheel.namelist() if "__pycache__" in name]


def test_the_wheel_brings_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    """`holdfast` is on the PATH after `pip install`."""
    dist_info = f"holdfast-{PROJECT['version']}.dist-info"
    assert "holdfast = holdfast.interpreter:main" in wheel.read(f"{dist_info}/entry_points.txt").decode()
    assert "MIT License" in wheel.read(f"{dist_info}/licenses/LICENSE").decode()


# --- the locked requirements ---


def locked(lock: Path) -> dict[str, set[str]]:
    """Normalised name -> versions that a lock file names."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^ \\]+)", lock.read_text(encoding="utf-8"), flags=re.M):
        found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(version)
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_locked_requirement_has_its_hashes(lock: Path) -> None:
    """`pip install --require-hashes` is what the scripts and the image do."""
    entries = re.split(r"^(?=[A-Za-z0-9])", lock.read_text(encoding="utf-8"), flags=re.M)[1:]
    assert entries
    assert not [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_names_no_registry(lock: Path) -> None:
    """Where packages come from is the machine's business; the hashes say what they must be."""
    assert not re.search(r"://|--(extra-)?index-url|--find-links", lock.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("lock", "wanted"),
    [
        ("runtime", PROJECT["dependencies"]),
        ("dev", [*PROJECT["dependencies"], *(r for extra in PROJECT["optional-dependencies"].values() for r in extra)]),
        ("build", PROJECT["optional-dependencies"]["build"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_lock_is_in_step_with_the_project(lock: str, wanted: list[str]) -> None:
    """Each direct dependency is locked, at a version that pyproject.toml allows; else: scripts/lock."""
    versions = locked(ROOT / "requirements" / f"{lock}.txt")
    for requirement in map(Requirement, wanted):
        have = versions.get(re.sub(r"[-_.]+", "-", requirement.name).lower(), set())
        assert have, f"{requirement} is not locked"
        assert all(requirement.specifier.contains(version) for version in have)


@pytest.mark.parametrize("lock", ["runtime", "build"])
def test_what_is_shipped_is_what_is_tested(lock: str) -> None:
    """The smaller locks name the same versions as the one the tests run with."""
    everything = locked(ROOT / "requirements" / "dev.txt")
    assert {n: v for n, v in locked(ROOT / "requirements" / f"{lock}.txt").items() if not v <= everything[n]} == {}


# --- the image ---


def last(instruction: str) -> str:
    return [rest for name, rest in DOCKERFILE if name == instruction][-1]


def test_the_image_is_built_in_stages_from_locked_requirements() -> None:
    """What builds stays out of what runs, and nothing unlocked gets in."""
    assert len([1 for name, _ in DOCKERFILE if name == "FROM"]) == 2
    installs = [step for name, rest in DOCKERFILE if name == "RUN" for step in re.findall(r"pip install [^&]*", rest)]
    assert installs
    assert not [step for step in installs if "--require-hashes" not in step and "--no-deps" not in step]


def test_the_image_runs_as_a_fixed_user_that_is_not_root() -> None:
    """A number, so that Kubernetes can check `runAsNonRoot` and volumes can be given to it."""
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", last("USER"))


def test_the_image_keeps_everything_it_writes_in_one_volume() -> None:
    """HOME, where mitmproxy keeps its certificates, and the working folder, where the outbox is, are /data."""
    assert last("VOLUME") == last("WORKDIR") == "/data"
    assert re.search(r"\bHOME=/data\b", last("ENV"))


def test_the_image_starts_stops_and_is_checked_as_the_gateway() -> None:
    """SIGTERM is the orderly end; the probe needs no curl and no token."""
    assert last("ENTRYPOINT").startswith('["holdfast", "run"')
    assert last("STOPSIGNAL") == "SIGTERM"
    assert "/healthz" in last("HEALTHCHECK")
    assert "curl" not in last("HEALTHCHECK")


def test_the_control_surface_of_the_image_is_not_open() -> None:
    """Only the proxied port is on all addresses; the control surface stays on the container's loopback."""
    assert "9900" not in last("EXPOSE")
    assert not [rest for _, rest in DOCKERFILE if "0.0.0.0:9900" in rest]


def test_only_what_the_image_needs_is_sent_to_the_builder() -> None:
    """.dockerignore lists what goes in, so a secret that lies about cannot."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split("\n")
    assert "*" in lines
    copied = {
        word.rstrip("/")
        for name, rest in DOCKERFILE
        if name == "COPY" and "--from" not in rest
        for word in rest.split()[:-1]
    }
    assert copied <= {line.removeprefix("!") for line in lines if line.startswith("!")}


# --- the compose file ---


def test_the_compose_file_has_the_gateway_and_everything_around_it() -> None:
    """One command for the whole scene."""
    assert set(SERVICES) >= {"gateway", "consumer", "origin", "redis", "kafka", "postgres", "prometheus"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_gives_up_what_it_does_not_need(service: str) -> None:
    """No capabilities, no way to new ones; a root file system that can be written only where the image insists."""
    settings = SERVICES[service]
    assert settings["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in settings["security_opt"]
    assert settings.get("read_only") is True or service == "kafka"
    assert not settings.get("privileged")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_says_whether_it_is_healthy(service: str) -> None:
    """Gateway's and consumer's check is in their image; every dependency waits for health, not for a start."""
    assert "healthcheck" in SERVICES[service] or service in ("gateway", "consumer")
    for name, how in SERVICES[service].get("depends_on", {}).items():
        assert name in SERVICES
        assert how == {"condition": "service_healthy"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_published_on_loopback_only(service: str) -> None:
    """Trying it out on a laptop opens nothing to the network."""
    assert not [port for port in SERVICES[service].get("ports", []) if not str(port).startswith("127.0.0.1:")]


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_has_a_version(service: str) -> None:
    """`latest` is another program every month."""
    assert re.search(r":v?\d", SERVICES[service]["image"])


def test_a_secret_can_always_be_given_from_outside() -> None:
    """Only obvious development defaults are in the file, behind a variable."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    for line in text.splitlines():
        if re.search(r"(?i)(password|token)\b.*[:=]\s*\S", line) and not line.lstrip().startswith("#"):
            assert re.search(r"\$\{\w+:-dev-only-\w+\}", line) or "/etc/prometheus/admin-token" in line, line


def test_volumes_and_configs_that_are_used_are_declared() -> None:
    """A typing error would otherwise be found by the first `docker compose up`."""
    used = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if not v.startswith((".", "/"))}
    assert used == set(COMPOSE["volumes"])
    assert {c["source"] for s in SERVICES.values() for c in s.get("configs", [])} == set(COMPOSE["configs"])
    mounted = [v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if v.startswith(".")]
    assert not [path for path in mounted if not (ROOT / path).exists()]


def test_prometheus_scrapes_the_gateway_with_its_token() -> None:
    """The control surface answers a foreign address only with one."""
    (job,) = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["gateway:9900", "consumer:9900"]}]
    (mounted,) = SERVICES["prometheus"]["configs"]
    assert job["authorization"]["credentials_file"] == mounted["target"]
    assert (
        COMPOSE["configs"][mounted["source"]]["content"] == SERVICES["gateway"]["environment"]["HOLDFAST_ADMIN_TOKEN"]
    )


def test_the_broker_of_the_tests_is_the_broker_of_the_compose_file() -> None:
    """One version of Kafka: what is tried out is what is tested against."""
    pom = (ROOT / "scripts" / "kafka" / "pom.xml").read_text(encoding="utf-8")
    version = re.search(r"<kafka\.version>(.*)</kafka\.version>", pom)
    assert version
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version[1]}"
