"""Driver `blkdebug`: a filter that fails requests by rules. Source: block/blkdebug.c, 7.2."""

from __future__ import annotations

from errno import EIO
from os import strerror

from simulator.block import permissions
from simulator.block.driver import STATUS_OFFSET_VALID, STATUS_RAW, Driver
from simulator.block.errors import QmpError
from simulator.engine.task import interleave

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.driver import DriverStatus
    from simulator.block.node import Edge

_SECTOR_BYTES = 512
# BlkdebugEvent: those that this block layer tells of. `none` is the opening of the node itself.
EVENTS = ("none", "pwritev", "pwritev_zero", "pwritev_done", "read_aio", "write_aio", "read_backing_aio")
# BlkdebugIOType; a rule that names none is for all but the last.
_IO_TYPES = ("read", "write", "write-zeroes", "discard", "flush", "block-status")
_NOT_SIMULATED = (
    "config", "align", "max-transfer", "opt-write-zero", "max-write-zero", "opt-discard", "max-discard",
)  # fmt: skip
_BITS = {name.replace(" ", "-"): bit for bit, name in permissions.NAMES}


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


class Blkdebug(Driver):
    """Options `inject-error` and `set-state` (lists), `take-child-perms`, `unshare-child-perms`.

    `state` counts from 1. Rules become active when their event happens in their state, and stay so until an
    event makes others active.
    """

    format_name = "blkdebug"
    is_filter = True
    hears_events = True
    children = (("image", permissions.FILTERED | permissions.PRIMARY, True),)
    strong_options = ("inject-error", "set-state")

    _taken = _unshared = 0

    async def open(self, options: dict[str, Any]) -> None:
        for name in _NOT_SIMULATED:
            if name in options:
                raise QmpError(f"Option '{name}' of blkdebug is not simulated")
        self._taken = _bits(options.get("take-child-perms", ()))
        self._unshared = _bits(options.get("unshare-child-perms", ()))
        self._rules: dict[str, list[_Rule]] = {}  # newest first
        self._active: list[_Rule] = []
        self.state = 1
        for given in [*options.get("inject-error", ()), *options.get("set-state", ())]:
            if given["event"] not in EVENTS:
                raise QmpError(f"Event '{given['event']}' of blkdebug is not simulated")
            self._rules.setdefault(given["event"], []).insert(0, _Rule(given))
        self.node.size_bytes = self.file.node.size_bytes
        if self._taken or self._unshared:
            permissions.refresh([self.node])
        self.event("none")
        for name in self.strong_options:
            if options.get(name) == []:
                # Nothing is left of an empty list when QEMU's option strings are made lists again.
                raise QmpError(f"Block protocol 'blkdebug' doesn't support the option '{name}'")

    @property
    def file(self) -> Edge:
        return self.node.children["image"]

    def child_permissions(self, name: str, role: int, perm: int, shared: int) -> tuple[int, int]:
        needed, kept = super().child_permissions(name, role, perm, shared)
        return needed | self._taken, kept & ~self._unshared

    # -- rules
    def event(self, name: str) -> None:
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
            await interleave()
        raise OSError(rule.errno, strerror(rule.errno))

    # -- requests
    async def read(self, offset: int, length: int) -> bytes:
        await self._check("read", offset, length)
        return await self.file.read(offset, length)

    async def write(self, offset: int, payload: bytes, flags: int) -> None:
        await self._check("write", offset, len(payload))
        await self.file.write(offset, payload, flags)

    async def write_zeroes(self, offset: int, length: int, flags: int) -> None:
        await self._check("write-zeroes", offset, length)
        await self.file.write_zeroes(offset, length, flags)

    async def discard(self, offset: int, length: int) -> None:
        await self._check("discard", offset, length)
        await self.file.discard(offset, length)

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
        """Lists as they stand in a flat option string."""
        return {
            f"{name}.{index}.{key}": value
            for name in self.strong_options
            for index, given in enumerate(self.node.options.get(name, ()))
            for key, value in given.items()
        }


def _bits(names: Any) -> int:
    return sum(_BITS[name] for name in dict.fromkeys(names))
