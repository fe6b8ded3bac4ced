"""blockdev-backup and drive-backup: the job is made while the source is drained, so its point in time is
now; the source stays drained until the whole transaction is through, so several disks share one point in
time.

Source: blockdev_backup_prepare, drive_backup_prepare, blockdev.c:1695-1985, 7.2.
"""

from __future__ import annotations

from simulator.block import iothreads
from simulator.block.chain import skip_filters
from simulator.jobs.actions.action import Action
from simulator.jobs.backing import set_backing
from simulator.jobs.backup import BackupJob, create_backup
from simulator.jobs.backup_options import BackupOptions
from simulator.jobs.new_image import create_image, describe_image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Node
    from simulator.jobs.registry import Jobs
    from simulator.jobs.txn import JobTxn


class BlockdevBackup(Action):
    """`target` is a node that exists."""

    supports_grouped = True

    def __init__(self, kind: str, arguments: dict[str, Any], jobs: Jobs, txn: JobTxn | None) -> None:
        super().__init__(kind, arguments, jobs, txn)
        self._source: Node | None = None
        self._job: BackupJob | None = None
        self._keeps_drained = False

    async def prepare(self) -> None:
        device, target_name = self.arguments["device"], self.arguments["target"]
        source = self.graph.lookup(device, device)
        target = self.graph.lookup(target_name, target_name)
        await self.graph.changing_context()
        await self._drain(source)
        await self._make_job(source, target)

    async def _drain(self, source: Node) -> None:
        self._source = source
        source.drained_begin()
        await self.graph.wait_drained([source])

    async def _make_job(self, source: Node, target: Node) -> None:
        iothreads.move(target, source.iothread)
        options = BackupOptions(source, self.arguments)
        self._job = await create_backup(self.jobs, source, target, options, self.txn)

    async def commit(self) -> None:
        assert self._job is not None
        self._job.start()

    async def abort(self) -> None:
        # A member of a group that was taken back before has taken this one with it.
        if self._job is not None and self._job.status != "null":
            await self._job.cancel_and_wait()

    async def clean(self) -> None:
        if self._source is not None and not self._keeps_drained:
            self._source.drained_end()


class DriveBackup(BlockdevBackup):
    """`target` is a file, made here unless mode=existing; in a version that has mode=drive, it may be a
    drive."""

    async def prepare(self) -> None:
        arguments = self.arguments
        device = arguments["device"]
        source = self.graph.lookup(device, device)
        await self._drain(source)
        if arguments.get("mode") == "drive" and self.jobs.rules.target_by_device:
            target = self.graph.lookup(arguments["target"], arguments["target"])
            await self._make_job(source, target)
            return
        self._keeps_drained = self.jobs.rules.refused_image_keeps_drained
        self.graph.check_operation(source, "backup-source")
        target = await self._open_target(source)
        target.references += 1
        try:
            await self.graph.changing_context()
            if arguments["sync"] == "none":
                await set_backing(self.graph, target, source)
            self._keeps_drained = False
            await self._make_job(source, target)
        finally:
            target.references -= 1
            await self.graph.release(target)

    async def _open_target(self, source: Node) -> Node:
        arguments = self.arguments
        creates = arguments.get("mode", "absolute-paths") != "existing"
        image_format: str | None = arguments.get("format")
        if image_format is None and creates:
            image_format = source.driver.format_name
        below: Node | None = None
        if arguments["sync"] == "top":
            below = skip_filters(source).backing
            if below is None:
                # Nothing is below the top: all of it is the top.
                self.arguments = {**arguments, "sync": "full"}
        elif arguments["sync"] == "none":
            below = source
        filename: str = arguments["target"]
        if creates:
            assert image_format is not None
            await create_image(self.graph, filename, image_format, source.size_bytes, below)
        options = describe_image(self.graph, filename, image_format, source)
        options |= {"discard": "unmap", "detect-zeroes": "unmap"}
        if arguments["sync"] == "none":
            options["backing"] = None
        return await self.graph.open(options)
