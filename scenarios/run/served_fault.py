"""Storage behind an NBD server that is at fault: how a disk comes to stand on it, and on its own file
again."""

from __future__ import annotations

from typing import Any

from scenarios.backends.interface import DeadlinePassed, QmpRefused
from scenarios.backends.storage import StorageServer
from scenarios.language.steps import Fault
from scenarios.run.execution import Execution, Where

# A client looks for a server that it has lost after longer and longer pauses (up to 16 s, since QEMU 6.0).
_FOUND_AGAIN_NS = 60_000_000_000
_SECOND_NS = 1_000_000_000
_LOOK_AGAIN_NS = 50_000_000


async def put_in(x: Execution, where: Where, disk: str, fault: Fault, on_storage: dict[str, Any]) -> None:
    """`on_storage`: all options of the disk's format node, standing on node DISK-fault."""
    server = await x.session.serve_storage(disk, fault)
    name = f"{disk}-fault"
    options: dict[str, Any] = {
        "driver": "nbd",
        "node-name": name,
        "server": server.address,
        "discard": "unmap",
    }
    if fault.reconnect is not None:
        options["reconnect-delay"] = fault.reconnect // _SECOND_NS
    await x.qmp(where, "blockdev-add", options)
    x.faults[disk] = fault
    x.storage[disk] = server
    await x.qmp(where, "blockdev-reopen", {"options": [on_storage]})
    await server.strike()


async def take_out(
    x: Execution, where: Where, disk: str, server: StorageServer, on_file: dict[str, Any]
) -> None:
    """`on_file`: all options of the disk's format node, standing on node DISK-file. That one is opened anew:
    what the machine knows of the file's length is from before the image grew behind the server."""
    file = f"{disk}-file"
    await x.qmp(where, "blockdev-del", {"node-name": file})
    options = {"driver": "file", "node-name": file, "filename": x.names()[f"{disk}.filename"]}
    await x.qmp(where, "blockdev-add", {**options, "discard": "unmap"})
    until_ns = x.session.now_ns() + _FOUND_AGAIN_NS
    while True:
        # Storage that was lost cannot be flushed, which goes before, until the machine has found it again.
        try:
            await x.qmp(where, "blockdev-reopen", {"options": [on_file]})
            break
        except QmpRefused as error:
            if "Error flushing drive" not in error.desc:
                raise
            if x.session.now_ns() > until_ns:
                raise DeadlinePassed(f"disk {disk} to find its storage again", _FOUND_AGAIN_NS) from None
        await x.session.sleep(_LOOK_AGAIN_NS)
    await x.qmp(where, "blockdev-del", {"node-name": f"{disk}-fault"})
    await server.close()
