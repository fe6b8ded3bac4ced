"""`nbd`: a raw NBD session with one export."""

from __future__ import annotations

from typing import Any

from scenarios.backends.interface import NbdClient, NbdFailed
from scenarios.backends.nbd_client import hesitate
from scenarios.backends.nbd_stall import stall
from scenarios.language.steps import Nbd
from scenarios.run.content import runs_of
from scenarios.run.execution import Execution, NotAsExpectedError, Where
from scenarios.run.history import GuestKind, GuestOp
from scenarios.run.steps.guest import check_error, next_pattern, tell_runs
from scenarios.run.steps.qmp import difference

_READ_ONLY, _SEND_FLUSH, _SEND_FUA, _SEND_TRIM, _SEND_WRITE_ZEROES = 2, 4, 8, 32, 64
_CAN_MULTI_CONN = 256


async def run(x: Execution, nbd: Nbd, where: Where) -> None:
    failure = None
    try:
        if nbd.garbage is not None:
            await x.session.nbd_raw(bytes.fromhex(nbd.garbage))
        elif nbd.stall is not None:
            transport = await x.session.nbd_transport()
            x.stalled.append(transport)
            await hesitate(transport, x.session.sleep, nbd.hesitate)
            await stall(transport, x.named(nbd.export), nbd.stall)
        elif nbd.exports is not None:
            got = sorted(name for name in await x.session.nbd_exports() if not _is_guest(x, name))
            if got != sorted(x.named(nbd.exports)):
                raise NotAsExpectedError(f"exports {sorted(nbd.exports)}", str(got))
        else:
            async with x.nbd(x.named(nbd.export), hesitate_ns=nbd.hesitate) as client:
                await _act(x, nbd, client, where)
    except NbdFailed as error:
        failure = error
    x.take_events()
    check_error(nbd.error, failure)


def _is_guest(x: Execution, export: str) -> bool:
    """Whether it is how the guest itself reaches a disk."""
    return any(export == f"{name}-guest" for name in x.scenario.disks)


async def _act(x: Execution, nbd: Nbd, client: NbdClient, where: Where) -> None:
    if nbd.info is not None:
        wrong = difference(x.named(nbd.info), _info(client), "info")
        if wrong:
            raise NotAsExpectedError(*wrong)
    elif nbd.read is not None:
        runs = runs_of(await client.read(nbd.read.at, nbd.read.length), nbd.read.at)
        if nbd.read.pattern is not None:
            other = [run for run in runs if run[2] != nbd.read.pattern]
            if other:
                raise NotAsExpectedError(f"every byte 0x{nbd.read.pattern:02x}", tell_runs(other))
    else:
        await _write(x, nbd, client, where)


async def _write(x: Execution, nbd: Nbd, client: NbdClient, where: Where) -> None:
    """Through an export of a disk's own nodes this is what the guest does; judges have to know of it."""
    kind: GuestKind = "flush"
    offset = length = pattern = 0
    if nbd.write is not None:
        kind, offset, length = "write", nbd.write.at, nbd.write.length
        pattern = next_pattern(x, nbd.write.pattern)
    elif nbd.zero is not None:
        kind, offset, length = "zero", nbd.zero.at, nbd.zero.length
    elif nbd.discard is not None:
        kind, offset, length = "discard", nbd.discard.at, nbd.discard.length
    disk = _writable_disk(x, x.named(nbd.export))
    record = GuestOp(
        begin=x.history.tick(),
        step=where.path,
        disk=disk or "",
        kind=kind,
        offset=offset,
        length=length,
        pattern=pattern,
    )
    if disk is not None:
        x.history.records.append(record)
    try:
        if nbd.write is not None:
            await client.write(offset, pattern.to_bytes() * length)
        elif nbd.zero is not None:
            await client.zero(offset, length, no_hole=not nbd.zero.unmap)
        elif nbd.discard is not None:
            await client.trim(offset, length)
        else:
            await client.flush()
    except NbdFailed as error:
        record.error = error.errno_name
        raise
    finally:
        record.end = x.history.tick()


def _writable_disk(x: Execution, export: str) -> str | None:
    """The disk whose node is exported under that name; None if it is no disk's."""
    from scenarios.run.history import QmpExchange

    for record in reversed(x.history.records):
        if isinstance(record, QmpExchange) and record.command in ("block-export-add", "nbd-server-add"):
            arguments = record.arguments
            node = arguments.get("node-name", arguments.get("device"))
            if export == arguments.get("name", node):
                disks = {x.base_node(name): name for name in x.scenario.disks} | {
                    n: n for n in x.scenario.disks
                }
                return disks.get(str(node))
    return export.removesuffix("-guest") if _is_guest(x, export) else None


def _info(client: NbdClient) -> dict[str, Any]:
    flags = client.flags
    smallest, preferred, largest = client.block_sizes
    return {
        "size": client.size,
        "read_only": bool(flags & _READ_ONLY),
        "flush": bool(flags & _SEND_FLUSH),
        "fua": bool(flags & _SEND_FUA),
        "trim": bool(flags & _SEND_TRIM),
        "write_zeroes": bool(flags & _SEND_WRITE_ZEROES),
        "multi_conn": bool(flags & _CAN_MULTI_CONN),
        "min_block": smallest,
        "preferred_block": preferred,
        "max_block": largest,
    }
