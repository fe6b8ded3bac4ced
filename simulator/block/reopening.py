"""blockdev-reopen: new options for nodes that exist, all of them or none.

Source: bdrv_reopen_queue_child, bdrv_reopen_prepare, bdrv_reopen_parse_file_or_backing in block.c:4180-4870,
7.2.
"""

from __future__ import annotations

from simulator.block import activity, granting, permissions
from simulator.block.chain import skip_implicit_filters
from simulator.block.errors import QmpError
from simulator.block.filenames import header_backing
from simulator.block.graph import check_no_cycle
from simulator.block.opening import ABORTED, COMMON, block_as_backing, inherited
from simulator.wire.qdict import in_order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from simulator.block.graph import Graph
    from simulator.block.node import Edge, Node

_ABSENT = object()
# Of every node, and still none of common_options (block.c:4119, 7.2).
_FIXED = ("active", "force-share")


class _Entry:
    """A node in the queue. `options` is all that it is to have, `explicit` what the user gave of that."""

    def __init__(self, node: Node, options: dict[str, Any], explicit: dict[str, Any], keeps: bool) -> None:
        self.node = node
        self.options = options
        self.explicit = explicit
        self.backing_missing = not keeps and "backing" not in options
        # A flag of the node, not an option with a default: what is not told stays, but for a child's.
        stays = node.discard_unmap and options is explicit
        self.discard_unmap = options.get("discard", "unmap" if stays else "ignore") == "unmap"
        self.prepared = False
        self.drained: list[Node] = []  # what comes to be below it, and is drained as all below it is
        self.before = _state_of(node)


def _state_of(node: Node) -> dict[str, Any]:
    names = (
        "read_only",
        "auto_read_only",
        "detect_zeroes",
        "discard_unmap",
        "cache",
        "options",
        "explicit_options",
    )
    return {name: getattr(node, name) for name in names}


async def reopen(graph: Graph, options_list: list[dict[str, Any]]) -> None:
    """Each of `options_list` names its node and gives all of its options: what is left out gets its default.

    Raises QmpError, and nothing has changed then.
    """
    queue: list[_Entry] = []
    tops: list[Node] = []
    for options in options_list:
        try:
            node = _named(graph, options)
        except QmpError:
            # Those before it are drained by then.
            async with graph.drained(*_drained_for(graph, queue, tops)):
                raise
        _enqueue(queue, node, options, options, keeps=False)
        tops.append(node)
    if not queue:
        await graph.end_process(ABORTED, "bdrv_reopen_multiple: Assertion `bs_queue != NULL' failed.")
    async with graph.drained(*_drained_for(graph, queue, tops)):
        await _reopen_queue(graph, queue)


def _named(graph: Graph, options: dict[str, Any]) -> Node:
    if "node-name" not in options:
        raise QmpError("node-name not specified")
    node = graph.nodes.get(options["node-name"])
    if node is None:
        raise QmpError(f"Failed to find node with node-name='{options['node-name']}'")
    return node


async def set_read_only(graph: Graph, node: Node, read_only: bool) -> None:
    """The node, and the children that were described within it, keep all other options
    (bdrv_reopen_set_read_only). Raises QmpError, and nothing has changed then."""
    queue: list[_Entry] = []
    given = {"read-only": read_only}
    options = _without_children(node, node.options) | given
    explicit = _without_children(node, node.explicit_options) | given
    _enqueue(queue, node, options, explicit, keeps=True)
    async with graph.drained(*_drained_for(graph, queue, [node])):
        await _reopen_queue(graph, queue)


def _drained_for(graph: Graph, queue: list[_Entry], tops: list[Node]) -> list[Node]:
    """All below; where every change drains all, only what is in the queue (bdrv_reopen_queue_child); and all
    there is, once something is, where changes are made drained."""
    if graph.rules.changes_made_drained:
        return list(graph.nodes.values()) if queue else []
    if graph.rules.changes_drain_all:
        return [entry.node for entry in queue]
    return permissions.topological(tops)


def _without_children(node: Node, options: dict[str, Any]) -> dict[str, Any]:
    """Children stay what they have become, whatever the node was once opened with."""
    return {name: value for name, value in options.items() if name != "backing" and name not in node.children}


def _enqueue(
    queue: list[_Entry], node: Node, options: dict[str, Any], explicit: dict[str, Any], keeps: bool
) -> None:
    """The node, and the children that were described within it."""
    for entry in queue:
        if entry.node is node:
            # Named twice: what the later mention leaves out is kept from the earlier one.
            options = {**entry.options, **options}
            explicit = {**entry.explicit, **explicit}
            queue.remove(entry)
            break
    queue.append(_Entry(node, options, explicit, keeps))
    for name, edge in reversed(list(node.children.items())):
        child = edge.node
        if child.inherits_from is not node:
            continue
        given = options.get(name, _ABSENT)
        if isinstance(given, dict):
            child_explicit: dict[str, Any] = given
        elif given is _ABSENT:
            child_explicit = dict(child.explicit_options) if keeps else {}
        elif given == child.node_name:
            child_explicit = dict(child.explicit_options)
        else:
            continue
        child_keeps = keeps or isinstance(given, str)
        child_options = inherited_by_reopen(options, node, edge.role, child_explicit)
        if child_keeps:
            child_options = {**child.options, **child_options}
        _enqueue(queue, child, child_options, child_explicit, child_keeps)


def inherited_by_reopen(
    parent_options: dict[str, Any], parent: Node, role: int, given: dict[str, Any]
) -> dict[str, Any]:
    """What a child gets from its parent's new options."""
    before = parent.read_only, parent.auto_read_only, parent.cache
    parent.read_only = parent_options.get("read-only", False)
    parent.auto_read_only = parent_options.get("auto-read-only", False)
    parent.cache = _cache(parent_options)
    try:
        return inherited(parent, role, given)
    finally:
        parent.read_only, parent.auto_read_only, parent.cache = before


def _cache(options: dict[str, Any]) -> dict[str, bool]:
    cache = options.get("cache", {})
    return {"writeback": True, "direct": cache.get("direct", False), "no-flush": cache.get("no-flush", False)}


async def _reopen_queue(graph: Graph, queue: list[_Entry]) -> None:
    try:
        await _reopen_all(graph, queue)
    finally:
        for node in (node for entry in queue for node in entry.drained):
            node.drained_end()


async def _reopen_all(graph: Graph, queue: list[_Entry]) -> None:
    undo: list[Callable[[], None]] = []
    let_go: list[Node] = []
    for entry in queue:
        try:
            await entry.node.flush()
        except OSError as error:
            raise QmpError(f"Error flushing drive: {error.strerror}") from None
    try:
        for entry in queue:
            await _prepare(graph, entry, undo, let_go)
        for entry in queue:
            _apply(entry)
        granting.refresh([*(entry.node for entry in queue), *let_go])
    except QmpError:
        await graph.changing()
        for entry in queue:
            for name, value in entry.before.items():
                setattr(entry.node, name, value)
        for step in reversed(undo):
            step()
        granting.refresh([*(entry.node for entry in queue), *let_go])
        for entry in queue:
            if entry.prepared:
                entry.node.driver.reopen_abort()
        raise
    for entry in reversed(queue):
        entry.node.driver.reopen_commit()
    await graph.changing()
    for entry in reversed(queue):
        await entry.node.driver.reopen_finished()
    for node in let_go:
        node.references -= 1
        await graph.release(node)


def _apply(entry: _Entry) -> None:
    node, options = entry.node, entry.options
    node.read_only = options.get("read-only", False)
    node.auto_read_only = options.get("auto-read-only", False)
    node.detect_zeroes = options.get("detect-zeroes", "off")
    node.discard_unmap = entry.discard_unmap
    node.cache = _cache(options)
    node.options, node.explicit_options = options, entry.explicit


async def _prepare(graph: Graph, entry: _Entry, undo: list[Callable[[], None]], let_go: list[Node]) -> None:
    node, driver, options = entry.node, entry.node.driver, entry.options
    if options.get("detect-zeroes") == "unmap" and not entry.discard_unmap:
        raise QmpError(
            "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap"
        )
    _check_resets(node, options)
    own = {key: value for key, value in options.items() if key not in COMMON}
    await driver.reopen_prepare(own, options.get("read-only", False))
    try:
        await _prepare_children(graph, entry, undo, let_go)
    except QmpError:
        # Before anything is undone (bdrv_reopen_prepare).
        driver.reopen_abort()
        raise
    entry.prepared = True


async def _prepare_children(
    graph: Graph, entry: _Entry, undo: list[Callable[[], None]], let_go: list[Node]
) -> None:
    node, driver = entry.node, entry.node.driver
    has_backing = node.backing is not None or header_backing(node)
    if driver.supports_backing and entry.backing_missing and has_backing:
        raise QmpError(f"backing is missing for '{node.node_name}'")
    for name in ("backing", "file"):
        await _replace_child(graph, entry, name, undo, let_go)
    _check_unchanged(node, entry.options)


def _own_options(node: Node, options: dict[str, Any]) -> list[str]:
    """Names that are neither every node's, nor a child's; two of every node's can never change."""
    others = [*(name for name in COMMON if name not in _FIXED), "backing"]
    others += [name for name, _, _ in node.driver.children]
    return [name for name in in_order(options) if name not in others]


def _check_resets(node: Node, options: dict[str, Any]) -> None:
    """bdrv_reset_options_allowed, and drivers that cannot be reopened at all."""
    driver = node.driver
    if not driver.can_reopen:
        raise QmpError(
            f"Block format '{driver.format_name}' used by node '{node.device_or_node_name}' does not support "
            "reopening files"
        )
    new = _flat("", options)
    own = _flat("", {name: node.options[name] for name in _own_options(node, node.options)})
    for name in ("driver", *in_order(own)):
        if name not in new and name.partition(".")[0] not in driver.resettable_options:
            raise QmpError(f"Option '{name}' cannot be reset to its default value")


def _check_unchanged(node: Node, options: dict[str, Any]) -> None:
    """What nobody has taken must be as it was, each member of an object by itself."""
    driver = node.driver
    left = {name: value for name, value in options.items() if not _is_taken(node, name, value)}
    mine = {name: value for name, value in node.options.items() if name not in node.children}
    old = {**_flat("", mine), "driver": driver.format_name, "node-name": node.node_name}
    new = _flat("", left)
    for name in in_order(new):
        child = node.children.get(name)
        if child is not None and new[name] == child.node.node_name:
            continue
        if new[name] != old.get(name, _ABSENT):
            raise QmpError(f"Cannot change the option '{name}'")


def _is_taken(node: Node, name: str, value: Any) -> bool:
    """Whether an option means something when a node is reopened, by the node, its driver or its child."""
    if isinstance(value, dict) and name in node.children:
        return node.children[name].node.inherits_from is node
    if name in ("file", "backing"):
        return not isinstance(value, dict)
    is_common = name in COMMON and name not in ("driver", "node-name", *_FIXED)
    return is_common or name in node.driver.changeable_options


def _flat(prefix: str, options: dict[str, Any]) -> dict[str, Any]:
    """Members of objects and lists as options of their own: "file.driver", "inject-error.0.event"."""
    flat: dict[str, Any] = {}
    for name, value in options.items():
        key = f"{prefix}.{name}" if prefix else name
        if isinstance(value, list):
            value = {str(index): each for index, each in enumerate(value)}
        flat |= _flat(key, value) if isinstance(value, dict) else {key: value}
    return flat


async def _replace_child(
    graph: Graph, entry: _Entry, name: str, undo: list[Callable[[], None]], let_go: list[Node]
) -> None:
    """The option `file` or `backing` may name another node, `backing` also none."""
    given = entry.options.get(name, _ABSENT)
    if given is _ABSENT or isinstance(given, dict):
        return
    node = entry.node
    edge = node.children.get(name)
    if edge is None and name == "file":
        # What a filter shows is its file, whatever name the option has (bs->file).
        edge = node.children.get("image")
    old = edge.node if edge is not None else None
    new = None
    if given is not None:
        new = graph.lookup("", given)
        check_no_cycle(node, name, new)
    if old is new or (old is not None and skip_implicit_filters(old) is new):
        return
    if old is not None and old.implicit:
        raise QmpError(f"Cannot replace implicit {name} child of {node.node_name}")
    if not graph.rules.changes_made_drained:
        async with graph.drained(*([old] if old is not None else [])):
            await graph.changing()
    if node.driver.is_filter and old is None:
        raise QmpError(
            f"'{node.node_name}' is a {node.driver.format_name} filter node that does not support a {name} "
            "child"
        )
    _check_link(node, edge, name, given)
    if new is not None and new.inactive:
        activity.check_user(node, name, new, 0)
    if old is not None:
        # It stays until all is done, so that the way back is open.
        old.references += 1
        let_go.append(old)
        undo.append(lambda: _take_back(let_go, old))
    if new is not None and not graph.rules.changes_drain_all:
        # bdrv_apply_subtree_drain, block/io.c:474, 7.2; where all is drained for a change, that is all.
        below = permissions.topological([new])
        entry.drained += below
        for each in below:
            each.drained_begin()
        await graph.wait_drained(below)
    _link(graph, node, edge, name, new, undo)


def _take_back(let_go: list[Node], node: Node) -> None:
    node.references -= 1
    let_go.remove(node)


def _check_link(node: Node, edge: Edge | None, name: str, given: str | None) -> None:
    if edge is not None and edge.frozen:
        raise QmpError(f"Cannot change frozen '{name}' link from '{node.node_name}' to '{given}'")
    driver = node.driver
    if name == "backing" and not driver.is_filter and not driver.supports_backing:
        raise QmpError(
            f"Driver '{driver.format_name}' of node '{node.node_name}' does not support backing files"
        )
    if name == "file" and edge is None:
        raise QmpError("Cannot set file child to format node without file child")


def _link(
    graph: Graph, node: Node, edge: Edge | None, name: str, new: Node | None, undo: list[Callable[[], None]]
) -> None:
    if edge is not None and new is not None:
        old = edge.node
        graph.move(edge, new)
        undo.append(lambda: graph.move(edge, old))
    elif new is not None:
        made = graph.attach(node, name, permissions.COW, new, 0, permissions.ALL, refresh=False)
        undo.append(lambda: graph.unlink(made))
        if name == "backing":
            block_as_backing(node)
    elif edge is not None:
        graph.unlink(edge)
        undo.append(lambda: graph.relink(edge))
