"""What backends and nodes count (block/qapi.c, block/qapi-sysemu.c, 7.2)."""

from __future__ import annotations

from simulator.block import accounting
from simulator.block.errors import QmpError
from simulator.block.statistics import backend_stats, node_stats
from simulator.monitor.commands.nodes import drives_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.machine import Machine

    Arguments = dict[str, Any]

_BOUNDARIES = {
    "read": ("boundaries-read", accounting.READ),
    "write": ("boundaries-write", accounting.WRITE),
    "append write": ("boundaries-zap", accounting.ZONE_APPEND),
    "flush": ("boundaries-flush", accounting.FLUSH),
}


async def query_blockstats(machine: Machine, arguments: Arguments) -> Any:
    if arguments.get("query-nodes", False):
        return [node_stats(node) for node in machine.graph.nodes.values()]
    replies = []
    for backend, device in drives_of(machine):
        info = backend_stats(backend)
        info["device"] = backend.name
        if device is not None:
            info |= machine.slots.shown_name(device)
        replies.append(info)
    return replies


async def block_latency_histogram_set(machine: Machine, arguments: Arguments) -> Any:
    """A kind without boundaries of its own has `boundaries`; without any at all nothing is counted."""
    identifier = arguments["id"]
    counted = machine.slots.disk_of(identifier).backend.accounting
    if len(arguments) == 1:
        counted.histograms.clear()
    for word, (name, kind) in _BOUNDARIES.items():
        if kind == accounting.ZONE_APPEND and not machine.version.queries.shows_zone_append:
            continue
        boundaries = arguments.get(name, arguments.get("boundaries"))
        if boundaries is not None and not counted.set_histogram(kind, boundaries):
            raise QmpError(f"Device '{identifier}' set {word} boundaries fail")
    return {}


COMMANDS = {
    "query-blockstats": query_blockstats,
    "block-latency-histogram-set": block_latency_histogram_set,
}
