"""Storage that is slow: a throttle node, with a throttle group of its own."""

from __future__ import annotations

from scenarios.run.execution import Execution, Where


async def add(x: Execution, where: Where, node: str, storage: str, rate: int) -> None:
    """Make `node` above the node `storage`; `rate` in bytes a second. Raises QmpRefused."""
    group = {"qom-type": "throttle-group", "id": _group(node), "limits": {"bps-total": rate}}
    await x.qmp(where, "object-add", group)
    x.throttled.add(node)
    options = {"driver": "throttle", "node-name": node, "throttle-group": _group(node), "file": storage}
    await x.qmp(where, "blockdev-add", {**options, "discard": "unmap"})


async def remove_group(x: Execution, where: Where, node: str) -> None:
    """Once the node is gone; nothing if it had none."""
    if node in x.throttled:
        x.throttled.discard(node)
        await x.qmp(where, "object-del", {"id": _group(node)})


def _group(node: str) -> str:
    return f"{node}-group"
