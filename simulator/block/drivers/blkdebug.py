"""Driver `blkdebug`: a filter that fails requests by rules, or stops them at breakpoints. Source:
block/blkdebug.c, 7.2."""

from __future__ import annotations

from errno import EIO, ENOENT, ENOTSUP
from os import strerror

from simulator.block import granting, permissions
from simulator.block.driver import MAY_UNMAP, NO_FALLBACK, STATUS_OFFSET_VALID, STATUS_RAW, Driver
from simulator.block.drivers import blkdebug_limits
from simulator.block.errors import QmpError
from simulator.engine.task import Future, WaitQueue
from simulator.wire.qdict import in_order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.driver import DriverStatus
    from simulator.block.node import Edge

_SECTOR_BYTES = 512
# BlkdebugEvent: those that this block layer tells of. `none` is the opening of the node itself.
EVENTS = (
    "none", "pwritev", "pwritev_zero", "pwritev_done", "read_aio", "write_aio", "read_backing_aio",
    "l1_update", "l2_alloc_write", "flush_to_os", "flush_to_disk", "l2_load", "l2_update",
    "l2_update_compressed", "l2_alloc_cow_read", "read_compressed", "write_compressed", "cow_read",
    "refblock_load", "refblock_update_part", "cluster_alloc", "cluster_alloc_bytes", "cluster_alloc_space",
    "cor_write",
)  # fmt: skip
# BlkdebugEvent: all the others.
_OTHER_EVENTS = (
    "l1_grow_alloc_table", "l1_grow_write_table", "l1_grow_activate_table", "vmstate_load", "vmstate_save",
    "cow_write", "reftable_load", "reftable_grow", "reftable_update", "refblock_update", "refblock_alloc",
    "refblock_alloc_hookup", "refblock_alloc_write", "refblock_alloc_write_blocks",
    "refblock_alloc_write_table", "refblock_alloc_switch_table", "cluster_free", "pwritev_rmw_head",
    "pwritev_rmw_after_head", "pwritev_rmw_tail", "pwritev_rmw_after_tail", "empty_image_prepare",
    "l1_shrink_write_table", "l1_shrink_free_l2_clusters",
)  # fmt: skip
# BlkdebugIOType; a rule that names none is for all but the last.
_IO_TYPES = ("read", "write", "write-zeroes", "discard", "flush", "block-status")
_LISTS = ("inject-error", "set-state")
# Of both, as the schema has them.
_MEMBERS = ("event", "state", "new_state", "iotype", "errno", "sector", "once", "immediately")
_BITS = {name.replace(" ", "-"): bit for bit, name in permissions.NAMES}
_BITS["graph-mod"] = permissions.GRAPH_MOD


class _Rule:
    """One entry of `inject-error` or, with a `new_state`, of `set-state`. `state` 0 is any."""

    __slots__ = ("errno", "immediately", "io_types", "new_state", "offset", "once", "state")

    def __init__(self, given: dict[str, Any]) -> None:
        self.state: int = given.get("state", 0)
        self.new_state: int | None = given.get("new_state")
        self.errno: int = given.get("errno", EIO)
        self.io_types = (given["iotype"],) if "iotype" in given else _IO_TYPES[:-1]
        sector: int = given.get("sector", -1)
        self.offset = -1 if sector == -1 else sector * _SECTOR_BYTES
        self.once: bool = given.get("once", False)
        self.immediately: bool = given.get("immediately", False)

    def concerns(self, io_type: str, offset: int, length: int) -> bool:
        return io_type in self.io_types and (self.offset == -1 or offset <= self.offset < offset + length)


class _Suspended:
    """A request that stopped at a breakpoint. `waits`: one for each breakpoint that it stopped at with this
    event; whichever of their tags is resumed ends the next of these waits."""

    __slots__ = ("tag", "waits")

    def __init__(self, tag: str, waits: list[Future]) -> None:
        self.tag, self.waits = tag, waits


class Blkdebug(Driver):
    """Options `inject-error` and `set-state` (lists), `take-child-perms`, `unshare-child-perms`.

    `state` counts from 1. Rules become active when their event happens in their state, and stay so until an
    event makes others active. Breakpoints are set from outside and are used up by the request that stops.
    """

    format_name = "blkdebug"
    is_filter = True
    hears_events = names_files = True
    children = (("image", permissions.FILTERED | permissions.PRIMARY, True),)
    strong_options = ("inject-error", "set-state", *blkdebug_limits.NAMES)
    size_options = blkdebug_limits.NAMES

    _taken = _unshared = 0

    async def open(self, options: dict[str, Any]) -> None:
        if "config" in options:
            raise QmpError("Option 'config' of blkdebug is not simulated")
        self._limits = blkdebug_limits.Limits(options, self.file.node.driver.request_alignment)
        self._taken = _bits(options.get("take-child-perms", ()))
        self._unshared = _bits(options.get("unshare-child-perms", ()))
        self._rules: dict[str, list[_Rule]] = {}  # newest first
        self._active: list[_Rule] = []
        self._breakpoints: list[tuple[str, str]] = []  # (event, tag), newest first
        self._suspended: list[_Suspended] = []  # newest first
        self._suspension = WaitQueue("a request to stop at a breakpoint")
        self.state = 1
        for given in [*options.get("inject-error", ()), *options.get("set-state", ())]:
            if given["event"] not in EVENTS:
                raise _not_simulated(given["event"])
            self._rules.setdefault(given["event"], []).insert(0, _Rule(given))
        self.node.size_bytes = self.file.node.size_bytes
        if self._taken or self._unshared:
            granting.refresh([self.node])
        await self.event("none")
        for name in _LISTS:
            if options.get(name) == []:
                # Nothing is left of an empty list when QEMU's option strings are made lists again.
                raise QmpError(f"Block protocol 'blkdebug' doesn't support the option '{name}'")

    @property
    def file(self) -> Edge:
        return self.node.children["image"]

    @property
    def request_alignment(self) -> int:  # type: ignore[override]
        return self._limits.align

    def child_permissions(self, name: str, role: int, perm: int, shared: int) -> tuple[int, int]:
        needed, kept = super().child_permissions(name, role, perm, shared)
        return needed | self._taken, kept & ~self._unshared

    # -- rules
    async def event(self, name: str) -> None:
        state = new_state = self.state
        renewed = False
        for rule in self._rules.get(name, ()):
            if rule.state not in (0, state):
                continue
            if rule.new_state is not None:
                new_state = rule.new_state
                continue
            if not renewed:
                renewed = True
                self._active = []
            self._active.insert(0, rule)
        self.state = new_state
        if self._breakpoints:
            await self._stop_at(name)

    # -- breakpoints
    async def _stop_at(self, event: str) -> None:
        tags = [tag for of, tag in self._breakpoints if of == event]
        waits = [Future(f"blkdebug to resume request '{tag}'") for tag in tags]
        self._breakpoints = [each for each in self._breakpoints if each[0] != event]
        for tag in tags:
            self._suspended.insert(0, _Suspended(tag, waits))
            self.node.graph.printed.append(f"blkdebug: Suspended request '{tag}'\n")
        self._suspension.wake_all()
        for wait in list(waits):
            await wait

    def set_breakpoint(self, event: str, tag: str) -> None:
        """Raises OSError for an event that QEMU does not have, QmpError for one that is not simulated."""
        if event in _OTHER_EVENTS:
            raise _not_simulated(event)
        if event not in EVENTS:
            raise OSError(ENOENT, strerror(ENOENT))
        self._breakpoints.insert(0, (event, tag))

    def remove_breakpoint(self, tag: str) -> None:
        """And resume all that stopped there. Raises OSError if no breakpoint was left, even if a request was
        resumed (blkdebug_debug_remove_breakpoint)."""
        kept = [each for each in self._breakpoints if each[1] != tag]
        removed = len(self._breakpoints) - len(kept)
        self._breakpoints = kept
        while self.is_suspended(tag):
            self.resume(tag)
        if not removed:
            raise OSError(ENOENT, strerror(ENOENT))

    def resume(self, tag: str) -> None:
        """The request that stopped last with this tag. Raises OSError if there is none."""
        for suspended in self._suspended:
            if suspended.tag == tag:
                self.node.graph.printed.append(f"blkdebug: Resuming request '{tag}'\n")
                self._suspended.remove(suspended)
                suspended.waits.pop(0).set_result()
                return
        raise OSError(ENOENT, strerror(ENOENT))

    def is_suspended(self, tag: str) -> bool:
        return any(suspended.tag == tag for suspended in self._suspended)

    async def until_suspended(self, tag: str) -> None:
        while not self.is_suspended(tag):
            await self._suspension.wait()

    async def _check(self, io_type: str, offset: int = 0, length: int = 0) -> None:
        """Raises OSError if the request is to fail."""
        for rule in self._active:
            if rule.concerns(io_type, offset, length):
                break
        else:
            return
        if not rule.errno:
            return
        if rule.once:
            self._active.remove(rule)
            for rules in self._rules.values():
                if rule in rules:
                    rules.remove(rule)
        if not rule.immediately:
            await self.node.graph.scheduler.rescheduled()
        raise OSError(rule.errno, strerror(rule.errno))

    # -- requests
    async def read(self, offset: int, length: int) -> bytes:
        start, whole = self._limits.around(offset, length)
        pieces = []
        for at, size in self._limits.transfers(start, whole):
            await self._check("read", at, size)
            pieces.append(await self.file.read(at, size))
        if (start, whole) == (offset, length) and len(pieces) == 1:
            return pieces[0]
        return b"".join(pieces)[offset - start : offset - start + length]

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        start, whole = self._limits.around(offset, len(payload))
        if whole != len(payload):
            # Read, and written with what is around it (bdrv_padding_rmw_read).
            around = await self.read(start, whole)
            payload = around[: offset - start] + payload + around[offset - start + len(payload) :]
        for at, size in self._limits.transfers(start, whole):
            await self._check("write", at, size)
            await self.file.write(at, payload[at - start : at - start + size], flags)

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        for at, size, is_whole in self._limits.zeroes(offset, length):
            if is_whole:
                await self._check("write-zeroes", at, size)
                await self.file.write_zeroes(at, size, flags)
            elif flags & NO_FALLBACK:
                raise OSError(ENOTSUP, strerror(ENOTSUP))
            else:
                await self.write(at, bytes(size), flags & ~MAY_UNMAP)

    async def discard(self, offset: int, length: int) -> None:
        for at, size in self._limits.discards(offset, length):
            await self._check("discard", at, size)
            await self.file.discard(at, size)

    async def flush_to_disk(self) -> None:
        await self._check("flush")

    async def block_status(self, offset: int, length: int, want_zero: bool) -> DriverStatus:
        await self._check("block-status", offset, length)
        return length, STATUS_RAW | STATUS_OFFSET_VALID, self.file, offset

    # -- what others may ask
    @property
    def filename(self) -> str:
        below = self.file.node.driver.filename
        return f"blkdebug::{below}" if below and not self.strong_values() else ""

    def strong_values(self) -> dict[str, Any]:
        """Lists as they stand in flat options, in the order in which QEMU comes to them."""
        options = self.node.options
        flat = {
            f"{name}.{index}.{key}": given[key]
            for name in _LISTS
            for index, given in enumerate(options.get(name, ()))
            for key in in_order(each for each in _MEMBERS if each in given)
        }
        limits = {name: options[name] for name in blkdebug_limits.NAMES if name in options}
        return {name: flat[name] for name in in_order(flat)} | limits

    def limits(self) -> dict[str, int]:
        return self._limits.told()


def _not_simulated(event: str) -> QmpError:
    return QmpError(f"Event '{event}' of blkdebug is not simulated")


def _bits(names: Any) -> int:
    return sum(_BITS[name] for name in dict.fromkeys(names))
