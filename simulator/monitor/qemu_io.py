"""qemu-io's commands as HMP runs them on a drive, a node or a device (qemu-io-cmds.c, 7.2).

Output is what QEMU prints on its standard output. Times in it are virtual, so two runs print the same.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from os import strerror
from typing import TYPE_CHECKING, Any

from simulator.block import permissions
from simulator.block.driver import FUA, MAY_UNMAP, NO_FALLBACK
from simulator.block.errors import QmpError
from simulator.block.node import MAX_REQUEST_BYTES

if TYPE_CHECKING:
    from simulator.block.backend import BlockBackend

_SUFFIXES = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50, "e": 1 << 60}
_UNITS = ("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)


class Usage(Exception):
    """A command that cannot be run as written; str() is what QEMU prints."""


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
        f"{human_size(length)}, 1 ops; {seconds:05.2f} sec ({human_size(rate)}/sec and {operations:.4f} ops/sec)\n"
    )


def parse_options(arguments: list[str], flags: str, valued: str) -> tuple[dict[str, str], list[str]]:
    """getopt: {letter: value or ""} and the operands. Raises Usage on an unknown letter."""
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
                value = word[position:] or (queue.pop(0) if queue else "")
                found[letter] = value
                break
            if letter not in flags:
                raise Usage(f"invalid option -- '{letter}'\n")
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
    if len(operands) != 2:
        raise Usage(usage)
    return parse_number(operands[0]), parse_number(operands[1])


_READ_USAGE = "read [-abCqv] [-P pattern [-s off] [-l len]] off len -- reads a number of bytes at a specified offset\n"
_WRITE_USAGE = (
    "write [-bcCfnquz] [-P pattern | -s source_file] off len -- writes a number of bytes at a specified offset\n"
)
_AIO_READ_USAGE = "aio_read [-Ciqv] [-P pattern] off len [len..] -- asynchronously reads a number of bytes\n"
_AIO_WRITE_USAGE = "aio_write [-Cfiquz] [-P pattern] off len [len..] -- asynchronously writes a number of bytes\n"


class _Read:
    """A parsed read or aio_read."""

    def __init__(self, arguments: list[str], flags: str, valued: str, usage: str) -> None:
        self.options, operands = parse_options(arguments, flags, valued)
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
        if self.pattern >= 0 and payload[self.start : self.start + self.count] != bytes((self.pattern,)) * self.count:
            where = self.offset + self.start
            printed = f"Pattern verification failed at offset {where}, {self.count} bytes\n"
        if "q" in self.options:
            return printed
        if "v" in self.options:
            printed += dump(payload, self.offset)
        return printed + report("read", self.offset, self.length, 0.0)


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
        self.options, operands = parse_options(arguments, flags, "Ps")
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
        return "" if "q" in self.options else report("wrote", self.offset, self.length, 0.0)


async def _read(blk: BlockBackend, arguments: list[str]) -> str:
    return await _Read(arguments, "bCpqv", "lPs", _READ_USAGE).run(blk)


async def _write(blk: BlockBackend, arguments: list[str]) -> str:
    return await _Write(arguments, "bcCfnpquz", _WRITE_USAGE).run(blk)


async def _discard(blk: BlockBackend, arguments: list[str]) -> str:
    options, operands = parse_options(arguments, "Cq", "")
    offset, length = _range(operands, "discard [-Cq] off len -- discards a number of bytes at a specified offset\n")
    await blk.discard(offset, length)
    return "" if "q" in options else report("discard", offset, length, 0.0)


async def _flush(blk: BlockBackend, arguments: list[str]) -> str:
    await blk.flush()
    return ""


async def _length(blk: BlockBackend, arguments: list[str]) -> str:
    node = blk.node
    return human_size(node.size_bytes if node is not None else 0) + "\n"


_Command = Callable[["BlockBackend", list[str]], Coroutine[Any, Any, str]]

# name, other name -> (what runs it, permission it takes, the word of its failures)
_COMMANDS: dict[str, tuple[_Command, int, str]] = {}
for _names, _command, _permission, _word in (
    (("read", "r"), _read, 0, "read"),
    (("write", "w"), _write, permissions.WRITE, "write"),
    (("discard", "d"), _discard, permissions.WRITE, "discard"),
    (("flush", "f"), _flush, 0, "flush"),
    (("length", "l"), _length, 0, "length"),
    (("aio_flush",), _flush, 0, "aio_flush"),
):
    for _name in _names:
        _COMMANDS[_name] = (_command, _permission, _word)

# name -> (how its request is read from its arguments, permission, the word of its failures)
_BACKGROUND: dict[str, tuple[Callable[[list[str]], _Read | _Write], int, str]] = {
    "aio_read": (lambda arguments: _Read(arguments, "Ciqv", "P", _AIO_READ_USAGE), 0, "readv"),
    "aio_write": (
        lambda arguments: _Write(arguments, "Cfiquz", _AIO_WRITE_USAGE),
        permissions.WRITE,
        "aio_write",
    ),
}


async def run(
    blk: BlockBackend, line: str, print_later: Callable[[Coroutine[Any, Any, str]], None]
) -> tuple[str, str]:
    """Run one command line: (what goes to standard output, what goes to standard error).

    The aio_ commands return at once; the rest of their work is handed to `print_later`, to be run beside the
    monitor, and prints what it returns.
    """
    words = line.split()
    if not words:
        return "", ""
    name = words[0]
    found = _COMMANDS.get(name) or _BACKGROUND.get(name)
    if found is None:
        return "", f'command "{name}" not found\n'
    permission, word = found[1], found[2]
    if permission & ~blk.perm and blk.node is not None:
        try:
            blk.set_permissions(blk.perm | permission, blk.shared)
        except QmpError as error:
            return "", error.desc
    try:
        if name in _BACKGROUND:
            request = _BACKGROUND[name][0](words[1:])
            print_later(_reporting(request.run(blk), word))
            return "", ""
        return await _reporting(_COMMANDS[name][0](blk, words[1:]), word), ""
    except Usage as usage:
        return str(usage), ""


async def _reporting(request: Coroutine[Any, Any, str], word: str) -> str:
    try:
        return await request
    except OSError as error:
        return f"{word} failed: {strerror(error.errno or 5)}\n"
