"""Storage that fails when told to: a blkdebug node below an image, made for one StorageFault."""

from __future__ import annotations

import errno
from typing import Any

from scenarios.language.steps import StorageFault

# The event that comes with a request for data: a format driver's, and the node's own. A node has none of its
# own for a read; a format reads and writes its tables without one.
_OF_FORMAT = {"read": "read_aio", "write": "write_aio", "write-zeroes": "pwritev_zero"}
_OF_NODE = {"write": "pwritev", "write-zeroes": "pwritev_zero"}


def node_options(node_name: str, storage: str, fault: StorageFault, below_format: bool) -> dict[str, Any]:
    """Options of the node that is put above `storage`; `below_format`: a format's node stands on it."""
    event = (_OF_FORMAT if below_format else _OF_NODE).get(fault.on, "none")
    rule: dict[str, Any] = {"event": event, "iotype": fault.on, "errno": getattr(errno, fault.error)}
    options: dict[str, Any] = {"driver": "blkdebug", "node-name": node_name, "image": storage}
    if fault.skip:
        rule["state"] = fault.skip + 1
        options["set-state"] = [
            {"event": event, "state": state, "new_state": state + 1} for state in range(1, fault.skip + 1)
        ]
    # A rule is used up by the request that it fails.
    options["inject-error"] = [{**rule, "once": True}] * fault.times
    # The image itself opens its file so; below a filter it has to be said again.
    return {**options, "discard": "unmap"}
