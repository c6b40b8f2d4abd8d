"""Text to PyYAML's node graph, line marks kept, with bounds that a hostile or mistaken file cannot get past.

Aliases share nodes in the graph, so a few lines can stand for billions of nodes once they are followed: every node's
size and depth *with its aliases followed* is known as soon as it is composed, and bounded there.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import yaml
from yaml.composer import Composer, ComposerError
from yaml.error import MarkedYAMLError, YAMLError

from holdfast.errors import Fault, ProfileError

MAX_NODES = 20_000
MAX_DEPTH = 40
ROOT = "profile"  # the path in faults that belong to no key

# `${NAME:-x}` in a flow mapping, `{token: ${TOKEN:-}}`, is a syntax error to YAML because of its braces. While YAML
# looks, such characters are exchanged one for one for private-use characters: positions stay what they are.
_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(?::-[^}\"'\n]*)?\}")
_EXCHANGED = "{}[],:#"
_FIRST = 0x10FF00
_HIDE = {ord(char): _FIRST + index for index, char in enumerate(_EXCHANGED)}
_SHOW = {stand_in: char for char, stand_in in _HIDE.items()}

# Where libyaml is more lenient than PyYAML, or counts lines otherwise: tabs, unusual line ends, marks of byte order,
# explicit keys, tags, and comments that stick to what is before them.
_READ_OTHERWISE = re.compile(r"[\t\r\x85\u2028\u2029\ufeff]|\?(?!\S)|(?:^|[\s\[{,:-])!|[|>][-+0-9]*#", re.MULTILINE)
_QUOTED = re.compile(r'"[^"\n]*"')


def compose(text: str, file: str) -> yaml.Node | None:
    """The node graph of one YAML document, None for an empty one; ProfileError with the line of the first mistake."""
    if any(chr(code) in text for code in _SHOW):
        raise ProfileError([Fault(file, 1, ROOT, "uses private characters (U+10FF00 and up): leave them out")])
    hidden = _REFERENCE.sub(lambda match: match[0].translate(_HIDE), text)
    if _FastLoader and not _read_otherwise(hidden):
        with contextlib.suppress(YAMLError, ValueError, RecursionError):
            root: yaml.Node | None = _FastLoader(hidden).get_single_node()
            return root
    return _composed(hidden, text, file)


def _read_otherwise(text: str) -> bool:
    """Whether libyaml may make something else of it than PyYAML. A question mark in a flow mapping is one more such."""
    if _READ_OTHERWISE.search(text):
        return True
    lines = _QUOTED.sub("", text).split("\n") if "?" in text else []
    return any("{" in line[: line.rfind("?") + 1] or "[" in line[: line.rfind("?") + 1] for line in lines)


def _composed(hidden: str, text: str, file: str) -> yaml.Node | None:
    """By PyYAML's own parser, which takes thirty times as long as libyaml and says better what is wrong."""
    loader = None
    try:
        loader = _BoundedLoader(hidden)
        return loader.get_single_node()
    except RecursionError:
        raise ProfileError([Fault(file, 1, ROOT, "is nested too deeply")]) from None
    except YAMLError as error:
        raise ProfileError([_fault(error, text, file)]) from error
    except ValueError as error:
        # PyYAML lets a few of Python's own errors through, such as for the escape "\UFFFFFFFF".
        line = loader.get_mark().line + 1 if loader else 1
        raise ProfileError([Fault(file, line, ROOT, f"is not valid YAML: {error}")]) from error
    finally:
        if loader is not None:
            loader.dispose()


def shown(text: str) -> str:
    """A scalar's text as it stands in the file."""
    return text.translate(_SHOW)


class _Bounded(Composer):
    """Composes a graph that has no cycles and is bounded with its aliases followed."""

    def __init__(self) -> None:
        Composer.__init__(self)  # not super(): none of these classes cooperates
        self._extent: dict[int, tuple[int, int]] = {}  # id of a finished node: its nodes and its depth
        self._level = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[attr-defined]  # the parser's
        self._level += 1
        mark: Any = event.start_mark
        if self._level > MAX_DEPTH:
            raise ComposerError(None, None, f"nested more than {MAX_DEPTH} levels deep", mark)
        node = super().compose_node(parent, index)
        self._level -= 1
        if isinstance(event, yaml.AliasEvent) and id(node) not in self._extent:
            raise ComposerError(None, None, "an alias inside what it stands for", mark)
        if node is not None and id(node) not in self._extent:
            self._measure(node, mark)
        return node

    def _measure(self, node: yaml.Node, mark: Any) -> None:
        extents = [self._extent[id(child)] for child in _children(node)]
        nodes = 1 + sum(extent[0] for extent in extents)
        depth = 1 + max((extent[1] for extent in extents), default=0)
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            raise ComposerError(None, None, f"larger than {MAX_NODES} nodes or {MAX_DEPTH} levels with aliases", mark)
        self._extent[id(node)] = (nodes, depth)


class _BoundedLoader(_Bounded, yaml.SafeLoader):
    """All in Python."""

    def __init__(self, text: str) -> None:
        yaml.SafeLoader.__init__(self, text)
        _Bounded.__init__(self)


def _made_fast() -> Callable[[str], Any] | None:
    """The same composer on the events of libyaml; None for a PyYAML without it."""
    if not yaml.__with_libyaml__:
        return None
    from yaml._yaml import CParser
    from yaml.resolver import Resolver

    class FastLoader(_Bounded, CParser, Resolver):
        """The parser has a composer of its own, in C, which cannot be bounded: ours comes first."""

        def __init__(self, text: str) -> None:
            CParser.__init__(self, text)
            Resolver.__init__(self)
            _Bounded.__init__(self)

    return FastLoader


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _fault(error: YAMLError, text: str, file: str) -> Fault:
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        context = f"{error.context}, " if error.context else ""
        message = shown(f"{context}{error.problem}")
        if "'\\t'" in message:
            message += ": indent with blanks, not with tabs"
        return Fault(file, mark.line + 1 if mark else 1, ROOT, f"is not valid YAML: {message}")
    position = getattr(error, "position", 0)
    reason = getattr(error, "reason", None) or str(error).splitlines()[0]
    return Fault(file, text.count("\n", 0, position) + 1, ROOT, f"is not valid YAML: {reason}")


_FastLoader = _made_fast()
