"""YAML text to plain data, with the place of every key and value. Knows ruamel.yaml, no policy.

Written for hostile files: size, depth and number of values are bounded, and aliases count as often as
they are used, so that neither nesting nor an alias bomb costs more than the limits say. No I/O.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from guardian.errors import PolicyError
from guardian.policy.units import show

MAX_BYTES: Final = 1024 * 1024  # a policy for a thousand routes is a tenth of it
MAX_DEPTH: Final = 32  # the deepest sound policy has 4
MAX_VALUES: Final = 20_000
MAX_DIGITS: Final = 78  # as many as an amount on chain can have

_SYNTAX: Final = {
    "\\t": "a tab stands here; YAML indents with spaces only",
    "tab character": "a tab stands here; YAML indents with spaces only",
    "mapping values are not allowed": "a colon is not expected here; check how far this line is indented, "
    "and that a blank follows the colon of the line before",
    "expected <block end>": "this line is indented unlike those it belongs to; align it with them",
    "could not find expected ':'": "a key without its colon; write it like `key: value`",
    "unexpected end of stream": "the quote or bracket that opens in line {opened} is never closed",
    "expected ',' or": "the bracket that opens in line {opened} is not closed, or a comma is missing",
    "undefined alias": "this alias (*) has no anchor (&) before it; write the value out",
    "but found another document": "a second document begins here (---); a policy is one",
    "cannot start any token": "no value begins with this character; put the value in quotes",
}
"""What the parser says of the faults that people make, and what cures them."""

Path = tuple[str | int, ...]
Place = tuple[int, int]

_INT = re.compile(r"[-+]?[0-9]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]*|[-+]?\.[0-9]+", re.ASCII)
_WORDS: Final = {"": None, "~": None, "null": None, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Tree:
    """data: dicts, lists and scalars. keys, values: path → (line, column), both from 1."""

    data: Any
    file: str
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path) -> Place:
        """Where a path stands, or the nearest thing round it."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, (0, 0))


def read_tree(text: str, file: str) -> Tree:
    """The only document in a text; raises PolicyError with its place."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise PolicyError(
            f"the file is larger than {MAX_BYTES // 1024} KiB; a policy is far smaller", file=file
        )
    root = _compose(text, file)
    if root is None:
        raise PolicyError("the file is empty; start with `version: 1`", file=file)
    keys: dict[Path, Place] = {}
    values: dict[Path, Place] = {}
    data = _Builder(file, keys, values).build(root, ())
    return Tree(data, file, keys, values)


def _compose(text: str, file: str) -> Node | None:
    try:
        _refuse_bulk(text, file)
        yaml = YAML(typ="rt", pure=True)
        yaml.composer.warn_double_anchors = False
        node: Node | None = yaml.compose(text)
        return node
    except PolicyError:
        raise
    except MarkedYAMLError as error:
        raise _syntax_error(error, file) from error
    except ReaderError as error:
        raise _unprintable(error, text, file) from error
    except RecursionError:
        raise PolicyError("nested too deeply; a policy has four levels", file=file) from None
    except YAMLError as error:
        raise PolicyError(f"not YAML: {' '.join(str(error).split())[:200]}", file=file) from error
    except Exception as error:
        # The parser was not written for hostile files: it also raises ValueError, AssertionError, TypeError.
        raise PolicyError("not YAML: the parser gave up on this file", file=file) from error


def _syntax_error(error: MarkedYAMLError, file: str) -> PolicyError:
    """The parser's complaint in an operator's words; its own where it is a rare one."""
    mark = error.problem_mark or error.context_mark
    problem = " ".join(str(error.problem or error.context or "a fault").split())
    said = next((cure for part, cure in _SYNTAX.items() if part in problem), problem[:200])
    opened = error.context_mark.line + 1 if error.context_mark else 0
    said = said.format(opened=opened) if said in _SYNTAX.values() else said
    place = {"line": mark.line + 1, "column": mark.column + 1} if mark else {}
    return PolicyError(f"not YAML: {said}", file=file, **place)


def _unprintable(error: ReaderError, text: str, file: str) -> PolicyError:
    """The parser counts characters from the start of the text, not lines."""
    before = text[: error.position].replace("\r\n", "\n").replace("\r", "\n")
    said = f"not YAML: the character U+{error.character:04X} may not stand in a file; remove it"
    column = len(before) - before.rfind("\n")
    return PolicyError(said, file=file, line=before.count("\n") + 1, column=column)


def _refuse_bulk(text: str, file: str) -> None:
    """Look at the events first, which come one by one: the composer's time grows with depth squared."""
    depth = 0
    for count, event in enumerate(YAML(typ="rt", pure=True).parse(text)):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH or count > 2 * MAX_VALUES:
            message = "nested too deeply" if depth > MAX_DEPTH else f"more than {MAX_VALUES} values"
            line, column = _place(event)
            raise PolicyError(f"{message}; a policy is far smaller", file=file, line=line, column=column)


class _Builder:
    """Walks the nodes once and notes where everything stands."""

    def __init__(self, file: str, keys: dict[Path, Place], values: dict[Path, Place]) -> None:
        self._file = file
        self._keys = keys
        self._values = values
        self._count = 0

    def build(self, node: Node, path: Path) -> Any:
        self._count += 1
        if self._count > MAX_VALUES:
            self._fail(node, f"more than {MAX_VALUES} values, aliases counted; write fewer")
        if len(path) > MAX_DEPTH:
            self._fail(node, "nested too deeply; a policy has four levels")
        # What stands nowhere, as in `settle:`, is found at its key.
        empty = isinstance(node, ScalarNode) and not node.value
        self._values[path] = self._keys.get(path, _place(node)) if empty else _place(node)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._fail(key_node, "a key must be a single word")
            key = str(key_node.value)
            if key == "<<":
                self._fail(key_node, "merge keys (<<) are not taken; write the keys out, or under `default`")
            if key in found:
                line = self._keys[(*path, key)][0]
                self._fail(
                    key_node, f"{show(key)} stands here a second time (first in line {line}); keep one"
                )
            self._keys[(*path, key)] = _place(key_node)
            found[key] = self.build(value_node, (*path, key))
        return found

    def _scalar(self, node: ScalarNode) -> Any:
        text = str(node.value)
        if node.style or (node.tag or "").endswith(":str"):
            return text
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        if _INT.fullmatch(text):
            if len(text) > MAX_DIGITS:
                self._fail(node, f"a number with more than {MAX_DIGITS} digits")
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) and len(text) <= MAX_DIGITS else text

    def _fail(self, node: Node, message: str) -> NoReturn:
        line, column = _place(node)
        raise PolicyError(message, file=self._file, line=line, column=column)


def _place(node: Any) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1
