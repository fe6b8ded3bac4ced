"""Requests that stop on their way to the storage: breakpoints of blkdebug, set and resumed by HMP's qemu-io.

qemu-io must come to the blkdebug node without changing the graph: QEMU since 8.2 waits with such a change
for all requests to end, those that are stopped too. So a read-only drive is put on the node beforehand, by
which no request ever goes. That the request has stopped is seen in what the machine prints: qemu-io's
wait_break stops the monitor, and with it who is to make the request.
"""

from __future__ import annotations

from typing import NamedTuple

from scenarios.backends.interface import DeadlinePassed, MachineGone
from scenarios.run.execution import EVENT_NS, Execution, NotAsExpectedError, Where

_LOOK_AGAIN_NS = 1_000_000


class Breakpoint(NamedTuple):
    """One that may still stop a request, or has. `node` is the blkdebug node."""

    node: str
    tag: str


async def set_one(x: Execution, where: Where, tag: str, node: str, event: str | None) -> None:
    """Raises NotAsExpectedError where the machine refuses it, or no event tells of such a request."""
    if event is None:
        raise NotAsExpectedError(
            "requests that can be suspended", "reads of a raw scratch image; take target: qcow2"
        )
    options = f'{{"driver":"raw",,"file":"{node}"}}'
    said = await x.hmp(where, f"drive_add 0 if=none,id={_drive(node)},readonly=on,file=json:{options}")
    if said.strip() != "OK":
        raise NotAsExpectedError(f"a drive on node {node}", said.strip())
    x.drives_on.add(node)
    await _qemu_io(x, where, node, f"break {event} {tag}")
    x.breakpoints[tag] = Breakpoint(node, tag)


async def wait(x: Execution, tag: str) -> Breakpoint:
    """Until the request has stopped. Raises DeadlinePassed, MachineGone."""
    found = x.breakpoints.get(tag)
    if found is None:
        raise NotAsExpectedError(f"a request that {tag} is to suspend", "none of that name is left")
    line = f"blkdebug: Suspended request '{tag}'"
    until_ns = x.session.now_ns() + EVENT_NS
    while line not in x.session.printed():
        if x.session.ended():
            raise MachineGone(f"no request was suspended as {tag}")
        if x.session.now_ns() > until_ns:
            raise DeadlinePassed(f"a request to be suspended as {tag}", EVENT_NS)
        await x.session.sleep(_LOOK_AGAIN_NS)
    return found


async def resume(x: Execution, where: Where, tag: str) -> None:
    """Raises DeadlinePassed if there is nothing to resume, MachineGone."""
    found = await wait(x, tag)
    del x.breakpoints[tag]
    await _qemu_io(x, where, found.node, f"resume {tag}")


async def let_go(x: Execution, where: Where, node: str | None = None) -> None:
    """Take away the breakpoints of one node, or all: nothing stops there, and what has stopped goes on."""
    for each in list(x.breakpoints.values()):
        if node in (None, each.node):
            del x.breakpoints[each.tag]
            await _qemu_io(x, where, each.node, f"remove_break {each.tag}")


async def close(x: Execution, where: Where, node: str) -> None:
    """Take away all that the node's breakpoints needed."""
    await let_go(x, where, node)
    if node in x.drives_on:
        x.drives_on.discard(node)
        await x.hmp(where, f"drive_del {_drive(node)}")


def _drive(node: str) -> str:
    return f"{node}-drive"


async def _qemu_io(x: Execution, where: Where, node: str, command: str) -> None:
    said = (await x.hmp(where, f'qemu-io {_drive(node)} "{command}"')).strip()
    if said:
        raise NotAsExpectedError(f"qemu-io to {command}", said)
