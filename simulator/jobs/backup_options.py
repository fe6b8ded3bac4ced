"""The arguments that blockdev-backup and drive-backup share, checked in QEMU's order and words.

Source: do_backup_common, blockdev.c:2795, 7.2.
"""

from __future__ import annotations

from simulator.block.bitmap import find_bitmap
from simulator.block.errors import QmpError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.bitmap import DirtyBitmap
    from simulator.block.node import Node


class BackupOptions:
    """`sync` is full, top, none or bitmap (incremental is bitmap with mode on-success). `bitmap` is on the
    source; `bitmap_mode` says what becomes of it and is None without one. `max_chunk_bytes` 0 means no
    limit."""

    __slots__ = (
        "auto_dismiss", "auto_finalize", "bitmap", "bitmap_mode", "compress", "discard_source",
        "filter_node_name", "job_id",
        "max_chunk_bytes", "max_workers", "min_cluster_bytes", "on_cbw_error", "on_source_error",
        "on_target_error", "speed_bytes_per_s", "sync",
    )  # fmt: skip

    def __init__(self, source: Node, arguments: dict[str, Any]) -> None:
        """Raises QmpError."""
        self.job_id: str | None = arguments.get("job-id")
        self.speed_bytes_per_s: int = arguments.get("speed", 0)
        self.on_source_error: str = arguments.get("on-source-error", "report")
        self.on_target_error: str = arguments.get("on-target-error", "report")
        self.on_cbw_error: str | None = arguments.get("on-cbw-error")
        self.auto_finalize: bool = arguments.get("auto-finalize", True)
        self.auto_dismiss: bool = arguments.get("auto-dismiss", True)
        self.compress: bool = arguments.get("compress", False)
        self.discard_source: bool = arguments.get("discard-source", False)
        self.filter_node_name: str | None = arguments.get("filter-node-name")
        perf: dict[str, Any] = arguments.get("x-perf", {})
        self.max_workers: int = perf.get("max-workers", 64)
        self.max_chunk_bytes: int = perf.get("max-chunk", 0)
        self.min_cluster_bytes: int = perf.get("min-cluster-size", 0)
        self.sync: str = arguments["sync"]
        self.bitmap_mode: str | None = arguments.get("bitmap-mode")
        self.bitmap: DirtyBitmap | None = None
        self._check_sync(arguments.get("bitmap"))
        self._find_bitmap(source, arguments.get("bitmap"))

    def _check_sync(self, bitmap_name: str | None) -> None:
        if self.sync in ("bitmap", "incremental") and bitmap_name is None:
            raise QmpError(f"must provide a valid bitmap name for '{self.sync}' sync mode")
        if self.sync == "incremental":
            if self.bitmap_mode not in (None, "on-success"):
                raise QmpError("Bitmap sync mode must be 'on-success' when using sync mode 'incremental'")
            self.sync, self.bitmap_mode = "bitmap", "on-success"

    def _find_bitmap(self, source: Node, bitmap_name: str | None) -> None:
        if bitmap_name is None:
            if self.bitmap_mode is not None:
                raise QmpError("Cannot specify bitmap sync mode without a bitmap")
            return
        self.bitmap = find_bitmap(source, bitmap_name)
        if self.bitmap is None:
            raise QmpError(f"Bitmap '{bitmap_name}' could not be found")
        if self.bitmap_mode is None:
            raise QmpError("Bitmap sync mode must be given when providing a bitmap")
        self.bitmap.check(readonly=False)
        if self.sync == "none":
            raise QmpError("sync mode 'none' does not produce meaningful bitmap outputs")
        if self.bitmap_mode == "never" and self.sync != "bitmap":
            raise QmpError(
                "Bitmap sync mode 'never' has no meaningful effect when combined with sync mode "
                f"'{self.sync}'"
            )
