"""block-dirty-bitmap-* in a transaction: each takes effect in prepare and is taken back by abort.

Source: block_dirty_bitmap_*_prepare, blockdev.c:1990-2230, 7.2.
"""

from __future__ import annotations

from simulator.jobs import dirty_bitmaps
from simulator.jobs.actions.action import Action

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.bitmap import DirtyBitmap
    from simulator.block.extents import ExtentMap
    from simulator.jobs.registry import Jobs
    from simulator.jobs.txn import JobTxn


_SEGMENTATION_FAULT = -11


class _BitmapAction(Action):
    """`bitmap` is None until prepare has found or made it."""

    def __init__(self, kind: str, arguments: dict[str, Any], jobs: Jobs, txn: JobTxn | None) -> None:
        super().__init__(kind, arguments, jobs, txn)
        self.bitmap: DirtyBitmap | None = None


class BitmapAdd(_BitmapAction):
    async def prepare(self) -> None:
        self.bitmap = dirty_bitmaps.add(self.graph, self.arguments)

    async def abort(self) -> None:
        if self.bitmap is not None:
            self.bitmap.release()


class _Restorable(_BitmapAction):
    """Remembers what the bitmap held."""

    def __init__(self, kind: str, arguments: dict[str, Any], jobs: Jobs, txn: JobTxn | None) -> None:
        super().__init__(kind, arguments, jobs, txn)
        self.before: ExtentMap | None = None

    async def abort(self) -> None:
        if self.bitmap is not None and self.before is not None:
            self.bitmap.restore(self.before)


class BitmapClear(_Restorable):
    async def prepare(self) -> None:
        self.bitmap = dirty_bitmaps.lookup_usable(self.graph, self.arguments)
        self.before = self.bitmap.clear()


class BitmapMerge(_Restorable):
    async def prepare(self) -> None:
        self.bitmap, self.before = dirty_bitmaps.merge(self.graph, self.arguments)


class _Switch(_BitmapAction):
    """`_was_enabled` is false until prepare has come to look, and abort goes by that alone."""

    to = False

    def __init__(self, kind: str, arguments: dict[str, Any], jobs: Jobs, txn: JobTxn | None) -> None:
        super().__init__(kind, arguments, jobs, txn)
        self._was_enabled = False

    async def prepare(self) -> None:
        self.bitmap = dirty_bitmaps.lookup(self.graph, self.arguments["node"], self.arguments["name"])
        self.bitmap.check(readonly=False)
        self._was_enabled = self.bitmap.enabled
        self.bitmap.enabled = self.to


class BitmapEnable(_Switch):
    to = True

    async def abort(self) -> None:
        """block_dirty_bitmap_enable_abort, blockdev.c:2094, 7.2: it does not look for a bitmap
        (BlockRules.lost_bitmap_ends_abort)."""
        if self._was_enabled:
            return
        if self.bitmap is None:
            if self.graph.rules.lost_bitmap_ends_abort:
                await self.graph.end_process(_SEGMENTATION_FAULT, "")
        else:
            self.bitmap.enabled = False


class BitmapDisable(_Switch):
    async def abort(self) -> None:
        if self._was_enabled and self.bitmap is not None:
            self.bitmap.enabled = True


class BitmapRemove(_BitmapAction):
    """From prepare on nobody else can use the bitmap, and it is not stored; commit lets go of it."""

    async def prepare(self) -> None:
        self.bitmap = await dirty_bitmaps.remove_stored(self.graph, self.arguments)
        self.bitmap.skip_store = True
        self.bitmap.busy = True

    async def commit(self) -> None:
        assert self.bitmap is not None
        self.bitmap.busy = False
        self.bitmap.release()

    async def abort(self) -> None:
        if self.bitmap is not None:
            self.bitmap.skip_store = False
            self.bitmap.busy = False
