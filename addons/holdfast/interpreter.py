"""The way in: says in one sentence that this Python will not do, where another file would only show a SyntaxError.

Every Python since 2.7 must be able to read this file, `__init__.py` and `__main__.py`.
"""

import sys

LEAST = (3, 12)
# What is installed with Holdfast, by the names under which it is imported.
_OURS = ("apsw", "confluent_kafka", "cryptography", "http_sf", "mitmproxy", "msgspec", "redis", "tornado", "yaml")


def complaint(version=sys.version_info[:2], executable=sys.executable):
    # type: (tuple[int, ...], str) -> str
    """Why this Python is too old, and what to do; empty if it is not."""
    if tuple(version[:2]) >= LEAST:
        return ""
    told = "Holdfast needs Python {}.{} or newer, and {} is {}.{}: install a newer one, and start holdfast with it"
    return (told + " (./scripts/run finds or makes one)").format(LEAST[0], LEAST[1], executable, version[0], version[1])


def main():
    # type: () -> int
    """The command `holdfast`; its exit status."""
    sentence = complaint()
    if not sentence:
        from holdfast.cli import main as command

        try:
            return command()
        except ImportError as error:
            if str(error.name).split(".")[0] not in _OURS:
                raise
            told = "{0} cannot be imported by {1} ({2}): install Holdfast for it, with `{1} -m pip install holdfast`"
            sentence = told.format(error.name, sys.executable, error)
    sys.stderr.write(sentence + "\n")
    return 2
