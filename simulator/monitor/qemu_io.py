"""qemu-io's commands as HMP runs them on a drive, a node or a device (qemu-io-cmds.c, 7.2).

Output is what QEMU prints on its standard output.
"""

from __future__ import annotations

from contextlib import suppress
from errno import ENOMEDIUM, ENOTSUP
from os import strerror

from simulator.block import accounting, permissions
from simulator.block.driver import STATUS_ALLOCATED
from simulator.block.errors import QmpError
from simulator.block.resize import resize
from simulator.block.status import status_above
from simulator.monitor import qemu_io_breakpoints as breakpoints
from simulator.monitor import qemu_io_nodes as nodes
from simulator.monitor.qemu_io_requests import (
    Injected,
    Read,
    Usage,
    Write,
    human_size,
    parse_number,
    parse_options,
    range_of,
    reported,
    usage_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from simulator.block.backend import BlockBackend

    _Command = Callable[["BlockBackend", list[str]], Coroutine[Any, Any, str]]


async def _read(blk: BlockBackend, arguments: list[str]) -> str:
    return await Read(arguments, "bCpqv", "lPs", usage_of("read")).run(blk)


async def _readv(blk: BlockBackend, arguments: list[str]) -> str:
    return await Read(arguments, "Cqv", "P", usage_of("readv")).run(blk)


async def _write(blk: BlockBackend, arguments: list[str]) -> str:
    request = Write(arguments, "bcCfnpquz", usage_of("write"))
    request.check_sectors()
    if "b" in request.options:
        # What is in a machine's state is nothing for anybody to write.
        raise OSError(ENOTSUP, "not supported")
    return await request.run(blk)


async def _writev(blk: BlockBackend, arguments: list[str]) -> str:
    return await Write(arguments, "Cfq", usage_of("writev")).run(blk)


async def _discard(blk: BlockBackend, arguments: list[str]) -> str:
    options, operands = parse_options(arguments, "Cq", "", usage_of("discard"))
    offset, length = range_of(operands, usage_of("discard"))
    await blk.discard(offset, length)
    return reported("discard", options, offset, length)


async def _flush(blk: BlockBackend, arguments: list[str]) -> str:
    """Says nothing, not even when it fails (flush_f)."""
    with suppress(OSError):
        await blk.flush()
    return ""


async def _aio_flush(blk: BlockBackend, arguments: list[str]) -> str:
    """Waits for all requests under way, but flushes nothing, which is counted as a flush (aio_flush_f)."""
    await blk.accounting.count(accounting.FLUSH, 0, _wait_for_all(blk))
    return ""


async def _wait_for_all(blk: BlockBackend) -> None:
    async with blk.graph.drained_all():
        pass


async def _length(blk: BlockBackend, arguments: list[str]) -> str:
    node = blk.node
    return human_size(node.size_bytes if node is not None else 0) + "\n"


async def _truncate(blk: BlockBackend, arguments: list[str]) -> str:
    _, operands = parse_options(arguments, "", "m", usage_of("truncate"))
    if len(operands) != 1:
        raise Usage(usage_of("truncate"))
    size = parse_number(operands[0])
    if blk.node is None:
        raise OSError(ENOMEDIUM, "no medium")
    await resize(blk.graph, blk.node, size)
    return ""


async def _map(blk: BlockBackend, arguments: list[str]) -> str:
    """Each run that this layer, not what is below it, holds or does not hold (map_f)."""
    node = blk.node
    if node is None:
        raise OSError(ENOMEDIUM, "no medium")
    runs: list[tuple[int, int, bool]] = []
    at = 0
    while at < node.size_bytes:
        flags, length, _ = await status_above(
            node, node, at, node.size_bytes - at, want_zero=False, include_base=True
        )
        allocated = bool(flags & STATUS_ALLOCATED)
        if runs and runs[-1][2] == allocated:
            offset, before, _ = runs.pop()
            runs.append((offset, before + length, allocated))
        else:
            runs.append((at, length, allocated))
        at += length
    words = {True: "    allocated", False: "not allocated"}
    return "".join(
        f"{human_size(length)} ({length:#x}) bytes {words[allocated]} at offset "
        f"{human_size(offset)} ({offset:#x})\n"
        for offset, length, allocated in runs
    )


class _Entry:
    """A command: what runs it, the permissions it takes and keeps, the word of its failures, how many
    arguments it wants (`most` None: any number)."""

    def __init__(
        self, command: _Command, permission: int, word: str, least: int = 0, most: int | None = 0
    ) -> None:
        self.command, self.permission, self.word = command, permission, word
        self.least, self.most = least, most


_WRITE, _RESIZE = permissions.WRITE, permissions.WRITE | permissions.RESIZE
_COMMANDS = {
    "read": _Entry(_read, 0, "read", 2, None),
    "readv": _Entry(_readv, 0, "read", 2, None),
    "write": _Entry(_write, _WRITE, "write", 2, None),
    "writev": _Entry(_writev, _WRITE, "writev", 2, None),
    "discard": _Entry(_discard, _WRITE, "discard", 2, None),
    "flush": _Entry(_flush, 0, "flush"),
    "length": _Entry(_length, 0, "length"),
    "map": _Entry(_map, 0, "map"),
    "truncate": _Entry(_truncate, _RESIZE, "truncate", 1, 3),
    "info": _Entry(nodes.info, 0, "info"),
    "reopen": _Entry(nodes.reopen, 0, "reopen", 0, None),
    "aio_flush": _Entry(_aio_flush, 0, "aio_flush"),
    "break": _Entry(breakpoints.set_breakpoint, 0, "break", 2, 2),
    "remove_break": _Entry(breakpoints.remove_breakpoint, 0, "remove_break", 1, 1),
    "resume": _Entry(breakpoints.resume, 0, "resume", 1, 1),
    "wait_break": _Entry(breakpoints.wait_for, 0, "wait_break", 1, 1),
    "sleep": _Entry(breakpoints.sleep, 0, "sleep", 1, 1),
}
_SHORT = {"r": "read", "w": "write", "d": "discard", "f": "flush", "l": "length", "t": "truncate"}
_SHORT["i"] = "info"

# name -> (how its request is read from its arguments, permission, the word of its failures)
_BACKGROUND: dict[str, tuple[Callable[[list[str]], Read | Write], int, str]] = {
    "aio_read": (lambda arguments: Read(arguments, "Ciqv", "P", usage_of("aio_read")), 0, "readv"),
    "aio_write": (lambda arguments: Write(arguments, "Cfiquz", usage_of("aio_write")), _WRITE, "aio_write"),
}


def _count_problem(name: str, count: int, least: int, most: int | None) -> str:
    """Empty if the number of arguments will do (qemu-io-cmds.c:command, 7.2)."""
    if count >= least and (most is None or count <= most):
        return ""
    if most is None:
        wanted = f"at least {least}"
    else:
        wanted = f"{least}" if most == least else f"between {least} and {most}"
    return f"bad argument count {count} to {name}, expected {wanted} arguments\n"


async def run(
    blk: BlockBackend, line: str, print_later: Callable[[Coroutine[Any, Any, str]], None]
) -> tuple[str, str]:
    """Run one command line: (what goes to standard output, what goes to standard error).

    The aio_ commands return at once; the rest of their work is handed to `print_later`, to be run beside the
    monitor, and prints what it returns. Raises QmpError if a permission cannot be had that the command needs.
    """
    words = line.split()
    if not words:
        return "", ""
    name = _SHORT.get(words[0], words[0])
    if name in _BACKGROUND:
        make, permission, word = _BACKGROUND[name]
        problem = _count_problem(name, len(words) - 1, 2, None)
    elif name in _COMMANDS:
        entry = _COMMANDS[name]
        permission, word = entry.permission, entry.word
        problem = _count_problem(name, len(words) - 1, entry.least, entry.most)
    else:
        return "", f'command "{words[0]}" not found\n'
    if problem:
        return "", problem
    _take_permission(blk, permission)
    try:
        if name in _BACKGROUND:
            print_later(_reporting(_counted(blk, make(words[1:])), word))
            return "", ""
        return await _reporting(_COMMANDS[name].command(blk, words[1:]), word), ""
    except Usage as usage:
        if isinstance(usage, Injected):
            blk.accounting.count_invalid(usage.kind)
        return str(usage), usage.complaint


def _counted(blk: BlockBackend, request: Read | Write) -> Coroutine[Any, Any, str]:
    """The request as a device would make it. One that writes zeroes is not counted (aio_write_f)."""
    if "z" in request.options:
        return request.run(blk)
    return blk.accounting.count(request.kind, request.length, request.run(blk))


def _take_permission(blk: BlockBackend, permission: int) -> None:
    """It is never given back. Raises QmpError."""
    if not permission & ~blk.perm:
        return
    if blk.node is not None and blk.node.read_only:
        raise QmpError("Block node is read-only")
    blk.set_permissions(blk.perm | permission, blk.shared)


async def _reporting(request: Coroutine[Any, Any, str], word: str) -> str:
    try:
        return await request
    except OSError as error:
        return f"{word} failed: {strerror(error.errno or 5)}\n"
