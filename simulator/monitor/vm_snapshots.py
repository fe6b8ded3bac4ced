"""Snapshots of the whole machine: its state goes into one of its disks, and all of them keep what they hold.

Source: save_snapshot, load_snapshot and delete_snapshot, migration/savevm.c; bdrv_all_*, block/snapshot.c,
7.2. A simulated guest has no state but that it runs: what is saved is the head of QEMU's stream and its end.
"""

from __future__ import annotations

from errno import EIO
from os import strerror
from struct import pack

from simulator.block.backend import BlockBackend
from simulator.block.errors import QmpError
from simulator.block.internal_snapshots import holder, holder_to_write
from simulator.block.tops import tops
from simulator.monitor.hmp.dates import date_text
from simulator.monitor.running import go_on, halt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.block.node import Node
    from simulator.machine import Machine

_MAGIC, _STREAM_VERSION = b"QEVM", 3
_CONFIGURATION, _END = 7, 0
_EINVAL = 22


def disks(machine: Machine, devices: Sequence[str] | None) -> list[Node]:
    """The nodes that `devices` name; without, all that are somebody's who is no node. Raises QmpError."""
    graph = machine.graph
    if devices is None:
        return [node for node in tops(graph) if is_included(node)]
    if not devices:
        raise QmpError("At least one device is required for snapshot")
    found = []
    for name in devices:
        node = graph.nodes.get(name)
        if node is None:
            raise QmpError(f"No block device node '{name}'")
        found.append(node)
    return found


def is_included(node: Node) -> bool:
    """Whether snapshots of all disks are of this one, too (bdrv_all_snapshots_includes_bs)."""
    if node.read_only:
        return False
    return not node.parents or any(isinstance(edge.parent, BlockBackend) for edge in node.parents)


def _check_all(nodes: list[Node]) -> None:
    for node in nodes:
        if holder_to_write(node) is None:
            raise QmpError(f"Device '{node.device_or_node_name}' is writable but does not support snapshots")


def _identifier(node: Node, name: str) -> str | None:
    """That of a node's snapshot of this name."""
    keeper = holder(node)
    infos = keeper.driver.snapshot_infos() if keeper else []
    return next((info["id"] for info in infos if info["name"] == name), None)


def _vm_state_node(machine: Machine, nodes: list[Node], wanted: str | None, verb: str) -> Node:
    if wanted is None:
        found = next((node for node in nodes if holder_to_write(node)), None)
        if found is None:
            raise QmpError(machine.version.texts.vm_state_nowhere[verb])
        return found
    for node in nodes:
        if node.node_name == wanted:
            if holder_to_write(node) is None:
                raise QmpError(f"vmstate block device '{wanted}' does not support snapshots")
            return node
    raise QmpError(f"vmstate block device '{wanted}' does not exist")


async def save(
    machine: Machine, name: str | None, devices: Sequence[str] | None, vm_state: str | None, overwrite: bool
) -> None:
    """Raises QmpError."""
    nodes = disks(machine, devices)
    _check_all(nodes)
    if name is not None and overwrite:
        await _delete(nodes, name)
    elif name is not None and all(_identifier(node, name) for node in nodes):
        raise QmpError(f"Snapshot '{name}' already exists in one or more devices")
    state_node = _vm_state_node(machine, nodes, vm_state, "save")
    was_running = machine.run_state == "running"
    await halt(machine, "save-vm")
    try:
        async with machine.graph.drained_all():
            await _save_drained(machine, name, nodes, state_node)
    finally:
        if was_running:
            go_on(machine)


async def _save_drained(machine: Machine, name: str | None, nodes: list[Node], state_node: Node) -> None:
    date_ns, clock_ns = machine.graph.times()
    if name is None:
        digits = "".join(each for each in date_text(date_ns // 1_000_000_000) if each.isdigit())
        name = f"vm-{digits}"
    state = _state(machine)
    try:
        keeper = holder(state_node)
        assert keeper is not None
        await keeper.driver.save_vm_state(state)
    except OSError:
        raise QmpError("Error while writing VM state") from None
    for node in nodes:
        keeper = holder(node)
        assert keeper is not None
        length = len(state) if node is state_node else 0
        try:
            await keeper.driver.create_snapshot(name, date_ns, clock_ns, length)
        except OSError:
            await _delete(nodes, name)
            raise QmpError(f"Could not create snapshot '{name}' on '{node.device_or_node_name}'") from None


def _state(machine: Machine) -> bytes:
    board = machine.slots.board.encode()
    return _MAGIC + pack(">IBI", _STREAM_VERSION, _CONFIGURATION, len(board)) + board + bytes([_END])


async def load(machine: Machine, name: str, devices: Sequence[str] | None, vm_state: str | None) -> None:
    """Raises QmpError; then the guest stays as it was stopped."""
    was_running = machine.run_state == "running"
    await halt(machine, "restore-vm")
    nodes = disks(machine, devices)
    _check_all(nodes)
    for node in nodes:
        if _identifier(node, name) is None:
            text = machine.version.texts.vm_snapshot_missing
            raise QmpError(text.format(name=name, device=node.device_or_node_name))
    state_node = _vm_state_node(machine, nodes, vm_state, "load")
    keeper = holder(state_node)
    assert keeper is not None
    length = next(info["vm-state-size"] for info in keeper.driver.snapshot_infos() if info["name"] == name)
    if not length:
        raise QmpError("This is a disk-only snapshot. Revert to it  offline using qemu-img")
    async with machine.graph.drained_all():
        for node in nodes:
            await _go_to(node, name)
        try:
            state = await keeper.driver.load_vm_state(min(length, len(_MAGIC)))
        except OSError:
            state = b""
        if state != _MAGIC:
            raise QmpError(f"Error -{_EINVAL} while loading VM state")
    if was_running:
        go_on(machine)


async def _go_to(node: Node, name: str) -> None:
    where = f"Could not load snapshot '{name}' on '{node.device_or_node_name}': "
    if node.bitmaps:
        raise QmpError(f"{where}Device has active dirty bitmaps")
    keeper = holder(node)
    assert keeper is not None
    try:
        await keeper.driver.go_to_snapshot(name)
    except OSError as error:
        raise QmpError(f"{where}Failed to load snapshot: {strerror(error.errno or EIO)}") from None
    node.size_bytes = keeper.size_bytes if keeper is not node else node.size_bytes


async def delete(machine: Machine, name: str, devices: Sequence[str] | None) -> None:
    """Where there is none of that name, nothing is done. Raises QmpError."""
    nodes = disks(machine, devices)
    if machine.version.block.deleting_asks_all_disks:
        _check_all(nodes)
    await _delete(nodes, name)


async def _delete(nodes: list[Node], name: str) -> None:
    for node in nodes:
        keeper = holder(node)
        identifier = _identifier(node, name)
        if keeper is None or identifier is None:
            continue
        try:
            await keeper.driver.delete_snapshot(identifier)
        except OSError as error:
            where = f"Could not delete snapshot '{name}' on '{node.device_or_node_name}': "
            why = strerror(error.errno or EIO)
            raise QmpError(f"{where}Failed to delete snapshot: {why}") from None
