"""From options to nodes: how a tree described by blockdev-add, -blockdev or -drive is opened.

Source: bdrv_open_inherit, bdrv_inherited_options, bdrv_open_backing_file in block.c, 7.2.
"""

from __future__ import annotations

from simulator.block import granting, permissions
from simulator.block.backend import BlockBackend
from simulator.block.drivers import driver_class
from simulator.block.errors import QmpError
from simulator.block.filenames import full_backing, header_backing
from simulator.block.node import Node
from simulator.block.probing import HEAD_BYTES, find_format, format_of
from simulator.block.protocol_names import protocol_options
from simulator.engine.task import Future
from simulator.wire.json_stream import ParseError, parse_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.graph import Graph

# Options of every node (BlockdevOptions base); all others belong to the driver.
COMMON = (
    "active",
    "driver",
    "node-name",
    "read-only",
    "auto-read-only",
    "discard",
    "cache",
    "detect-zeroes",
    "force-share",
)

_SUFFIXES = (
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
    "and exabytes, respectively.\n"
)
ABORTED = -6  # SIGABRT
CRASHED = -11  # SIGSEGV


async def open_tree(
    graph: Graph, options: dict[str, Any], read_only: bool = False, probes: bool = True
) -> Node:
    """Open the node that `options` describe with all its children; see Graph.open."""
    if options["driver"] in graph.rules.formats_left_out:
        raise QmpError(f"Unknown driver '{options['driver']}'")
    node = Node(graph, "", driver_class(options["driver"]))
    _apply_common(node, options, read_only)
    node.explicit_options = options
    # A format's or filter's file is opened before the node has a name, all other children after that: which
    # shows in the order of nodes, in made-up names, and in which of two errors is told.
    try:
        file = await _find_file(graph, node)
    except QmpError:
        # The node that came to nothing is closed, as any is.
        await graph.changing()
        raise
    try:
        refused = await find_format(node, file)
        _check_common(node, options)
        name = node.node_name = graph.claim_name(options.get("node-name"))
    except QmpError:
        if file is not None:
            await _stop_probing(graph, node, file if probes else None)
            await graph.release(file)
        await graph.changing()
        raise
    graph.nodes[name] = node
    # A node under construction is somebody's, or a failing child would take it away.
    node.references += 1
    opened = False
    try:
        await _open_with_children(graph, node, file, options)
        opened = True
        await _stop_probing(graph, node, file if probes else None)
        if node.driver.supports_backing:
            await _open_backing(graph, node)
        if refused is not None:
            raise refused
        if not node.children:
            # With children it was done as each was attached; a driver whose `open` changes a role does it
            # anew.
            granting.refresh([node])
    except (QmpError, OSError) as error:
        if node.driver.stands_on_itself and not node.driver.outlives_refusal:
            await graph.end_process(CRASHED, "Segmentation fault")
        if opened:
            await node.driver.close()
        else:
            await graph.changing()
            await _stop_probing(graph, node, file if probes else None)
        await _undo(graph, node)
        if isinstance(error, OSError):
            raise QmpError(f"Could not open '{options.get('filename', name)}': {error.strerror}") from None
        raise
    node.references -= 1
    return node


async def _open_with_children(graph: Graph, node: Node, file: Node | None, options: dict[str, Any]) -> None:
    """The children that its options name, and then what the driver has to do. Raises QmpError, OSError."""
    for child_name, usual_role, required in node.driver.children:
        role = node.driver.role_of(child_name, usual_role)
        if child_name == "file" and file is not None:
            await _attach(graph, node, "file", role, file)
        else:
            await _open_child(graph, node, child_name, role, required)
    if not node.driver.stands_on_itself:
        await _open_driver(node, {key: value for key, value in options.items() if key not in COMMON})
    if node.driver.stands_on_itself:
        # Its limits are those of what is below (bdrv_refresh_limits, block/io.c:159, 5.2).
        await graph.end_process(CRASHED, "Segmentation fault")


def no_size(graph: Graph, option: str, text: str) -> QmpError:
    """An option's value is no size (parse_option_size, util/qemu-option.c:145)."""
    if graph.rules.negative_size_is_out_of_range and text.lstrip().startswith("-"):
        return QmpError(f"Value '{text}' is out of range for parameter '{option}'")
    refusal = QmpError(f"Parameter '{option}' expects a non-negative number below 2^64")
    refusal.hint = _SUFFIXES
    return refusal


async def _stop_probing(graph: Graph, node: Node, file: Node | None) -> None:
    """QEMU looks at the file of a new node through a user of its own, and drains it twice as that goes
    (blk_unref and blk_remove_bs): jobs on a file that is in use already are seen to pause."""
    if file is None:
        return
    await graph.changing()
    if any(edge.parent is not node for edge in file.parents):
        for _ in range(graph.rules.probing_drains):
            async with graph.drained(file):
                pass
    async with await graph.while_changing():
        # With its last user a file goes, which of a node that came to nothing is this one.
        await graph.release(file)


async def _open_driver(node: Node, options: dict[str, Any]) -> None:
    driver = node.driver
    for name in driver.size_options:
        size = options.get(name) or 0
        if size < 0:
            refusal = no_size(node.graph, name, str(size))
            if driver.trusts_options:
                await node.graph.end_process(ABORTED, refusal.desc)
            raise refusal
    await driver.open(options)
    if node.options.get("cache") == {}:
        # Of any other object QEMU takes the members.
        await driver.close()
        words = "protocol '{}' doesn't" if driver.is_protocol else "format '{}' does not"
        raise QmpError(f"Block {words.format(driver.format_name)} support the option 'cache'")
    if node.size_bytes > node.graph.rules.max_length_bytes:
        if node.graph.rules.too_long_is_empty:
            node.size_bytes = 0
            return
        await driver.close()
        raise QmpError("Could not refresh total sector count: File too large")


def _apply_common(node: Node, options: dict[str, Any], read_only: bool) -> None:
    node.options = options
    node.read_only = options.get("read-only", read_only)
    node.inactive = not options.get("active", not node.graph.opens_inactive)
    node.auto_read_only = options.get("auto-read-only", False)
    node.force_share = options.get("force-share", False)
    node.discard_unmap = options.get("discard", "ignore") == "unmap"
    node.detect_zeroes = options.get("detect-zeroes", "off")
    cache = options.get("cache", {})
    node.cache = {
        "writeback": True,
        "direct": cache.get("direct", False),
        "no-flush": cache.get("no-flush", False),
    }


def _check_common(node: Node, options: dict[str, Any]) -> None:
    """bdrv_open_common, block.c:1856. Raises QmpError."""
    if node.force_share and not node.read_only:
        raise QmpError("force-share=on can only be used with read-only images")
    if node.driver.is_protocol and options.get("filename") == "":
        raise QmpError(f"The '{node.driver.format_name}' block driver requires a file name")
    if node.detect_zeroes == "unmap" and not node.discard_unmap:
        raise QmpError(
            "setting detect-zeroes to unmap is not allowed without setting discard operation to unmap"
        )


async def _undo(graph: Graph, node: Node) -> None:
    graph.nodes.pop(node.node_name, None)
    async with await graph.while_changing():
        for edge in list(node.children.values()):
            await graph.detach(edge, refresh=False)


async def _open_child(graph: Graph, node: Node, name: str, role: int, required: bool) -> None:
    given = node.options.get(name)
    if given is None:
        if required:
            raise QmpError(f'A block device must be specified for "{name}"')
        return
    await _attach(graph, node, name, role, await _find_or_open(graph, node, role, given))


async def open_child(node: Node, name: str, role: int, given: str | dict[str, Any]) -> None:
    """A child that the node's driver knows of only by its own options. Raises QmpError."""
    graph = node.graph
    await _attach(graph, node, name, role, await _find_or_open(graph, node, role, given))


async def _find_file(graph: Graph, node: Node) -> Node | None:
    for name, role, _ in node.driver.children:
        if name == "file" and node.options.get(name) is not None:
            file = await _find_or_open(graph, node, role, node.options[name])
            if file.children and not file.parents:
                await _try_a_user(graph, file)
            return file
    return None


async def _try_a_user(graph: Graph, file: Node) -> None:
    """With its first user a filter takes what it needs of those below it. QEMU's own is there before the new
    node has a name. Raises QmpError."""
    user = BlockBackend(graph, "", 0, permissions.ALL)
    try:
        user.insert(file)
    except QmpError:
        await graph.release(file)
        raise
    edge, user.root = user.root, None
    assert edge is not None
    file.references += 1
    await graph.detach(edge)
    file.references -= 1


async def _find_or_open(graph: Graph, node: Node, role: int, given: str | dict[str, Any]) -> Node:
    if isinstance(given, str):
        return graph.lookup(given, given)
    child = await open_tree(
        graph, inherited(node, role, given), node.read_only and not role & permissions.COW
    )
    child.explicit_options = given
    child.inherits_from = node
    return child


async def _attach(graph: Graph, node: Node, name: str, role: int, child: Node) -> None:
    async with await graph.while_changing():
        if child is node and not graph.rules.permissions_at_once:
            await _stand_on_itself(node)
            return
        try:
            graph.attach(node, name, role, child, 0, permissions.ALL)
        except QmpError:
            await graph.release(child)
            raise


async def _stand_on_itself(node: Node) -> None:
    """Nobody looks for a cycle (bdrv_attach_child, block.c, 5.2). What the node needs of itself is looked for
    at the second such edge, and that has no end."""
    if node.driver.stands_on_itself:
        await Future("nothing: a node needs something of itself")
    node.driver.stands_on_itself = True


def inherited(node: Node, role: int, given: dict[str, Any]) -> dict[str, Any]:
    """What an inline child takes over from its parent where it does not say otherwise."""
    options = dict(given)
    options.setdefault("cache", {key: node.cache[key] for key in ("direct", "no-flush")})
    if node.force_share:
        options.setdefault("force-share", True)
    if role & permissions.COW:
        options.setdefault("read-only", True)
    else:
        options.setdefault("read-only", node.read_only)
        options.setdefault("auto-read-only", node.auto_read_only)
        # Formats and filters flush and discard only where their own user asked for it, so the layer below
        # may.
        options.setdefault("discard", "unmap")
    return options


async def _open_backing(graph: Graph, node: Node) -> None:
    """The `backing` option: null is none, a reference or options are that; left out, what the image's
    header names."""
    given = node.options.get("backing", _FROM_HEADER)
    node.auto_backing_file = header_backing(node)
    from_header = given is _FROM_HEADER
    try:
        if from_header:
            given = await _backing_from_header(graph, node)
        if given is None:
            return
        backing = await _find_or_open(graph, node, permissions.COW, given)
    except QmpError as error:
        raise error.prefixed("Could not open backing file: ") from None
    await _attach(graph, node, "backing", permissions.COW, backing)
    block_as_backing(node)
    if from_header:
        node.auto_backing_file = node.children["backing"].node.filename


async def open_backing_from_header(graph: Graph, node: Node) -> None:
    """Of a node that was opened without one (bdrv_open_backing_file). Raises QmpError."""
    node.options = {name: value for name, value in node.options.items() if name != "backing"}
    await _open_backing(graph, node)


_FROM_HEADER = object()


async def _backing_from_header(graph: Graph, node: Node) -> dict[str, Any] | None:
    filename = full_backing(node)
    if not filename:
        return None
    image_format: str | None = getattr(node.driver, "backing_format", None)
    if filename.startswith("json:"):
        options = json_options(filename, graph.rules.json_pushed)
        return {**options, "driver": image_format or options.get("driver", "raw")}
    protocol = protocol_options(filename)
    if protocol["driver"] != "file":
        return {"driver": image_format or "raw", "file": protocol}
    return {"driver": image_format or probe(graph, protocol["filename"]), "file": protocol}


def json_options(filename: str, pushes: bool) -> dict[str, Any]:
    """What a file name of json:{...} says (parse_json_filename, block.c:1945, 7.2). Raises QmpError."""
    try:
        options = parse_text(filename.removeprefix("json:").encode(), pushes)
    except ParseError as error:
        raise QmpError(f"Could not parse the JSON options: {error}") from None
    if not isinstance(options, dict):
        raise QmpError("Invalid JSON object given")
    return options


def path_of(filename: str) -> str:
    """A file's path from a name that may begin with the protocol, as an image's header, a drive or a target
    may have it; the option `filename` of a node may not (bdrv_find_protocol, raw_parse_filename). Raises
    QmpError."""
    protocol, colon, path = filename.partition(":")
    if not colon or "/" in protocol:
        return filename
    if protocol != "file":
        raise QmpError(f"Unknown protocol '{protocol}'")
    return path


def probe(graph: Graph, filename: str) -> str:
    """The format of an image of which none was given: by its magic, else raw, as is one that cannot be
    opened: to open it will tell. Raises QmpError if it cannot be read."""
    try:
        file = graph.host.open(filename, read_only=True)
    except OSError:
        return "raw"
    try:
        head = file.read(0, HEAD_BYTES)
        file.close()
    except OSError as error:
        raise QmpError(f"Could not open '{filename}': {error.strerror}") from None
    return format_of(head)


def block_as_backing(node: Node) -> None:
    """What may not be done to a node while it is somebody's backing file (bdrv_backing_attach)."""
    allowed = frozenset(("commit-target", "stream", "backup-source", "backup-target"))
    reason = f"node is used as backing hd of '{node.device_or_node_name}'"
    edge = node.children["backing"]
    edge.blocker = reason, allowed
    edge.node.op_blockers.insert(0, edge.blocker)
