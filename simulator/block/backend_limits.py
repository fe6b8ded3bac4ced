"""Limits of a drive's or device's own requests (blk_io_limits_enable, block/block-backend.c, 7.2).

The group is made when it is first named, unless there is an object of that name, and goes with its last
member.
"""

from __future__ import annotations

from simulator.block.throttle_groups import ThrottleGroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from simulator.block.backend import BlockBackend

# A limit's name here -> in QMP.
NAMES = {
    f"{unit}-{kind}{ending}": f"{unit}{short}{ending.replace('-', '_')}"
    for unit in ("bps", "iops")
    for kind, short in (("total", ""), ("read", "_rd"), ("write", "_wr"))
    for ending in ("", "-max", "-max-length")
} | {"iops-size": "iops_size"}


async def set_limits(backend: BlockBackend, arguments: dict[str, Any], default_group: str) -> None:
    """`arguments` as of block_set_io_throttle. Raises QmpError and changes nothing."""
    given = {name: arguments[qmp_name] for name, qmp_name in NAMES.items() if qmp_name in arguments}
    wanted = ThrottleGroup(backend.graph.scheduler, "", {"limits": given})
    if not wanted.limits_anything:
        await take_off(backend)
        return
    name = arguments.get("group")
    if backend.limits is not None and name is not None and name != backend.limits.group.name:
        await take_off(backend)
    enable(backend, wanted, name or default_group)


def enable(backend: BlockBackend, wanted: ThrottleGroup, name: str) -> None:
    """Its group, that of this name if it is in none, has the limits of `wanted` from now on."""
    if backend.limits is None:
        join(backend, name)
    assert backend.limits is not None
    backend.limits.group.set_limits(wanted.limits())
    backend.limits.group.restart(backend.limits)


def join(backend: BlockBackend, name: str) -> None:
    groups = backend.graph.throttle_groups
    if name not in groups:
        groups[name] = ThrottleGroup(backend.graph.scheduler, name, {})
        groups[name].goes_with_members = True
    backend.limits = groups[name].join()
    backend.limits.disabled = backend.quiesce_count


async def take_off(backend: BlockBackend) -> None:
    if backend.limits is None:
        return
    assert backend.node is not None
    async with backend.graph.drained(backend.node):
        leave(backend)


def leave(backend: BlockBackend) -> None:
    """Of a backend that has no request under way."""
    if backend.limits is None:
        return
    group, member = backend.limits.group, backend.limits
    backend.limits = None
    group.leave(member)
    if group.goes_with_members and not group.members:
        del backend.graph.throttle_groups[group.name]


def describe(backend: BlockBackend) -> dict[str, Any]:
    """Members of BlockDeviceInfo."""
    if backend.limits is None:
        return {}
    limits = backend.limits.group.limits()
    described: dict[str, Any] = {"group": backend.limits.group.name}
    for name, qmp_name in NAMES.items():
        if name.endswith("-max-length"):
            shown = limits[name.removesuffix("-length")] > 0
        else:
            shown = limits[name] > 0 or not name.endswith(("-max", "-size"))
        if shown:
            described[qmp_name] = limits[name]
    return described
