"""YAML text to a tree of nodes with line numbers, within limits, and to plain objects."""

from __future__ import annotations

from typing import Any

import yaml

from scenarios.language.problems import Problem, SpecError
from scenarios.language.scalars import plain

LARGEST_FILE_BYTES = 4 << 20
DEEPEST_NESTING = 40
# What libyaml says of far deeper nesting, in text that it looks at before it tells of the first level.
_PARSER_TOO_DEEP = "exceeded maximum nesting depth"
# Aliases may make a small file stand for a huge tree: what counts is the tree.
LARGEST_TREE_NODES = 400_000

_STANDARD_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("null", "bool", "int", "float", "str", "timestamp", "merge", "value", "seq", "map")
)

# libyaml's parser where PyYAML was built with it: ten times as fast, the same tree.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_tree(source: bytes, path: str) -> yaml.Node:
    """The root node of the one document in `source`. Raises SpecError."""

    def refuse(line: int, message: str) -> SpecError:
        return SpecError([Problem(path, line, "", message)])

    if len(source) > LARGEST_FILE_BYTES:
        raise refuse(1, f"expected a file of at most {LARGEST_FILE_BYTES >> 20} MiB, got {len(source)} bytes")
    try:
        text = source.decode("utf-8")
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        raise refuse(line, f"expected UTF-8 text, got the byte 0x{source[error.start]:02x}") from None
    try:
        deep_line = _too_deep_at(text)
        if deep_line:
            raise refuse(deep_line, f"nested more than {DEEPEST_NESTING} deep")
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark: Any = error.problem_mark or error.context_mark
        if error.problem == _PARSER_TOO_DEEP:
            raise refuse(mark.line + 1 if mark else 1, f"nested more than {DEEPEST_NESTING} deep") from None
        words = ", ".join(part for part in (error.context, error.problem) if part)
        raise refuse(mark.line + 1 if mark else 1, f"not valid YAML: {words}") from None
    except yaml.reader.ReaderError as error:
        raise refuse(
            text.count("\n", 0, error.position) + 1,
            f"not valid YAML: the character U+{_code_point(error.character):04X} is not allowed",
        ) from None
    except yaml.YAMLError as error:
        raise refuse(1, f"not valid YAML: {error}") from None
    if root is None:
        raise refuse(1, "expected a scenario, got an empty file")
    if _tree_is_too_big(root):
        raise refuse(
            1, f"its aliases make more than {LARGEST_TREE_NODES} values of it, or one that holds itself"
        )
    return root


def _code_point(character: Any) -> int:
    return ord(character) if isinstance(character, str) else int(character)


def _too_deep_at(text: str) -> int:
    """The line where nesting goes too deep, 0 if nowhere. Events come one by one, so this cannot recurse."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > DEEPEST_NESTING:
                return int(event.start_mark.line) + 1  # type: ignore[union-attr]
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return 0


def _tree_is_too_big(root: yaml.Node) -> bool:
    budget = LARGEST_TREE_NODES
    todo = [(root, 1)]
    while todo:
        node, depth = todo.pop()
        budget -= 1
        if budget < 0 or depth > 2 * DEEPEST_NESTING:
            return True
        if isinstance(node, yaml.MappingNode):
            todo.extend((child, depth + 1) for pair in node.value for child in pair)
        elif isinstance(node, yaml.SequenceNode):
            todo.extend((child, depth + 1) for child in node.value)
    return False


def line_of(node: yaml.Node) -> int:
    """Where a node begins, counted from 1."""
    return int(node.start_mark.line) + 1


def strange_tag(node: yaml.Node) -> str:
    """The tag of a node that asks for something other than YAML's own types, else ""."""
    return "" if node.tag in _STANDARD_TAGS else str(node.tag)


def is_quoted(node: yaml.Node) -> bool:
    """Quoted and block scalars are always text."""
    return isinstance(node, yaml.ScalarNode) and bool(node.style)


def to_plain(node: yaml.Node) -> Any:
    """The plain object (None, bool, int, float, str, list, dict) that a node stands for. Of a key given
    twice the last counts: decode.py reports it."""
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): to_plain(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [to_plain(item) for item in node.value]
    return node.value if is_quoted(node) else plain(node.value)
