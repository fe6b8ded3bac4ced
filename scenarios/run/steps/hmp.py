"""`hmp`: one line to the human monitor."""

from __future__ import annotations

import re

from scenarios.language.scalars import size
from scenarios.language.steps import Hmp
from scenarios.run.execution import Execution, NotAsExpectedError, Where
from scenarios.run.history import GuestKind, GuestOp

# qemu-io writing to a disk is what the guest does; judges have to know of it.
_QEMU_IO = re.compile(r"""qemu-io\s+(?:-d\s+)?(\S+)\s+["']?(aio_write|write|discard)\s+([^"']*)["']?\s*$""")
_FAILED = re.compile("failed|error|invalid|not |bad", re.IGNORECASE)


async def run(x: Execution, hmp: Hmp, where: Where) -> None:
    line = x.named(hmp.line)
    record = _as_guest(x, line, where)
    if record is not None:
        x.history.records.append(record)
    prints = await x.hmp(where, line)
    if record is not None:
        record.end = x.history.tick()
        record.error = "EIO" if _FAILED.search(prints) else None
    if hmp.silent and prints.strip():
        raise NotAsExpectedError("no answer", prints.strip())
    if hmp.prints is not None and x.named(hmp.prints) not in prints:
        raise NotAsExpectedError(f"an answer with {hmp.prints!r}", repr(prints.strip()))


def _as_guest(x: Execution, line: str, where: Where) -> GuestOp | None:
    """The guest's request that a qemu-io line makes; None if it is none, or not on a disk's device."""
    found = _QEMU_IO.match(line.strip())
    if found is None:
        return None
    disk = _disk_of(x, found[1])
    words = found[3].split()
    pattern, kind = 0xCD, "discard" if found[2] == "discard" else "write"
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option == "-P":
            pattern = int(words.pop(0), 0)
        elif option == "-z":
            kind, pattern = "zero", 0
    numbers = [size(word) for word in words]
    if disk is None or len(numbers) != 2 or None in numbers:
        return None
    return GuestOp(
        begin=x.history.tick(),
        time_ns=x.session.now_ns(),
        step=where.path,
        disk=disk,
        kind=_KINDS[kind],
        offset=numbers[0] or 0,
        length=numbers[1] or 0,
        pattern=pattern if kind == "write" else 0,
    )


_KINDS: dict[str, GuestKind] = {"write": "write", "zero": "zero", "discard": "discard"}


def _disk_of(x: Execution, target: str) -> str | None:
    for name in x.scenario.disks:
        if target in (name, x.base_node(name)) or f"/{name}-device" in target:
            return name
    return None
