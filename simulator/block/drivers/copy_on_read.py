"""Driver `copy-on-read`: a filter that lets its file keep what is read from layers below it.

Source: block/copy-on-read.c, 7.2. A stream job puts one above its node.
"""

from __future__ import annotations

from simulator.block import chain, permissions
from simulator.block.driver import Driver
from simulator.block.errors import QmpError
from simulator.block.opening import CRASHED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.node import Node

_PASSED_ON = permissions.CONSISTENT_READ | permissions.WRITE | permissions.RESIZE


class CopyOnRead(Driver):
    """Option `bottom`: the lowest layer that is copied from; without it, from all."""

    format_name = "copy-on-read"
    can_reopen = False
    is_filter = length_is_variable = True
    supports_compressed_writes = True  # of what is below, at most

    _bottom: Node | None = None
    _frozen = False

    async def open(self, options: dict[str, Any]) -> None:
        await super().open(options)
        if "bottom" not in options:
            return
        bottom = self.node.graph.nodes.get(options["bottom"])
        if bottom is None:
            raise QmpError(f"Bottom node '{options['bottom']}' not found")
        if bottom.driver.is_filter:
            raise QmpError(f"Bottom node '{bottom.node_name}' is a filter")
        chain.freeze(self.node, bottom)
        self._bottom, self._frozen = bottom, True
        bottom.references += 1

    def let_go(self) -> None:
        """The links down to the bottom may change again."""
        if self._frozen:
            assert self._bottom is not None
            self._frozen = False
            chain.unfreeze(self.node, self._bottom)

    async def close(self) -> None:
        self.let_go()
        if self._bottom is not None:
            bottom, self._bottom = self._bottom, None
            bottom.references -= 1
            await self.node.graph.release(bottom)

    def child_permissions(self, name: str, role: int, perm: int, shared: int) -> tuple[int, int]:
        needed = perm & _PASSED_ON
        if not self.node.inactive:
            needed |= permissions.WRITE_UNCHANGED
        return needed, shared & _PASSED_ON | permissions.WRITE_UNCHANGED | permissions.GRAPH_MOD

    # -- requests
    async def read(self, offset: int, length: int) -> bytes:
        return await self._read(offset, length, wanted=True)

    async def populate(self, offset: int, length: int) -> None:
        """Copy only (BDRV_REQ_PREFETCH). Raises OSError."""
        self.node.in_flight += 1
        try:
            await self._read(offset, length, wanted=False)
        finally:
            self.node.in_flight -= 1
            if not self.node.in_flight:
                self.node.graph.progress()

    async def _read(self, offset: int, length: int, wanted: bool) -> bytes:
        below = self.file.node
        if self._bottom is None:
            return await below.copy_on_read(offset, length, wanted)
        pieces: list[bytes] = []
        end = offset + length
        while offset < end:
            copies, count = await self._is_only_below(below, offset, end - offset)
            if not count:
                break
            if copies:
                pieces.append(await below.copy_on_read(offset, count, wanted))
            elif wanted:
                pieces.append(await below.read(offset, count))
            offset += count
        return b"".join(pieces) + bytes(end - offset) if wanted else b""

    async def _is_only_below(self, below: Node, offset: int, length: int) -> tuple[bool, int]:
        """(whether the start of the range must be copied, bytes of which that is true). What cannot be told
        is copied."""
        try:
            here, length = await chain.is_allocated(below, offset, length)
            if here:
                return False, length
        except OSError:
            pass
        layer = chain.next_in_chain(below)
        if layer is None:
            # Nobody looks whether there is one (cor_co_preadv_part; observed on 7.2.22, 10.0.13, 11.1.3).
            await self.node.graph.end_process(CRASHED, "Segmentation fault")
        assert layer is not None
        try:
            return await chain.is_allocated_above(layer, self._bottom, offset, length)
        except OSError:
            return True, length
