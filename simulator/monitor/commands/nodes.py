"""Nodes: adding, removing, reopening, resizing and asking about them (blockdev.c, block/qapi.c, 7.2)."""

from __future__ import annotations

from simulator.block import activity, backend_limits, describe
from simulator.block.backend import BlockBackend
from simulator.block.chain import skip_implicit_filters
from simulator.block.errors import QmpError
from simulator.block.opening import CRASHED
from simulator.block.reopening import reopen
from simulator.block.resize import resize
from simulator.block.tops import tops

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.graph import Graph
    from simulator.block.guest import GuestDevice
    from simulator.machine import Machine

    Arguments = dict[str, Any]


async def blockdev_add(machine: Machine, arguments: Arguments) -> Any:
    if "node-name" not in arguments:
        raise QmpError("'node-name' must be specified for the root node")
    node = await machine.graph.open(arguments)
    node.monitor_owned = True
    return {}


async def blockdev_set_active(machine: Machine, arguments: Arguments) -> Any:
    if machine.graph.rules.changes_made_drained and not arguments["active"]:
        # There all is drained before anything is looked at (observed on 11.1.3).
        async with machine.graph.drained_all():
            return await _set_active(machine, arguments)
    return await _set_active(machine, arguments)


async def _set_active(machine: Machine, arguments: Arguments) -> Any:
    """One node, or without a name all."""
    nodes, name, active = machine.graph.nodes, arguments.get("node-name"), arguments["active"]
    if name is None:
        await (activity.activate_all if active else activity.inactivate_all)(tops(machine.graph))
    elif name not in nodes:
        raise QmpError(f"Failed to find node with node-name='{name}'")
    else:
        await (activity.activate if active else activity.inactivate)(nodes[name])
    return {}


async def blockdev_del(machine: Machine, arguments: Arguments) -> Any:
    name = arguments["node-name"]
    node = machine.graph.nodes.get(name)
    if node is None:
        raise QmpError(f"Failed to find node with node-name='{name}'")
    if any(isinstance(edge.parent, BlockBackend) for edge in node.parents):
        raise QmpError(f"Node {name} is in use")
    machine.graph.check_operation(node, "drive-del")
    if not node.monitor_owned:
        raise QmpError(f"Node {name} is not owned by the monitor")
    if node.parents or node.references:
        raise QmpError(f"Block device {node.device_or_node_name} is in use")
    node.monitor_owned = False
    await machine.graph.release(node)
    return {}


async def blockdev_reopen(machine: Machine, arguments: Arguments) -> Any:
    await reopen(machine.graph, arguments["options"])
    return {}


async def x_blockdev_change(machine: Machine, arguments: Arguments) -> Any:
    """Children that come to and go from a node whose driver has any number of them: quorum."""
    async with await machine.graph.while_changing():
        await _change_child(machine.graph, arguments)
    return {}


async def _change_child(graph: Graph, arguments: Arguments) -> None:
    parent_name = arguments["parent"]
    parent = graph.lookup(parent_name, parent_name)
    child_name, node_name = arguments.get("child"), arguments.get("node")
    if child_name is not None and node_name is not None:
        raise QmpError("The parameters child and node are in conflict")
    if child_name is not None:
        edge = parent.children.get(child_name)
        if edge is None:
            raise QmpError(f"Node '{parent_name}' does not have child '{child_name}'")
        await parent.driver.remove_child(edge)
    elif node_name is not None:
        node = graph.nodes.get(node_name)
        if node is None:
            raise QmpError(f"Node '{node_name}' not found")
        await parent.driver.add_child(node)
    else:
        raise QmpError("Either child or node must be specified")


async def block_resize(machine: Machine, arguments: Arguments) -> Any:
    node = machine.graph.lookup(arguments.get("device", ""), arguments.get("node-name", ""))
    size = arguments["size"]
    if size < 0:
        raise QmpError("Parameter 'size' expects a >0 size")
    if machine.version.block.resize_names_blocker:
        machine.graph.check_operation(node, "resize")
    if any("resize" not in allowed for _, allowed in node.op_blockers):
        device = arguments.get("device", "(null)")
        raise QmpError(f"Device '{device}' is in use")
    await resize(machine.graph, node, size)
    return {}


async def query_named_block_nodes(machine: Machine, arguments: Arguments) -> Any:
    flat = arguments.get("flat", False)
    nodes = list(reversed(machine.graph.nodes.values()))
    if any(node.driver.is_filter and node.below is None for node in nodes):
        # A filter that was taken out and that its job still holds: QEMU follows the child that it has lost
        # (block/qapi.c:167, bdrv_query_image_info, 5.2).
        await machine.graph.end_process(CRASHED, "Segmentation fault")
    return [describe.device_info(node, flat) for node in nodes]


def drives_of(machine: Machine) -> list[tuple[BlockBackend, GuestDevice | None]]:
    """Named drives and the nameless ones of devices, with the device that stands on each, as they were made
    (blk_all_next)."""
    attached = {device.backend: device for device in machine.devices.by_path.values()}
    named = [backend for backend in machine.graph.backends.values() if backend not in attached]
    made = sorted([*named, *attached], key=lambda backend: backend.number)
    return [(backend, attached.get(backend)) for backend in made]


async def query_block(machine: Machine, arguments: Arguments) -> Any:
    replies = []
    for backend, device in drives_of(machine):
        info: dict[str, Any] = {
            "device": backend.name,
            "type": "unknown",
            "locked": False,
            "removable": device is None or device.tray_open is not None,
        }
        if device is not None:
            info |= machine.slots.shown_name(device)
            if backend.keeps_io_status:
                info["io-status"] = "ok"
            if device.tray_open is not None:
                info["tray_open"] = device.tray_open
        if backend.node is not None:
            top = skip_implicit_filters(backend.node)
            info["inserted"] = describe.device_info(top, skip_implicit=True)
            info["inserted"].update(backend_limits.describe(backend))
            info["inserted"]["cache"]["writeback"] = backend.write_cache
            if top.bitmaps and machine.graph.rules.members.drive_bitmaps:
                info["dirty-bitmaps"] = info["inserted"]["dirty-bitmaps"]
        replies.append(info)
    return replies


async def query_block_graph(machine: Machine, arguments: Arguments) -> Any:
    picture = describe.GraphPicture()
    backends = [backend for backend, _ in drives_of(machine)]
    backends += [export.backend for export in machine.exports.by_age]
    for job in machine.jobs.block_jobs():
        backends += job.backends + ([job.own_backend] if job.own_backend is not None else [])
    for backend in sorted(backends + machine.graph.orphans, key=lambda backend: backend.number):
        picture.add_backend(backend)
    for job in machine.jobs.block_jobs():
        picture.add("block-job", job, job.id, job.edges)
    for node in machine.graph.nodes.values():
        picture.add_node(node)
    return picture.reply()


COMMANDS = {
    "blockdev-add": blockdev_add,
    "blockdev-del": blockdev_del,
    "blockdev-reopen": blockdev_reopen,
    "blockdev-set-active": blockdev_set_active,
    "x-blockdev-change": x_blockdev_change,
    "block_resize": block_resize,
    "query-named-block-nodes": query_named_block_nodes,
    "query-block": query_block,
    "x-debug-query-block-graph": query_block_graph,
}
