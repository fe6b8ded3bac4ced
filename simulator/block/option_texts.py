"""Options of nodes that were given as text, as a drive's are: what they mean, and what they said.

Source: blockdev.c, drive_new and blockdev_init, 7.2: QAPI never sees them, each driver reads its own. So a
node's name, which is made of its options, has the texts.
"""

from __future__ import annotations

from simulator.block import opening
from simulator.block.drivers import driver_class, is_known
from simulator.block.errors import ProcessEnd, QmpError
from simulator.qapi.errors import ArgumentError
from simulator.qapi.integers import NumberError, to_size
from simulator.wire.json_stream import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from simulator.block.graph import Graph
    from simulator.qapi.schema import Schema

PROTOCOLS = ("file", "host_device", "nbd", "null-co", "null-aio", "blkdebug", "blklogwrites", "blkverify")


class Written(dict[str, "Any"]):
    """Options of one node, as blockdev-add takes them. `texts`: what was written, by dotted name. `read_as`:
    nothing was said of the driver, which is "raw" if nothing else is found; so the driver that was found
    takes them. Raises QmpError."""

    read_as: Callable[[str], Written] | None = None

    def __init__(self, options: dict[str, Any], texts: dict[str, str]) -> None:
        super().__init__(options)
        self.texts = texts


def converted(graph: Graph, schema: Schema, tree: dict[str, Any]) -> Written:
    """The strings of `tree` as what they mean. What is wrong is told in the block layer's words."""
    command = schema.command("blockdev-add")
    assert command is not None, "introspection without blockdev-add"
    tree = {name: _with_lists(member) for name, member in tree.items()}
    try:
        options: dict[str, Any] = schema.convert_keyval(command["arg-type"], _with_sizes(graph, tree))
    except ArgumentError as error:
        raise QmpError(_in_block_layers_words(tree, error.desc)) from None
    return _written(tree, options)


def as_probed(
    graph: Graph, schema: Schema, tree: dict[str, Any], read_as: Callable[[str], Written]
) -> Written:
    """Options without a driver, until that is found: what raw does not take another may."""
    try:
        written = read_as("raw")
    except QmpError:
        known = {name: value for name, value in tree.items() if name in opening.COMMON or name == "file"}
        written = converted(graph, schema, {"driver": "raw", **known})
        del written.texts["driver"]
    written.read_as = read_as
    return written


def _written(tree: dict[str, Any], options: dict[str, Any]) -> Written:
    """And the nodes that are described within likewise."""
    texts: dict[str, str] = {}
    members = dict(options)
    for name, value in tree.items():
        member = options.get(name)
        if isinstance(value, dict) and isinstance(member, dict) and "driver" in member:
            members[name] = _written(value, member)
        elif name in options:
            texts.update(flat({name: value}))
    return Written(members, texts)


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(dotted name, text) of all that is in a tree."""
    if isinstance(value, dict | list):
        prefix = f"{name}." if name else ""
        for key, member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from flat(member, f"{prefix}{key}")
    else:
        yield name, value if isinstance(value, str) else encode(value)


def _with_lists(value: Any) -> Any:
    """What has the members 0, 1, ... is a list (qdict_array_split)."""
    if not isinstance(value, dict):
        return value
    members = {name: _with_lists(member) for name, member in value.items()}
    numbers = [str(number) for number in range(len(members))]
    return [members[number] for number in numbers] if members and members.keys() == set(numbers) else members


def _with_sizes(graph: Graph, tree: dict[str, Any]) -> dict[str, Any]:
    """Sizes with suffixes become numbers, in this node's options and those of nodes within them."""
    driver = tree.get("driver")
    sized = driver_class(driver).size_options if isinstance(driver, str) and is_known(driver) else ()
    options: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            options[name] = _with_sizes(graph, value)
        elif isinstance(value, list):
            options[name] = [_with_sizes(graph, each) if isinstance(each, dict) else each for each in value]
        else:
            options[name] = str(_size(graph, str(driver), name, value)) if name in sized else value
    return options


def _size(graph: Graph, driver: str, name: str, text: str) -> int:
    try:
        return to_size(text)
    except NumberError as error:
        refusal = opening.no_size(graph, name, text)
        if error.out_of_range:
            refusal = QmpError(f"Value '{text}' is out of range for parameter '{name}'")
        if driver_class(driver).trusts_options:
            raise ProcessEnd(opening.ABORTED, refusal.desc) from None
        raise refusal from None


def _in_block_layers_words(tree: dict[str, Any], problem: str) -> str:
    parts = problem.split("'")
    if len(parts) < 3:
        return problem
    *path, name = parts[1].replace("[", ".").replace("]", "").split(".")
    owner: Any = tree
    driver = tree.get("driver", "")
    for step in path:
        owner = owner[int(step)] if isinstance(owner, list) else owner.get(step, {})
        driver = owner.get("driver", driver) if isinstance(owner, dict) else driver
    if driver == "blkdebug" and name == "event":
        # add_rule, block/blkdebug.c
        missing = problem.endswith("is missing")
        return "Missing event name for rule" if missing else f"invalid parameter value: {parts[3]}"
    if problem.endswith("is unexpected") and isinstance(owner, dict):
        # Options are flat there: it is the first within that nobody has taken.
        name = next(flat({name: owner[name]}))[0] if name in owner else name
    if problem.endswith("is unexpected") and driver in PROTOCOLS:
        return f"Block protocol '{driver}' doesn't support the option '{name}'"
    if problem.endswith("is unexpected"):
        return f"Block format '{driver}' does not support the option '{name}'"
    if name == "driver" and "does not accept value" in problem:
        return f"Unknown driver '{parts[3]}'"
    if problem.endswith("is missing") and name in _children_of(driver):
        return f'A block device must be specified for "{name}"'
    return problem


def _children_of(driver: str) -> list[str]:
    return [child for child, _, _ in driver_class(driver).children] if is_known(driver) else ["file"]
