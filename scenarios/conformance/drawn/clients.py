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
    options = {"writable": (True, False), "name": (world.new_name("e"),), "bitmaps": ([world.bitmap()[1]],)}
    arguments = {"type": "nbd", "id": name, "node-name": world.node(), **world.some(options)}
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
    what: Arguments = world.one(
        (
            {"list": True},
            {"export": world.one(world.exports), "info": True},
            {"export": world.one(world.exports), "read": [at, length]},
            {"export": world.one(world.exports), "map": "base:allocation"},
            {"export": world.one(world.exports), "write": [at, length, world.rng.randrange(256)]},
        )
    )
    world.do("nbd", what)


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
        world.do("hmp", world.one(_HMP).format(node=world.node()))
        return
    query = world.one(_QUERIES)
    options = {"query-named-block-nodes": {"flat": (True,)}, "query-blockstats": {"query-nodes": (True,)}}
    world.send(query, world.some(options.get(query, {}), 0.4) or None)


def run_state(world: World) -> None:
    # A machine that goes on has firmware, which reads its disks.
    world.send(world.one(("stop", "cont")) if world.attach == "none" else "stop")
