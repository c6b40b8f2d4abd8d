"""What faults say about keys and values: what was found, what was perhaps meant. Secrets are not repeated."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from holdfast.profile.nodes import Node, Scalar, Sequence

MASK = "***"
_SECRET_WORDS = {
    "token", "tokens", "password", "passwords", "passwd", "passphrase", "pwd", "secret", "secrets", "credential",
    "credentials", "apikey", "pem", "jaas",
}  # fmt: skip
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")
_URL_CREDENTIALS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/?#\s]*@")
_PARAMETER = re.compile(
    r"(?i)\b((?:password|passwd|pwd|token|secret|api_?key|access_?key|sig(?:nature)?)=)([^\s&;,#'\"]+)"
)
_LONGEST = 60


def is_secret(key: str) -> bool:
    """Whether a key's name says that its value is one to hide: `token`, `sasl.password`, `seal_key`."""
    words = [word.lower() for word in _WORD.findall(key)]
    return bool(_SECRET_WORDS & set(words)) or (bool(words) and words[-1] in ("key", "keys"))


def without_credentials(text: str) -> str:
    """The text with credentials inside URLs and connection strings masked."""
    return _PARAMETER.sub(rf"\1{MASK}", _URL_CREDENTIALS.sub(rf"\1{MASK}@", text))


def found(node: Node, secret: bool = False) -> str:
    """What stands there, in words."""
    if isinstance(node, Sequence):
        return "a list" if node.items else "an empty list"
    if not isinstance(node, Scalar):
        if secret:
            return "a mapping"
        return f"a mapping with the key {next(iter(node.entries))!r}" if node.entries else "an empty mapping"
    if node.source:
        # What a variable holds may be a secret; its name is enough to find it.
        return f"{without_credentials(node.source)!r:.80}" + (", which is empty" if not node.text else "")
    if node.is_null():
        return "nothing" if not node.text else "null"
    if secret:
        return "another value"
    text = without_credentials(node.text)
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    return repr(text) if isinstance(node.value(), str) else text


def either_of(word: str, known: Iterable[str]) -> str:
    """The question "did you mean 'x'?" if a known word is close, else the empty text."""
    by_fold = {name.lower().replace("-", "_"): name for name in known}
    close = difflib.get_close_matches(word.lower().replace("-", "_"), list(by_fold), n=1, cutoff=0.6)
    return f"did you mean {by_fold[close[0]]!r}?" if close else ""


def unknown_key(known: Iterable[str], key: str) -> str:
    """The message for a key that nobody reads."""
    names = list(known)
    hint = either_of(key, names)
    if hint:
        return f"unknown key: {hint}"
    return f"unknown key: known are {', '.join(names)}" if names else "unknown key: there are none here"
