"""Methods of the simulator with a bug in each, made of the right ones; bugs.py says what each is for."""

from __future__ import annotations

from typing import Any

from simulator.block.block_copy import BlockCopyState
from simulator.block.drivers.copy_before_write import CopyBeforeWrite
from simulator.block.drivers.qcow2 import Qcow2
from simulator.block.nbd.server import NbdConnection
from simulator.block.node import Node
from simulator.block.request import Request
from simulator.engine.task import interleave
from simulator.jobs.actions.backup import BlockdevBackup
from simulator.jobs.backup import BackupJob
from simulator.jobs.block_job import BlockJob
from simulator.jobs.job import Job

# ---------------------------------------------------------------- copy before write


def copies_too_late(original: Any) -> Any:
    async def write(self: CopyBeforeWrite, offset: int, payload: bytes, flags: int) -> None:
        await self.file.write(offset, payload, flags)
        await self._copy_before(offset, len(payload), flags)

    return write


def skips_last_cluster(original: Any) -> Any:
    async def copy_before(self: CopyBeforeWrite, offset: int, length: int, flags: int) -> None:
        whole = self.node.size_bytes - self.node.size_bytes % self.copy_state.cluster_bytes
        end = min(offset + length, whole)
        if offset < end:
            await original(self, offset, end - offset, flags)

    return copy_before


def copies_first_cluster_only(original: Any) -> Any:
    async def copy_before(self: CopyBeforeWrite, offset: int, length: int, flags: int) -> None:
        unit = self.copy_state.cluster_bytes
        await original(self, offset, min(length, unit - offset % unit), flags)

    return copy_before


def discards_at_once(original: Any) -> Any:
    async def discard(self: CopyBeforeWrite, offset: int, length: int) -> None:
        await self.file.discard(offset, length)

    return discard


def zeroes_at_once(original: Any) -> Any:
    async def write_zeroes(self: CopyBeforeWrite, offset: int, length: int, flags: int) -> None:
        await self.file.write_zeroes(offset, length, flags)

    return write_zeroes


def ignores_what_is_copied(original: Any) -> Any:
    def lock(self: CopyBeforeWrite, offset: int, end: int) -> Any:
        return self.file, self._frozen.add(offset, end - offset), end - offset

    return lock


def does_not_freeze(original: Any) -> Any:
    def lock(self: CopyBeforeWrite, offset: int, end: int) -> Any:
        edge, frozen, length = original(self, offset, end)
        if frozen is not None:
            self._frozen.remove(frozen)
        return edge, None, length

    return lock


def copies_without_serialising(original: Any) -> Any:
    def init(self: BlockCopyState, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        self._write_flags = 0

    return init


# ---------------------------------------------------------------- requests


def does_not_wait(original: Any) -> Any:
    async def wait(self: Request, requests: Any, request_done: Any) -> None:
        return None

    return wait


def zeroes_leave_no_mark(original: Any) -> Any:
    async def write_zeroes(self: Node, offset: int, length: int, flags: int = 0) -> None:
        recording = [bitmap for bitmap in self.bitmaps if bitmap.name is not None and bitmap.enabled]
        for bitmap in recording:
            bitmap.enabled = False
        try:
            await original(self, offset, length, flags)
        finally:
            for bitmap in recording:
                bitmap.enabled = True

    return write_zeroes


def writes_short(original: Any) -> Any:
    async def write(self: Qcow2, offset: int, payload: bytes, flags: int) -> None:
        short = payload[:-512] if len(payload) > (self.cluster_bytes or 0) else payload
        await original(self, offset, short, flags)

    return write


# ---------------------------------------------------------------- jobs and transactions


def abort_leaves_the_job(original: Any) -> Any:
    async def abort(self: BlockdevBackup) -> None:
        return None

    return abort


def abort_forgets(original: Any) -> Any:
    async def abort(self: Any) -> None:
        return None

    return abort


def lets_go_early(original: Any) -> Any:
    async def prepare(self: BlockdevBackup) -> None:
        await original(self)
        source, self._source = self._source, None
        if source is not None:
            source.drained_end()
        for _ in range(20):
            await interleave()

    return prepare


def leaves_the_filter(original: Any) -> Any:
    async def clean(self: BackupJob) -> None:
        await self.remove_all_nodes()

    return clean


def ends_twice(original: Any) -> Any:
    def announce_cancelled(self: BlockJob) -> None:
        original(self)
        original(self)

    return announce_cancelled


def stays_concluded(original: Any) -> Any:
    async def end(self: Job) -> None:
        if self.job_type == "backup":
            self.auto_dismiss = False
        await original(self)

    return end


def progress_as_text(original: Any) -> Any:
    def job_info(self: Job) -> dict[str, Any]:
        return {**original(self), "current-progress": str(self.progress.current)}

    return job_info


# ---------------------------------------------------------------- NBD


def does_not_see_it_go(original: Any) -> Any:
    def receive_eof(self: NbdConnection) -> None:
        if self.in_flight:
            self.in_flight += 1
        original(self)

    return receive_eof
