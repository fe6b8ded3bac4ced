"""Storage in which something is wrong: a node between an image and its file, put there while it runs.

The node is `NAME-fault`; what else a kind of fault needs is made and taken away with it.
"""

from __future__ import annotations

import errno
from typing import Any

from scenarios.language.steps import StorageFault
from scenarios.run import breakpoints, throttles
from scenarios.run.execution import Execution, Where

# The event that comes with a request for data: a format driver's, and the node's own. A node has none of its
# own for a read; a format reads and writes its tables without one.
_OF_FORMAT = {"read": "read_aio", "write": "write_aio", "write-zeroes": "pwritev_zero"}
_OF_NODE = {"write": "pwritev", "write-zeroes": "pwritev_zero"}


async def add(
    x: Execution, where: Where, node: str, storage: str, fault: StorageFault, below_format: bool
) -> None:
    """Make `node` above the node `storage`; `below_format`: a format's node is to stand on it. Raises
    QmpRefused, NotAsExpectedError."""
    if fault.rate is not None:
        await throttles.add(x, where, node, storage, fault.rate)
        return
    events = _OF_FORMAT if below_format else _OF_NODE
    await x.qmp(where, "blockdev-add", _options(node, storage, fault, events.get(fault.on, "none")))
    if fault.suspend is not None:
        await breakpoints.set_one(x, where, fault.suspend, node, events.get(fault.on))


async def remove(x: Execution, where: Where, node: str) -> None:
    """Take away what `add` made, when nothing stands on it any more. Raises QmpRefused."""
    await breakpoints.close(x, where, node)
    await x.qmp(where, "blockdev-del", {"node-name": node})
    await throttles.remove_group(x, where, node)


def _options(node: str, storage: str, fault: StorageFault, event: str) -> dict[str, Any]:
    options: dict[str, Any] = {"driver": "blkdebug", "node-name": node, "image": storage}
    if fault.counts:
        rule: dict[str, Any] = {"event": event, "iotype": fault.on, "errno": getattr(errno, fault.error)}
        if fault.skip:
            rule["state"] = fault.skip + 1
            options["set-state"] = [
                {"event": event, "state": state, "new_state": state + 1} for state in range(1, fault.skip + 1)
            ]
        # A rule is used up by the request that it fails.
        options["inject-error"] = [{**rule, "once": True}] * fault.times
    # The image itself opens its file so; below a filter it has to be said again.
    return {**options, "discard": "unmap"}
