"""Filters that jobs put on a chain, above a node that is their `backing` child (filtered_child_is_backing).

They are made by `append_filter` of simulator/jobs/backing.py only; no user can open one.
"""

from __future__ import annotations

from simulator.block.driver import Driver

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.node import Edge


class BackingFilter(Driver):
    """Passes everything to its one child, and is called as that. `is_commit`: layers below are written to by
    the filter's own job."""

    can_reopen = False
    is_filter = True
    children = ()
    is_commit = False

    @property
    def file(self) -> Edge:
        return self.node.children["backing"]

    @property
    def filename(self) -> str:
        return self.file.node.filename

    def actual_size_bytes(self) -> int | None:
        return self.file.node.driver.actual_size_bytes()

    @property
    def unmaps_zeroes(self) -> bool:
        return False
