"""Moves that make, change and remove nodes and images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from scenarios.conformance.drawn.world import DISK_BYTES, Arguments, World


def _child(world: World) -> Any:
    if world.chance(0.15):
        return {"driver": "null-co", "size": DISK_BYTES, **world.some({"read-zeroes": (True,)})}
    return world.node()


def node_options(world: World) -> Arguments:
    """blockdev-add's, without the node's name."""
    driver = world.rng.choice(tuple(_DRIVERS))
    switches = world.some(
        {
            "read-only": (True, False),
            "discard": ("unmap", "ignore"),
            "detect-zeroes": ("on", "unmap", "off"),
            "cache": ({"direct": True}, {"no-flush": True}),
            "auto-read-only": (True,),
        },
        0.08,
    )
    return {"driver": driver, **_DRIVERS[driver](world), **switches}


def _null(world: World) -> Arguments:
    return {
        "size": world.one((DISK_BYTES, DISK_BYTES, 0, 65536, 1 << 33)),
        **world.some({"read-zeroes": (True,)}),
    }


def _raw(world: World) -> Arguments:
    window = {"offset": (0, 512, 65536), "size": (512, 65536, DISK_BYTES)}
    return {"file": _child(world), **world.some(window, 0.15)}


def _copy_before_write(world: World) -> Arguments:
    more = {"on-cbw-error": ("break-guest-write", "break-snapshot")}
    made = {"file": _child(world), "target": _child(world), **world.some(more)}
    if world.chance(0.2):
        node, name = world.bitmap()
        made["bitmap"] = {"node": node, "name": name}
    return made


def _qcow2(world: World) -> Arguments:
    made = {"file": _child(world)}
    if world.chance(0.3):
        made["backing"] = world.rng.choice((None, world.node()))
    return {**made, **world.some({"lazy-refcounts": (True,)}, 0.1)}


def _quorum(world: World) -> Arguments:
    children = [_child(world) for _ in range(world.one((1, 2, 2, 3)))]
    more = {"blkverify": (True,), "rewrite-corrupted": (True,), "read-pattern": ("quorum", "fifo")}
    return {"children": children, "vote-threshold": world.one((1, 1, 2, 3)), **world.some(more, 0.15)}


_DRIVERS: dict[str, Callable[[World], Arguments]] = {
    "null-co": _null,
    "null-aio": _null,
    "raw": _raw,
    "qcow2": _qcow2,
    "copy-before-write": _copy_before_write,
    "snapshot-access": lambda world: {"file": _child(world)},
    "copy-on-read": lambda world: {"file": _child(world)},
    "compress": lambda world: {"file": _child(world)},
    "throttle": lambda world: {"file": _child(world), "throttle-group": world.new_object()},
    "preallocate": lambda world: {"file": _child(world)},
    "blkverify": lambda world: {"test": _child(world), "raw": _child(world)},
    "quorum": _quorum,
    "blkdebug": lambda world: {"image": _child(world)},
    "file": lambda world: {"filename": world.one([*world.files, "nope.img"])},
}


def add_node(world: World) -> None:
    options = node_options(world)
    world.send("blockdev-add", {**options, "node-name": world.new_node()})


def add_null(world: World) -> None:
    world.send("blockdev-add", {"driver": "null-co", "size": DISK_BYTES, "node-name": world.new_node()})


def remove_node(world: World) -> None:
    world.send("blockdev-del", {"node-name": world.node()})


def reopen(world: World) -> None:
    options = [{**node_options(world), "node-name": world.node()}]
    world.send("blockdev-reopen", {"options": options})


def resize(world: World) -> None:
    size = world.one((DISK_BYTES, 2 * DISK_BYTES, 512, 0, -1, DISK_BYTES + 1))
    world.send("block_resize", {world.one(("node-name", "node-name", "device")): world.node(), "size": size})


def create(world: World) -> None:
    name = world.new_name("f")
    if name not in world.files:
        world.files.append(name)
    options: Arguments = {"driver": "file", "filename": name, "size": world.one((0, DISK_BYTES))}
    if world.chance(0.5) and world.nodes:
        options = {"driver": "qcow2", "file": world.node(), "size": world.one((DISK_BYTES, 65536, 1))}
        options |= world.some({"cluster-size": (512, 4096, 65536, 3), "version": ("v2", "v3")})
    job = world.new_job()
    world.send("blockdev-create", {"job-id": job, "options": options})
    world.send("job-dismiss", {"id": job})


def change_child(world: World) -> None:
    more = world.some({"child": ("file", "children.0", "children.1"), "node": (world.node(),)}, 0.5)
    world.send("x-blockdev-change", {"parent": world.node(), **more})
