"""Kafka's jars: from Maven Central, as `scripts/kafka/pom.xml` names them, into a cache outside the repository.

A folder in the cache is complete or not there: it is filled under another name, given a manifest, and then renamed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from tests.services.process import ServiceError

POM = Path(__file__).resolve().parents[2] / "scripts" / "kafka" / "pom.xml"
MANIFEST = "manifest.json"


def cache_folder(env: Mapping[str, str] = os.environ) -> Path:
    """`HOLDFAST_CACHE`, else holdfast/ in the user's cache."""
    if own := env.get("HOLDFAST_CACHE"):
        return Path(own)
    return Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "holdfast"


def kafka_version(pom: Path = POM) -> str:
    """The version the pom asks for."""
    version = ElementTree.parse(pom).findtext(".//{*}kafka.version")
    if not version:
        raise ServiceError(f"{pom} names no kafka.version")
    return version


def kafka_libs() -> Path:
    """The folder of jars, fetched when it is not there or not what the pom says; raises ServiceError."""
    folder = cache_folder() / f"kafka-{kafka_version()}"
    if not is_complete(folder):
        fetch(folder)
    return folder


def is_complete(folder: Path) -> bool:
    """Whether the manifest belongs to the present pom and every file is there in its full size."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        sizes = {name: (folder / name).stat().st_size for name in manifest["files"]}
    except (OSError, ValueError, KeyError):
        return False
    return bool(manifest["pom"] == digest(POM) and sizes == manifest["files"])


def fetch(folder: Path) -> None:
    """Fill the folder with Maven, and put it in place whole."""
    if shutil.which("mvn") is None:
        raise ServiceError("Kafka's jars are fetched by Maven: install Debian's maven")
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"holdfast: fetching Kafka's jars into {folder}", flush=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as work:
        fresh = Path(work) / "jars"
        copy_dependencies(fresh)
        write_manifest(fresh)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            fresh.rename(folder)
        except OSError:
            if not is_complete(folder):  # else another run was faster, and has put the same there
                raise


def copy_dependencies(target: Path) -> None:
    """`mvn dependency:copy-dependencies`."""
    options = ["-DincludeScope=runtime", f"-DoutputDirectory={target}"]
    done = subprocess.run(
        ["mvn", "--batch-mode", "--quiet", "--file", str(POM), "dependency:copy-dependencies", *options],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ServiceError(f"Maven could not fetch Kafka's jars:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")


def write_manifest(folder: Path) -> None:
    """Check that each jar can be read to its end, then note the names and sizes."""
    jars = sorted(folder.glob("*.jar"))
    broken = [jar.name for jar in jars if not zipfile.is_zipfile(jar)]
    if broken or not (folder / f"kafka_2.13-{kafka_version()}.jar").exists():
        raise ServiceError(f"Maven left an incomplete set of jars; unreadable: {broken or 'none'}")
    manifest = {"pom": digest(POM), "files": {jar.name: jar.stat().st_size for jar in jars}}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
