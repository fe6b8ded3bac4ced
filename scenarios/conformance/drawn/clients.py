"""Moves of exports, of NBD clients, of the guest, and of who asks how things are."""

from __future__ import annotations

from scenarios.conformance.drawn.nodes import add_null
from scenarios.conformance.drawn.world import Arguments, World

_QUERIES = (
    "query-block",
    "query-named-block-nodes",
    "query-blockstats",
    "query-jobs",
    "query-block-jobs",
    "query-block-exports",
    "x-debug-query-block-graph",
    "query-status",
)
_HMP = (
    "info block",
    "info block -v",
    "info block -n",
    "info blockstats",
    "info block-jobs",
    "info status",
    "block_resize {node} 2M",
    "nbd_server_stop",
    "drive_del {node}",
    "eject {node}",
    "commit {node}",
    "info snapshots",
    "drive_backup {node} {file} qcow2",
    "snapshot_blkdev {node} {file} qcow2",
    "block_job_cancel {job}",
    "block_stream {node}",
    "nbd_server_add -w {node}",
    "change {node} {file}",
    'qemu-io {node} "write -P 7 0 64k"',
    'qemu-io {node} "write -z -u 64k 128k"',
    'qemu-io {node} "discard 0 192k"',
    'qemu-io {node} "read -P 0 512k 4k"',
    'qemu-io {node} "flush"',
)


def serve(world: World) -> None:
    if world.listens and world.chance(0.7):
        add_export(world)
        return
    address = {"type": "unix", "data": {"path": "nbd.sock"}}
    world.listens = True
    world.send("nbd-server-start", {"addr": address, **world.some({"max-connections": (1, 2)}, 0.1)})


def add_export(world: World) -> None:
    name = world.new_name("e")
    if name not in world.exports:
        world.exports.append(name)
    if world.chance(0.3):
        world.send(
            "nbd-server-add", {"device": world.node(), "name": name, **world.some({"writable": (True,)})}
        )
        return
    options = {
        "writable": (True, True, False),
        "name": (world.new_name("e"),),
        "bitmaps": ([world.bitmap()[1]], [{"node": world.bitmap()[0], "name": world.bitmap()[1]}]),
        "allocation-depth": (True,),
        "writethrough": (True,),
        "iothread": (world.new_object(),),
        "fixed-iothread": (True, False),
    }
    arguments = {"type": "nbd", "id": name, "node-name": world.node(), **world.some(options, 0.15)}
    world.send("block-export-add", arguments)


def remove_export(world: World) -> None:
    if world.chance(0.2):
        world.listens = False
        world.send("nbd-server-stop")
        return
    mode = world.some({"mode": ("safe", "hard")}, 0.3)
    if world.chance(0.5):
        world.send("nbd-server-remove", {"name": world.one(world.exports), **mode})
    else:
        world.send("block-export-del", {"id": world.one(world.exports), **mode})


def visit(world: World) -> None:
    """An NBD client comes, does one thing, and goes."""
    if not world.listens:
        serve(world)
        return
    at, length = world.spot()
    contexts = ("base:allocation", "qemu:allocation-depth", f"qemu:dirty-bitmap:{world.bitmap()[1]}")
    what: Arguments = world.one(
        (
            {"list": True},
            {"info": world.one((True, list(contexts)))},
            {"read": [at, length]},
            {"read": [at, length]},
            {"map": "base:allocation"},
            {"map": world.one(contexts)},
            {"write": [at, length, world.rng.randrange(256)]},
            {"zero": [at, length], "unmap": world.chance(0.5)},
            {"discard": [at, length]},
            {"flush": True},
        )
    )
    world.do("nbd", what if "list" in what else {"export": world.one(world.exports), **what})


def guest(world: World) -> None:
    if world.attach == "none":
        add_null(world)
        return
    at, length = world.spot()
    request: Arguments = world.one(
        (
            {"write": [at, length, world.rng.randrange(256)]},
            {"write": [at, length, world.rng.randrange(256)]},
            {"zero": [at, length], "unmap": world.chance(0.5)},
            {"discard": [at, length]},
            {"verify": [at, length, 0]},
            {"flush": True},
        )
    )
    world.do("guest", {"disk": world.one(list(world.disks)), **request})


def ask(world: World) -> None:
    if world.chance(0.2):
        named = {"node": world.node(), "file": world.new_name("f"), "job": world.job()}
        world.do("hmp", world.one(_HMP).format(**named))
        return
    query = world.one(_QUERIES)
    options = {"query-named-block-nodes": {"flat": (True,)}, "query-blockstats": {"query-nodes": (True,)}}
    world.send(query, world.some(options.get(query, {}), 0.4) or None)


def run_state(world: World) -> None:
    # A machine that goes on has firmware, which reads its disks.
    world.send(world.one(("stop", "cont")) if world.attach == "none" else "stop")
