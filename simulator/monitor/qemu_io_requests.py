"""Requests of qemu-io's commands, read from their words, and how they are reported (qemu-io-cmds.c, 7.2).

Times that are reported are virtual, so two runs print the same.
"""

from __future__ import annotations

from simulator.block import accounting
from simulator.block.driver import FUA, MAY_UNMAP, NO_FALLBACK, WRITE_COMPRESSED
from simulator.block.node import MAX_REQUEST_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.backend import BlockBackend

_SECTOR_BYTES = 512
_SUFFIXES = {"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50, "e": 1 << 60}
_UNITS = ("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)


class Usage(Exception):
    """A command that cannot be run as written; str() is what QEMU prints, `complaint` what it prints before
    that on standard error."""

    def __init__(self, text: str, complaint: str = "") -> None:
        super().__init__(text)
        self.complaint = complaint


class Injected(Usage):
    """-i: the request is only counted, as an invalid one of its kind."""

    def __init__(self, word: str, kind: str) -> None:
        super().__init__(f"injecting invalid {word} request\n")
        self.kind = kind


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


def range_of(operands: list[str], usage: str) -> tuple[int, int]:
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
    "reopen": "[(-r|-w)] [-c cache] [-o options] -- reopens an image with new options",
    "truncate": "[-m prealloc_mode] off -- truncates the current file at the given offset",
}


def usage_of(name: str) -> str:
    return f"{name} {_ARGUMENTS[name]}\n"


class Read:
    """A parsed read or aio_read."""

    kind = accounting.READ

    def __init__(self, arguments: list[str], flags: str, valued: str, usage: str) -> None:
        self.options, operands = parse_options(arguments, flags, valued, usage)
        if "i" in self.options:
            raise Injected("read", self.kind)
        if "P" not in self.options and ("s" in self.options or "l" in self.options):
            raise Usage(usage)
        self.offset, self.length = range_of(operands, usage)
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
        return printed + reported("read", self.options, self.offset, self.length)


def dump(payload: bytes, offset: int) -> str:
    """dump_buffer: sixteen bytes a line, in hexadecimal and, where letters or digits, as they are."""
    lines = []
    for start in range(0, len(payload), 16):
        piece = payload[start : start + 16]
        shown = "".join(chr(byte) if chr(byte).isascii() and chr(byte).isalnum() else "." for byte in piece)
        lines.append(f"{offset + start:08x}:  {''.join(f'{byte:02x} ' for byte in piece)} {shown}\n")
    return "".join(lines)


class Write:
    """A parsed write or aio_write."""

    kind = accounting.WRITE

    def __init__(self, arguments: list[str], flags: str, usage: str) -> None:
        self.options, operands = parse_options(arguments, flags, "Ps", usage)
        if "i" in self.options:
            raise Injected("write", self.kind)
        if "n" in self.options and "z" not in self.options:
            raise Usage("-n requires -z to be specified\n")
        if "u" in self.options and "z" not in self.options:
            raise Usage("-u requires -z to be specified\n")
        if "z" in self.options and "P" in self.options:
            raise Usage("Only one of -z, -P, and -s can be specified at the same time\n")
        self.offset, self.length = range_of(operands, usage)
        if self.length > MAX_REQUEST_BYTES and "n" not in self.options:
            raise Usage(f"length cannot exceed {MAX_REQUEST_BYTES} without -n, given {operands[1]}\n")
        self.pattern = _pattern(self.options, 0xCD)

    def check_sectors(self) -> None:
        """What -b and -c cannot have. Raises Usage."""
        if not {"b", "c"} & self.options.keys():
            return
        if {"b", "z"} <= self.options.keys():
            raise Usage("-b and -z cannot be specified at the same time\n")
        if "f" in self.options:
            raise Usage("-f and -b or -c cannot be specified at the same time\n")
        for value, name in ((self.offset, "offset"), (self.length, "count")):
            if value % _SECTOR_BYTES:
                raise Usage(f"{value} is not a sector-aligned value for '{name}'\n")

    async def run(self, blk: BlockBackend) -> str:
        letters = (("f", FUA), ("n", NO_FALLBACK), ("u", MAY_UNMAP), ("c", WRITE_COMPRESSED))
        flags = sum(flag for letter, flag in letters if letter in self.options)
        if "z" in self.options:
            await blk.write_zeroes(self.offset, self.length, flags & ~WRITE_COMPRESSED)
        else:
            await blk.write(self.offset, bytes((self.pattern,)) * self.length, flags)
        return reported("wrote", self.options, self.offset, self.length)


def reported(verb: str, options: dict[str, str], offset: int, length: int) -> str:
    if "q" in options:
        return ""
    if "C" in options:
        return f"{length},1,0:00:00.00,0.000,0.000\n"
    return report(verb, offset, length, 0.0)
