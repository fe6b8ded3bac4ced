"""blockdev-snapshot-internal-sync: a snapshot inside the image (internal_snapshot_prepare, blockdev.c:1271,
7.2)."""

from __future__ import annotations

from simulator.block.drivers import qcow2_snapshots
from simulator.block.errors import QmpError
from simulator.jobs.actions.action import Action
from simulator.jobs.internal_snapshots import can_snapshot, find, holder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.drivers.qcow2_snapshots import Snapshot
    from simulator.block.node import Node
    from simulator.jobs.registry import Jobs
    from simulator.jobs.txn import JobTxn


class InternalSnapshot(Action):
    """The node is drained from prepare to clean."""

    def __init__(self, kind: str, arguments: dict[str, Any], jobs: Jobs, txn: JobTxn | None) -> None:
        super().__init__(kind, arguments, jobs, txn)
        self._node: Node | None = None
        self._made: Snapshot | None = None

    async def prepare(self) -> None:
        device, name = self.arguments["device"], self.arguments["name"]
        node = self.jobs.root_node(device)
        self._node = node
        node.drained_begin()
        await self.graph.wait_drained([node])
        self.graph.check_operation(node, "internal-snapshot")
        if node.read_only:
            raise QmpError(f"Device '{device}' is read only")
        if not can_snapshot(node):
            raise QmpError(
                f"Block format '{node.driver.format_name}' used by device '{device}' does not support "
                "internal snapshots"
            )
        if not name:
            raise QmpError("Name is empty")
        if find(node, None, name) is not None:
            raise QmpError(f"Snapshot with name '{name}' already exists on device '{device}'")
        driver = holder(node)
        assert driver is not None
        made_ns = self.graph.epoch_ns + self.graph.scheduler.now_ns
        try:
            self._made = await qcow2_snapshots.create(driver, name, made_ns)
        except OSError as error:
            raise QmpError(
                f"Failed to create snapshot '{name}' on device '{device}': {error.strerror}"
            ) from None

    async def abort(self) -> None:
        if self._made is not None:
            assert self._node is not None
            driver = holder(self._node)
            assert driver is not None
            await qcow2_snapshots.delete(driver, self._made)

    async def clean(self) -> None:
        if self._node is not None:
            self._node.drained_end()
