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


async def _read(blk: BlockBackend, arguments: list[str]) -> str:
    options, operands = parse_options(arguments, "bCpqv", "lPs")
    offset, length = _range(operands, "read [-abCqv] [-P pattern [-s off] [-l len]] off len -- reads a number of bytes at a specified offset\n")
    if length > MAX_REQUEST_BYTES:
        raise Usage(f"length cannot exceed {MAX_REQUEST_BYTES}, given {operands[1]}\n")
    start = parse_number(options["s"]) if "s" in options else 0
    count = parse_number(options["l"]) if "l" in options else length - start
    if count < 0 or start + count > length:
        raise Usage("pattern verification range exceeds end of read data\n")
    pattern = _pattern(options, -1)
    payload = await blk.read(offset, length)
    printed = ""
    if pattern >= 0 and payload[start : start + count] != bytes((pattern,)) * count:
        printed = f"Pattern verification failed at offset {offset + start}, {count} bytes\n"
    return printed if "q" in options else printed + report("read", offset, length, 0.0)


async def _write(blk: BlockBackend, arguments: list[str]) -> str:
    options, operands = parse_options(arguments, "bcCfnpquz", "Ps")
    if "n" in options and "z" not in options:
        raise Usage("-n requires -z to be specified\n")
    if "u" in options and "z" not in options:
        raise Usage("-u requires -z to be specified\n")
    if "z" in options and "P" in options:
        raise Usage("Only one of -z, -P, and -s can be specified at the same time\n")
    offset, length = _range(operands, "write [-bcCfnquz] [-P pattern | -s source_file] off len -- writes a number of bytes at a specified offset\n")
    if length > MAX_REQUEST_BYTES and "n" not in options:
        raise Usage(f"length cannot exceed {MAX_REQUEST_BYTES} without -n, given {operands[1]}\n")
    flags = (FUA if "f" in options else 0) | (NO_FALLBACK if "n" in options else 0) | (MAY_UNMAP if "u" in options else 0)
    if "z" in options:
        await blk.write_zeroes(offset, length, flags)
    else:
        await blk.write(offset, bytes((_pattern(options, 0xCD),)) * length, flags)
    return "" if "q" in options else report("wrote", offset, length, 0.0)


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
):
    for _name in _names:
        _COMMANDS[_name] = (_command, _permission, _word)


async def run(blk: BlockBackend, line: str) -> tuple[str, str]:
    """Run one command line: (what goes to standard output, what goes to standard error)."""
    words = line.split()
    if not words:
        return "", ""
    found = _COMMANDS.get(words[0])
    if found is None:
        return "", f"command \"{words[0]}\" not found\n"
    command, permission, word = found
    if permission & ~blk.perm and blk.node is not None:
        try:
            blk.set_permissions(blk.perm | permission, blk.shared)
        except QmpError as error:
            return "", error.desc
    try:
        return await command(blk, words[1:]), ""
    except Usage as usage:
        return str(usage), ""
    except OSError as error:
        return f"{word} failed: {strerror(error.errno or 5)}\n", ""
