"""qemu-io's commands as HMP runs them on a drive, a node or a device (qemu-io-cmds.c, 7.2).

Output is what QEMU prints on its standard output. Times in it are virtual, so two runs print the same.
"""

from __future__ import annotations

from contextlib import suppress
from errno import ENOMEDIUM, ENOTSUP
from os import strerror

from simulator.block import permissions
from simulator.block.driver import FUA, MAY_UNMAP, NO_FALLBACK, STATUS_ALLOCATED
from simulator.block.errors import QmpError
from simulator.block.node import MAX_REQUEST_BYTES
from simulator.block.resize import resize
from simulator.block.status import status_above
from simulator.monitor import qemu_io_breakpoints as breakpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from simulator.block.backend import BlockBackend

    _Command = Callable[["BlockBackend", list[str]], Coroutine[Any, Any, str]]

_SUFFIXES = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50, "e": 1 << 60}
_UNITS = ("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)


class Usage(Exception):
    """A command that cannot be run as written; str() is what QEMU prints, `complaint` what it prints before
    that on standard error."""

    def __init__(self, text: str, complaint: str = "") -> None:
        super().__init__(text)
        self.complaint = complaint


def parse_number(text: str) -> int:
    """A size as cvtnum takes it: decimal with an optional unit, or hexadecimal. Raises Usage."""
    digits, unit = text, 1
    if digits[-1:].lower() in _SUFFIXES and not digits.lower().startswith("0x"):
        digits, unit = digits[:-1], _SUFFIXES[digits[-1].lower()]
    try:
        value = int(digits, 16 if digits.lower().startswith("0x") else 10) * unit
    except ValueError:
        raise Usage(
            f"Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- {text}\n"
        ) from None
    if not 0 <= value < 1 << 63:
        raise Usage(f"Parsing error: argument too large -- {text}\n")
    return value


def human_size(value: float) -> str:
    """cvtstr: three decimals unless they are all zero."""
    for unit, shift in _UNITS:
        if value >= 1 << shift:
            number = f"{value / (1 << shift):.3f}"
            return (number.removesuffix(".000") if number.endswith(".000") else number) + f" {unit}"
    number = f"{value:f}"
    return (number.split(".")[0] if ".000" in number else number) + " bytes"


def report(verb: str, offset: int, length: int, seconds: float) -> str:
    """The two lines after a request that went well."""
    rate = length / seconds if seconds else 0.0
    operations = 1 / seconds if seconds else 0.0
    return (
        f"{verb} {length}/{length} bytes at offset {offset}\n"
        f"{human_size(length)}, 1 ops; {seconds:05.2f} sec "
        f"({human_size(rate)}/sec and {operations:.4f} ops/sec)\n"
    )


def parse_options(
    arguments: list[str], flags: str, valued: str, usage: str
) -> tuple[dict[str, str], list[str]]:
    """getopt: {letter: value or ""} and the operands. Raises Usage on an unknown letter."""
    name = usage.partition(" ")[0]
    found: dict[str, str] = {}
    operands: list[str] = []
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        if len(word) < 2 or word[0] != "-":
            operands.append(word)
            continue
        for position, letter in enumerate(word[1:], 2):
            if letter in valued:
                if position == len(word) and not queue:
                    raise Usage(usage, f"{name}: option requires an argument -- '{letter}'\n")
                value = word[position:] or queue.pop(0)
                found[letter] = value
                break
            if letter not in flags:
                raise Usage(usage, f"{name}: invalid option -- '{letter}'\n")
            found[letter] = ""
    return found, operands


def _pattern(options: dict[str, str], default: int) -> int:
    if "P" not in options:
        return default
    text = options["P"]
    try:
        value = int(text, 0)
    except ValueError:
        value = -1
    if not 0 <= value <= 255:
        raise Usage(f"{text} is not a valid pattern byte\n")
    return value


def _range(operands: list[str], usage: str) -> tuple[int, int]:
    """(offset, length): of the commands that end in "[len..]" the sum of all lengths."""
    several = "[len..]" in usage
    if len(operands) < 2 or (len(operands) > 2 and not several):
        raise Usage(usage)
    return parse_number(operands[0]), sum(parse_number(operand) for operand in operands[1:])


_READS = "reads a number of bytes at a specified offset"
_WRITES = "writes a number of bytes at a specified offset"
_ARGUMENTS = {
    "read": f"[-abCqv] [-P pattern [-s off] [-l len]] off len -- {_READS}",
    "readv": f"[-Cqv] [-P pattern] off len [len..] -- {_READS}",
    "write": f"[-bcCfnquz] [-P pattern | -s source_file] off len -- {_WRITES}",
    "writev": f"[-Cfq] [-P pattern] off len [len..] -- {_WRITES}",
    "aio_read": "[-Ciqv] [-P pattern] off len [len..] -- asynchronously reads a number of bytes",
    "aio_write": "[-Cfiquz] [-P pattern] off len [len..] -- asynchronously writes a number of bytes",
    "discard": "[-Cq] off len -- discards a number of bytes at a specified offset",
    "truncate": "[-m prealloc_mode] off -- truncates the current file at the given offset",
}


def _usage(name: str) -> str:
    return f"{name} {_ARGUMENTS[name]}\n"


class _Read:
    """A parsed read or aio_read."""

    def __init__(self, arguments: list[str], flags: str, valued: str, usage: str) -> None:
        self.options, operands = parse_options(arguments, flags, valued, usage)
        if "P" not in self.options and ("s" in self.options or "l" in self.options):
            raise Usage(usage)
        self.offset, self.length = _range(operands, usage)
        if self.length > MAX_REQUEST_BYTES:
            raise Usage(f"length cannot exceed {MAX_REQUEST_BYTES}, given {operands[1]}\n")
        self.start = parse_number(self.options["s"]) if "s" in self.options else 0
        self.count = parse_number(self.options["l"]) if "l" in self.options else self.length - self.start
        if self.count < 0 or self.start + self.count > self.length:
            raise Usage("pattern verification range exceeds end of read data\n")
        self.pattern = _pattern(self.options, -1)

    async def run(self, blk: BlockBackend) -> str:
        payload = await blk.read(self.offset, self.length)
        printed = ""
        if (
            self.pattern >= 0
            and payload[self.start : self.start + self.count] != bytes((self.pattern,)) * self.count
        ):
            where = self.offset + self.start
            printed = f"Pattern verification failed at offset {where}, {self.count} bytes\n"
        if "v" in self.options and "q" not in self.options:
            printed += dump(payload, self.offset)
        return printed + _reported("read", self.options, self.offset, self.length)


def dump(payload: bytes, offset: int) -> str:
    """dump_buffer: sixteen bytes a line, in hexadecimal and, where letters or digits, as they are."""
    lines = []
    for start in range(0, len(payload), 16):
        piece = payload[start : start + 16]
        shown = "".join(chr(byte) if chr(byte).isascii() and chr(byte).isalnum() else "." for byte in piece)
        lines.append(f"{offset + start:08x}:  {''.join(f'{byte:02x} ' for byte in piece)} {shown}\n")
    return "".join(lines)


class _Write:
    """A parsed write or aio_write."""

    def __init__(self, arguments: list[str], flags: str, usage: str) -> None:
        self.options, operands = parse_options(arguments, flags, "Ps", usage)
        if "n" in self.options and "z" not in self.options:
            raise Usage("-n requires -z to be specified\n")
        if "u" in self.options and "z" not in self.options:
            raise Usage("-u requires -z to be specified\n")
        if "z" in self.options and "P" in self.options:
            raise Usage("Only one of -z, -P, and -s can be specified at the same time\n")
        self.offset, self.length = _range(operands, usage)
        if self.length > MAX_REQUEST_BYTES and "n" not in self.options:
            raise Usage(f"length cannot exceed {MAX_REQUEST_BYTES} without -n, given {operands[1]}\n")
        self.pattern = _pattern(self.options, 0xCD)

    async def run(self, blk: BlockBackend) -> str:
        letters = (("f", FUA), ("n", NO_FALLBACK), ("u", MAY_UNMAP))
        flags = sum(flag for letter, flag in letters if letter in self.options)
        if "z" in self.options:
            await blk.write_zeroes(self.offset, self.length, flags)
        else:
            await blk.write(self.offset, bytes((self.pattern,)) * self.length, flags)
        return _reported("wrote", self.options, self.offset, self.length)


def _reported(verb: str, options: dict[str, str], offset: int, length: int) -> str:
    if "q" in options:
        return ""
    if "C" in options:
        return f"{length},1,0:00:00.00,0.000,0.000\n"
    return report(verb, offset, length, 0.0)


async def _read(blk: BlockBackend, arguments: list[str]) -> str:
    return await _Read(arguments, "bCpqv", "lPs", _usage("read")).run(blk)


async def _readv(blk: BlockBackend, arguments: list[str]) -> str:
    return await _Read(arguments, "Cqv", "P", _usage("readv")).run(blk)


async def _write(blk: BlockBackend, arguments: list[str]) -> str:
    request = _Write(arguments, "bcCfnpquz", _usage("write"))
    if "b" in request.options or "c" in request.options:
        # VM state and compressed clusters, which the drivers here do not have.
        raise OSError(ENOTSUP, "not supported")
    return await request.run(blk)


async def _writev(blk: BlockBackend, arguments: list[str]) -> str:
    return await _Write(arguments, "Cfq", _usage("writev")).run(blk)


async def _discard(blk: BlockBackend, arguments: list[str]) -> str:
    options, operands = parse_options(arguments, "Cq", "", _usage("discard"))
    offset, length = _range(operands, _usage("discard"))
    await blk.discard(offset, length)
    return _reported("discard", options, offset, length)


async def _flush(blk: BlockBackend, arguments: list[str]) -> str:
    """Says nothing, not even when it fails (flush_f)."""
    with suppress(OSError):
        await blk.flush()
    return ""


async def _length(blk: BlockBackend, arguments: list[str]) -> str:
    node = blk.node
    return human_size(node.size_bytes if node is not None else 0) + "\n"


async def _truncate(blk: BlockBackend, arguments: list[str]) -> str:
    _, operands = parse_options(arguments, "", "m", _usage("truncate"))
    if len(operands) != 1:
        raise Usage(_usage("truncate"))
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
    "aio_flush": _Entry(_flush, 0, "aio_flush"),
    "break": _Entry(breakpoints.set_breakpoint, 0, "break", 2, 2),
    "remove_break": _Entry(breakpoints.remove_breakpoint, 0, "remove_break", 1, 1),
    "resume": _Entry(breakpoints.resume, 0, "resume", 1, 1),
    "wait_break": _Entry(breakpoints.wait_for, 0, "wait_break", 1, 1),
    "sleep": _Entry(breakpoints.sleep, 0, "sleep", 1, 1),
}
_SHORT = {"r": "read", "w": "write", "d": "discard", "f": "flush", "l": "length", "t": "truncate"}

# name -> (how its request is read from its arguments, permission, the word of its failures)
_BACKGROUND: dict[str, tuple[Callable[[list[str]], _Read | _Write], int, str]] = {
    "aio_read": (lambda arguments: _Read(arguments, "Ciqv", "P", _usage("aio_read")), 0, "readv"),
    "aio_write": (lambda arguments: _Write(arguments, "Cfiquz", _usage("aio_write")), _WRITE, "aio_write"),
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
            print_later(_reporting(make(words[1:]).run(blk), word))
            return "", ""
        return await _reporting(_COMMANDS[name].command(blk, words[1:]), word), ""
    except Usage as usage:
        return str(usage), usage.complaint


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
