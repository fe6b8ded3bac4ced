"""qemu-img bitmap, and the bitmaps that convert takes along (qemu-img.c, 7.2)."""

from __future__ import annotations

from simulator.block.errors import QmpError
from simulator.image_tool.bench import ToolError
from simulator.image_tool.options import Arguments, parse, size_of
from simulator.jobs import dirty_bitmaps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.bitmap import DirtyBitmap
    from simulator.block.node import Node
    from simulator.image_tool.bench import Bench

_ACTIONS = ("add", "remove", "clear", "enable", "disable", "merge")


async def bitmap(bench: Bench, argv: list[str]) -> int:
    """Actions happen in the order in which they are given."""
    arguments = parse(argv, "b:f:F:g:hU", "add remove clear enable disable merge: object:")
    actions = [(name, value) for name, value in arguments.given if name in _ACTIONS]
    _check(arguments, [name for name, _ in actions])
    path, name = arguments.rest
    granularity = size_of(arguments.get("g") or "0") or 0
    backend = await bench.open(path, arguments.get("f"), writable=True, backing=False)
    node = source = bench.node_of(backend)
    other = None
    if (source_path := arguments.get("b")) is not None:
        other = await bench.open(source_path, arguments.get("F"), backing=False)
        source = bench.node_of(other)
    for action, value in actions:
        try:
            await _act(node, name, action, granularity, source, value)
        except QmpError as error:
            raise ToolError(f"Operation {action} on bitmap {name} failed: {error.desc}") from None
    if other is not None:
        await bench.close(other)
    await bench.close(backend)
    return 0


def _check(arguments: Arguments, actions: list[str]) -> None:
    if not actions:
        raise ToolError("Need at least one of --add, --remove, --clear, --enable, --disable, or --merge")
    if arguments.has("g") and "add" not in actions:
        raise ToolError("granularity only supported with --add")
    if arguments.has("F") and not arguments.has("b"):
        raise ToolError("-F only supported with -b")
    if arguments.has("b") and "merge" not in actions:
        raise ToolError("Merge bitmap source file only supported with --merge")
    if len(arguments.rest) != 2:
        raise ToolError("Expecting filename and bitmap name")


async def _act(node: Node, name: str, action: str, granularity: int, source: Node, merged: str) -> None:
    graph = node.graph
    chosen: dict[str, Any] = {"node": node.node_name, "name": name}
    if action == "add":
        size = {"granularity": granularity} if granularity else {}
        dirty_bitmaps.add(graph, {**chosen, **size, "persistent": True})
    elif action == "remove":
        (await dirty_bitmaps.remove_stored(graph, chosen)).release()
    elif action == "merge":
        _merge(node, name, source, merged)
    elif action == "clear":
        dirty_bitmaps.lookup_usable(graph, chosen).clear()
    else:
        dirty_bitmaps.lookup_usable(graph, chosen, readonly=True).enabled = action == "enable"


def _merge(node: Node, name: str, source: Node, source_name: str) -> None:
    given = [{"node": source.node_name, "name": source_name}]
    dirty_bitmaps.merge(node.graph, {"node": node.node_name, "target": name, "bitmaps": given})


def check_bitmaps(source: Node, skip_broken: bool) -> None:
    """Raises ToolError if those of a source cannot be copied."""
    if not source.driver.can_store_bitmaps:
        raise ToolError("Source lacks bitmap support")
    for each in _stored(source):
        if each.inconsistent and not skip_broken:
            hint = "Try --skip-broken-bitmaps, or use 'qemu-img bitmap --remove' to delete it"
            raise ToolError(f"Cannot copy inconsistent bitmap '{each.name}'\n{hint}")


def copy_bitmaps(bench: Bench, source: Node, target: Node) -> None:
    """Raises ToolError."""
    for each in _stored(source):
        if each.inconsistent:
            bench.error(f"warning: Skipping inconsistent bitmap '{each.name}'")
            continue
        made = {"node": target.node_name, "name": each.name, "granularity": each.granularity_bytes}
        doing = "create"
        try:
            dirty_bitmaps.add(target.graph, {**made, "persistent": True, "disabled": not each.enabled})
            doing = "populate"
            _merge(target, str(each.name), source, str(each.name))
        except QmpError as error:
            raise ToolError(f"Failed to {doing} bitmap {each.name}: {error.desc}") from None


def _stored(node: Node) -> list[DirtyBitmap]:
    return [each for each in node.bitmaps if each.persistent]
