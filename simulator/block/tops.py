"""Which nodes a command means that is about all disks."""

from __future__ import annotations

from simulator.block.node import Node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from simulator.block.graph import Graph


def tops(graph: Graph) -> list[Node]:
    """All that block backends stand on, which a job itself is not, and the monitor's own (bdrv_next)."""
    found = {backend.node: None for backend in graph.backends.values() if backend.node}
    for node in graph.nodes.values():
        users = (edge.parent for edge in node.parents if not isinstance(edge.parent, Node))
        if any(not user.stay_at_node for user in users):
            found[node] = None
    owned = [node for node in graph.nodes.values() if node.monitor_owned]
    if found and graph.rules.list_goes_on_behind:
        last = next(reversed(found))
        owned = owned[owned.index(last) :] if last in owned else []
    return list(found | dict.fromkeys(owned))
